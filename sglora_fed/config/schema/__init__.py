"""The typed configuration. Frozen after composition; every mistake in it is reported at once.

One module per group, so that a group's options, their defaults, their values and their lines in
``docs/reference/configuration.md`` stand in one place, and only there.
"""

from sglora_fed.config.schema.adapter import AdapterConfig, TrainConfig
from sglora_fed.config.schema.backbone import BACKBONES, ITEMS, BackboneConfig
from sglora_fed.config.schema.experiment import (
    NO_ADAPTER_METHODS,
    POLICY_METHOD,
    SHARED_METHOD,
    TRAINED_METHODS,
    ExperimentConfig,
)
from sglora_fed.config.schema.family import FAMILIES, PICTURE_SETS, FamilyConfig
from sglora_fed.config.schema.federation import FederationConfig
from sglora_fed.config.schema.generator import GENERATORS, GeneratorConfig
from sglora_fed.config.schema.privacy import (
    IN_CLEAR,
    LISTED,
    MAX_EPSILON,
    MECHANISMS,
    UNSPENT,
    PrivacyConfig,
)
from sglora_fed.config.schema.run import RunConfig
from sglora_fed.config.schema.tracking import TrackingConfig
from sglora_fed.config.schema.training_privacy import EXAMPLE, EXPERT, TrainingPrivacyConfig
from sglora_fed.config.schema.tuning import PRIVATE_METHODS, FineTuning, TuningConfig
from sglora_fed.config.schema.zoo import ZooConfig

__all__ = [
    "BACKBONES",
    "EXAMPLE",
    "EXPERT",
    "FAMILIES",
    "GENERATORS",
    "IN_CLEAR",
    "ITEMS",
    "LISTED",
    "MAX_EPSILON",
    "MECHANISMS",
    "NO_ADAPTER_METHODS",
    "PICTURE_SETS",
    "POLICY_METHOD",
    "PRIVATE_METHODS",
    "SHARED_METHOD",
    "TRAINED_METHODS",
    "UNSPENT",
    "AdapterConfig",
    "BackboneConfig",
    "ExperimentConfig",
    "FamilyConfig",
    "FederationConfig",
    "FineTuning",
    "GeneratorConfig",
    "PrivacyConfig",
    "RunConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrainingPrivacyConfig",
    "TuningConfig",
    "ZooConfig",
]

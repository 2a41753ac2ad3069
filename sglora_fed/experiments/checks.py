"""What can be told before anything starts: from a client only a code would come back."""

from __future__ import annotations

from sglora_fed.backbones import available_device
from sglora_fed.backbones.clip import Clip
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.config.schema import TRAINED_METHODS, RunConfig
from sglora_fed.errors import ConfigError, TaskError
from sglora_fed.tasks import load_family

ITEMS = {"minilm": MiniLM.modality, "clip": Clip.modality}
"""Backbone -> what its items are."""


def check_runnable(config: RunConfig) -> None:
    """Refuse a run whose tasks and settings do not fit one another.

    Raises:
        TaskFileError, TaskError: when the family cannot be read, or has too few tasks for a run.
        ConfigError: naming everything else that does not fit.
    """
    available_device(config.backbone.device)
    family = load_family(config.family)
    experts, clients = family.of_role("expert"), family.of_role("client")
    if len(experts) < 2 or not clients:
        raise TaskError(
            f"family {family.name!r} has {len(experts)} experts and {len(clients)} clients; a run"
            " needs two experts and a client"
        )
    problems = []
    wanted = ITEMS[config.backbone.name]
    if foreign := [task.id for task in family.tasks if task.modality != wanted]:
        problems.append(
            f"backbone={config.backbone.name}: takes {wanted} items; {len(foreign)} tasks, first"
            f" {foreign[0]!r}, have others"
        )
    if untrained := [task.id for task in experts if not task.train]:
        problems.append(f"family: experts without training examples: {untrained[:5]}")
    bare = [task.id for task in clients if not task.train]
    trained = [name for name in config.experiment.methods if name in TRAINED_METHODS]
    if bare and trained:
        problems.append(
            f"experiment.methods has {trained}, but {len(bare)} clients, first {bare[0]!r}, have no"
            " training examples; leave these methods out"
        )
    if problems:
        raise ConfigError(problems)

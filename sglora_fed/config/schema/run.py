"""Everything a run is a function of."""

from __future__ import annotations

from dataclasses import dataclass, field

from sglora_fed.config.schema.adapter import AdapterConfig
from sglora_fed.config.schema.backbone import BackboneConfig
from sglora_fed.config.schema.experiment import POLICY_METHOD, ExperimentConfig
from sglora_fed.config.schema.family import FamilyConfig
from sglora_fed.config.schema.federation import FederationConfig
from sglora_fed.config.schema.generator import GeneratorConfig
from sglora_fed.config.schema.options import Group, option, where
from sglora_fed.config.schema.privacy import PrivacyConfig
from sglora_fed.config.schema.tracking import TrackingConfig
from sglora_fed.config.schema.tuning import PRIVATE_METHODS
from sglora_fed.config.schema.zoo import ZooConfig


@dataclass(frozen=True)
class RunConfig(Group):
    """Everything a run is a function of."""

    name: str = option(
        "main", "of the run, in its results", where(lambda name: name.strip(), "must not be empty")
    )
    seeds: tuple[int, ...] = option(
        (0,),
        "one whole run each; the results average them",
        where(
            lambda many: many and len(set(many)) == len(many) and min(many) >= 0,
            "at least one, each once, all >= 0",
        ),
    )
    family: FamilyConfig = field(default_factory=FamilyConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    zoo: ZooConfig = field(default_factory=ZooConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def contradictions(self) -> list[str]:
        """What no group can know alone."""
        found = self._respelling_problems() if self.federation.respelt else []
        if self.zoo.path and len(self.seeds) > 1:
            found.append(
                f"zoo.path={self.zoo.path!r}: a zoo is of one seed, but seeds={list(self.seeds)};"
                " leave zoo.path out"
            )
        if (problem := self._budget_problem()) is not None:
            found.append(problem)
        return found + self._training_problems()

    def _training_problems(self) -> list[str]:
        """What noise in training cannot go with, and methods that need some."""
        training, methods = self.privacy.training, self.experiment.methods
        private = [name for name in methods if name in PRIVATE_METHODS]
        if private and training.epsilon is None and training.own_epsilon is None:
            return [f"privacy.training.own_epsilon=None: {private} need it"]
        if training.epsilon is None:
            return []
        given, found = f"privacy.training.epsilon={training.epsilon!r}", []
        if POLICY_METHOD in methods:
            found.append(
                f"{given}: experts would judge for {POLICY_METHOD} without noise; leave it out"
            )
        if self.federation.respelt:
            found.append(f"{given}: federation.respelt trains on other examples; leave it out")
        if self.adapter.train.patience:
            found.append(f"{given}: adapter.train.patience looks at losses without noise; need 0")
        return found

    def _budget_problem(self) -> str | None:
        epsilon, budget, releases = self.privacy.epsilon, self.privacy.budget, len(self.seeds)
        if budget is not None and budget < (one := self.privacy.experts_epsilon or 0.0):
            return f"privacy.budget={budget!r}: privacy.experts_epsilon={one:g} is more"
        if epsilon is None or budget is None or releases * epsilon <= budget:
            return None
        return (
            f"privacy.budget={budget!r}: {releases} seeds are {releases} releases of"
            f" privacy.epsilon={epsilon:g}; need {releases * epsilon:g}"
        )

    def _respelling_problems(self) -> list[str]:
        given, found = f"federation.respelt={self.federation.respelt!r}", []
        if self.backbone.name != "minilm":
            found.append(
                f"{given}: backbone={self.backbone.name} takes no texts to respell; leave it out"
            )
        if self.adapter.hints != "phrases":
            found.append(
                f"{given}: labels in that spelling are candidate texts, but"
                f" adapter.hints={self.adapter.hints}; need phrases"
            )
        return found

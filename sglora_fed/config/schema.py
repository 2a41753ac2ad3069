"""The typed configuration. Frozen after composition; every mistake in it is reported at once.

Each dataclass lists its mistakes in ``problems()`` (empty when all is well), so that one error can
name all of them. ``doc`` metadata feeds ``docs/reference/configuration.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

NO_ADAPTER_METHODS = ("zero_shot", "described")
TRAINED_METHODS = ("local_1shot", "local_5shot", "generated_5shot", "oracle")
SHARED_METHOD = "shared_lora"

GENERATORS = ["soup", "nearest", "topk", "ridge", "sglora", "functional"]
"""Names of generators; ``register_generator`` adds to them."""

MECHANISMS = ["none", "gaussian"]
"""Names of privacy mechanisms; ``register_mechanism`` adds to them."""

MAX_EPSILON = 1000.0
"""Beyond it the noise is lost in the rounding of a request and promises nothing."""


def option(default: Any, doc: str) -> Any:
    """A field with its line in the reference."""
    return field(default=default, metadata={"doc": doc})


def _at_least(low: float, **values: float | None) -> list[str]:
    return [
        f"{name.replace('__', '.')}={value!r}: must be a number >= {low}"
        for name, value in values.items()
        if value is None or not math.isfinite(value) or value < low
    ]


def _positive(**values: float | None) -> list[str]:
    return [
        f"{name.replace('__', '.')}={value!r}: must be a number > 0"
        for name, value in values.items()
        if value is None or not math.isfinite(value) or value <= 0
    ]


def _one_of(name: str, value: str, allowed: Sequence[str]) -> list[str]:
    return [] if value in allowed else [f"{name}={value!r}: must be one of {', '.join(allowed)}"]


@dataclass(frozen=True)
class FamilyConfig:
    """Where tasks come from."""

    name: str = option("assistant", "`assistant` (embedded), `local` (a folder) or `hub`")
    path: str | None = option(None, "folder of a `local` family, or of a saved `hub` data set")
    seed: int = option(0, "of the family's splits; fixed before any result is seen")
    rule_experts: int = option(96, "experts with a personal rule")
    style_experts: int = option(24, "experts with a writing style")
    clients_per_split: int = option(26, "unseen clients in each split")
    train_per_client: int = option(128, "training examples of a task, evenly over its labels")
    test_per_client: int = option(48, "test examples of a task, evenly over its labels")
    unseen_forms: bool = option(
        False,
        "experts' rules are sets of three topics; rules of other forms are splits of their own",
    )
    unseen_styles: int = option(0, "writing styles that no expert has; they make split `new_style`")
    several_ways: bool = option(
        False,
        "candidate texts say each topic of a rule in every way, not in one; not for `local`",
    )
    dataset: str = option("clinc_oos", "`hub` only: `clinc_oos` or `banking77`")

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        found = _one_of("family.name", self.name, ("assistant", "local", "hub"))
        found += _one_of("family.dataset", self.dataset, ("clinc_oos", "banking77"))
        if self.name == "local" and not self.path:
            found.append("family.path=None: family=local needs the folder of the task family")
        found += _at_least(
            0,
            family__seed=self.seed,
            family__rule_experts=self.rule_experts,
            family__style_experts=self.style_experts,
            family__unseen_styles=self.unseen_styles,
        )
        if self.rule_experts + self.style_experts < 2:
            found.append(
                f"family.rule_experts={self.rule_experts}, style_experts={self.style_experts}:"
                " must be at least 2 together"
            )
        return found + _at_least(
            1,
            family__clients_per_split=self.clients_per_split,
            family__train_per_client=self.train_per_client,
            family__test_per_client=self.test_per_client,
        )


@dataclass(frozen=True)
class BackboneConfig:
    """The frozen dual encoder."""

    name: str = option("minilm", "`minilm` (text-text) or `clip` (image-text)")
    path: str | None = option(None, "checkpoint folder, or a hub id for `clip`; null: the default")
    revision: str | None = option(None, "hub revision; null: the pinned one")
    sha256: str | None = option(None, "expected hash of model.safetensors; null: the pinned one")
    scale: float | None = option(None, "factor on cosines; null: the backbone's own")
    device: str = option("cpu", "`cpu`, `cuda` or `auto`")

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        found = _one_of("backbone.name", self.name, ("minilm", "clip"))
        found += _one_of("backbone.device", self.device, ("cpu", "cuda", "auto"))
        if self.name == "clip" and not self.path:
            found.append("backbone.path=None: backbone=clip needs a checkpoint folder or hub id")
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            found.append(f"backbone.sha256={self.sha256!r}: must be 64 digits 0-9a-f")
        return found + ([] if self.scale is None else _positive(backbone__scale=self.scale))


@dataclass(frozen=True)
class TrainConfig:
    """How one adapter is trained."""

    steps: int = option(20, "optimiser steps of an expert")
    batch_size: int = option(12, "examples per step; a smaller task takes all it has")
    lr: float = option(5e-3, "AdamW learning rate")
    max_grad_norm: float = option(1.0, "gradient norm above which a step is scaled down")
    checkpoints: int = option(10, "M: the last M steps give the expert's mean and variance")
    patience: int = option(0, "looks without a better validation loss before stopping; 0: off")

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        found = _at_least(
            1,
            adapter__train__steps=self.steps,
            adapter__train__batch_size=self.batch_size,
            adapter__train__checkpoints=self.checkpoints,
        )
        found += _positive(
            adapter__train__lr=self.lr, adapter__train__max_grad_norm=self.max_grad_norm
        )
        if self.checkpoints > self.steps:
            found.append(
                f"adapter.train.checkpoints={self.checkpoints}: at most adapter.train.steps"
                f" ({self.steps})"
            )
        return found + _at_least(0, adapter__train__patience=self.patience)


@dataclass(frozen=True)
class AdapterConfig:
    """The LoRA and its training."""

    rank: int = option(4, "r, the inner size of the LoRA")
    alpha: float = option(8.0, "the LoRA term is multiplied by alpha / rank")
    targets: tuple[str, ...] = option(
        ("value", "output.dense"), "ends of the adapted modules' names, as PEFT matches them"
    )
    layers: tuple[int, ...] = option((5,), "adapted layers; empty: all")
    hints: str = option(
        "phrases",
        "the client's own words in the candidate texts: `none`, `whole` (label and words in one"
        " text) or `phrases` (a text for each phrase, in place of the label)",
    )
    train: TrainConfig = field(default_factory=TrainConfig)

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        found = _at_least(1, adapter__rank=self.rank) + _positive(adapter__alpha=self.alpha)
        found += _one_of("adapter.hints", self.hints, ("none", "whole", "phrases"))
        if not self.targets or len(set(self.targets)) < len(self.targets):
            found.append(f"adapter.targets={list(self.targets)}: at least one, each once")
        if len(set(self.layers)) < len(self.layers) or any(i < 0 for i in self.layers):
            found.append(f"adapter.layers={list(self.layers)}: distinct numbers >= 0")
        return found + self.train.problems()


@dataclass(frozen=True)
class ZooConfig:
    """The experts on disk."""

    path: str | None = option(None, "folder; null: by configuration under the home folder")

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        return []


@dataclass(frozen=True)
class GeneratorConfig:
    """What turns a description embedding into an adapter."""

    name: str = option("functional", "the generator whose adapters clients adopt")
    neighbours: int = option(4, "K: nearest experts in the weights of `topk` and `sglora`")
    temperature: float = option(0.05, "tau of the softmax over similarities")
    ridge: float = option(0.02, "`ridge`: the penalty")
    smoothing: float = option(0.3, "`functional`: the penalty of its smoother")
    latent: int = option(16, "`sglora`: size of z")
    hidden: int = option(256, "`sglora`: width of the hidden layers")
    steps: int = option(600, "`sglora`: Adam steps")
    lr: float = option(1e-3, "`sglora`: learning rate")
    kl_weight: float = option(1.0, "`sglora`: lambda of the KL term")
    leave_own_out: bool = option(False, "`sglora`: a training expert is left out of its own prior")
    basis: int = option(64, "`sglora`: principal components of the zoo")

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        return (
            _one_of("generator.name", self.name, GENERATORS)
            + _at_least(
                1,
                generator__neighbours=self.neighbours,
                generator__latent=self.latent,
                generator__hidden=self.hidden,
                generator__steps=self.steps,
                generator__basis=self.basis,
            )
            + _positive(
                generator__temperature=self.temperature,
                generator__ridge=self.ridge,
                generator__smoothing=self.smoothing,
                generator__lr=self.lr,
            )
            + _at_least(0, generator__kl_weight=self.kl_weight)
        )


@dataclass(frozen=True)
class PrivacyConfig:
    """What protects a request before it leaves the client."""

    mechanism: str = option("none", "`none` or `gaussian`, or a registered one")
    epsilon: float | None = option(None, f"of one description, local; at most {MAX_EPSILON:g}")
    delta: float | None = option(None, "the failure probability of `gaussian`")

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        found = _one_of("privacy.mechanism", self.mechanism, MECHANISMS)
        if self.mechanism == "none":
            given = {"epsilon": self.epsilon, "delta": self.delta}
            return [
                f"privacy.{name}={value!r}: privacy=none promises nothing; choose privacy=gaussian"
                for name, value in given.items()
                if value is not None
            ]
        if self.mechanism == "gaussian" or self.epsilon is not None:
            found += self._epsilon_problems()
        if self.mechanism == "gaussian" and not (self.delta is not None and 0 < self.delta < 1):
            found.append(f"privacy.delta={self.delta!r}: must lie between 0 and 1")
        return found

    def _epsilon_problems(self) -> list[str]:
        if self.epsilon is not None and 0 < self.epsilon <= MAX_EPSILON:
            return []
        return [f"privacy.epsilon={self.epsilon!r}: must lie in (0, {MAX_EPSILON:g}]"]


@dataclass(frozen=True)
class FederationConfig:
    """Nodes and messages."""

    nodes: int = option(2, "nodes to wait for; in simulation also the number of workers")
    min_replies: float = option(1.0, "share of nodes that must reply, else the run fails")
    timeout: float = option(3600.0, "seconds to wait for nodes and for each reply")
    clients_per_message: int = option(8, "virtual clients in one message")
    shared_rounds: int = option(6, "FedAvg rounds of the shared LoRA")
    shared_steps: int = option(10, "local steps in each round")
    shared_clients: int = option(24, "experts that take part in a round")
    shared_momentum: float = option(
        0.5, "momentum of the server's FedAvg step, in [0, 1); 0 is FedAvg as it was published"
    )
    functional_rounds: int = option(5, "rounds of `functional`, from the shared LoRA on")
    functional_steps: int = option(10, "local steps in each round")
    functional_clients: int = option(48, "experts that take part in a round")
    respelt: float = option(
        0.0,
        "share of the experts that train in a made-up spelling in a round, in [0, 1]; for writing"
        " styles",
    )

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        found = _at_least(
            1,
            federation__nodes=self.nodes,
            federation__clients_per_message=self.clients_per_message,
            federation__shared_rounds=self.shared_rounds,
            federation__shared_steps=self.shared_steps,
            federation__shared_clients=self.shared_clients,
            federation__functional_rounds=self.functional_rounds,
            federation__functional_steps=self.functional_steps,
            federation__functional_clients=self.functional_clients,
        )
        if not 0 < self.min_replies <= 1:
            found.append(f"federation.min_replies={self.min_replies!r}: must lie in (0, 1]")
        if not 0 <= self.shared_momentum < 1:
            found.append(f"federation.shared_momentum={self.shared_momentum!r}: must lie in [0, 1)")
        if not 0 <= self.respelt <= 1:
            found.append(f"federation.respelt={self.respelt!r}: must lie in [0, 1]")
        return found + _positive(federation__timeout=self.timeout)


@dataclass(frozen=True)
class ExperimentConfig:
    """What is compared."""

    methods: tuple[str, ...] = option(
        (
            *NO_ADAPTER_METHODS,
            "soup",
            "nearest",
            "topk",
            "ridge",
            "sglora",
            "functional",
            SHARED_METHOD,
            *TRAINED_METHODS,
        ),
        "methods in the table; generators by their names",
    )
    local_steps: int = option(10, "optimiser steps of fine-tuning on 1 or 5 examples per class")
    oracle_steps: int = option(20, "optimiser steps of fine-tuning on all local data")
    controls: bool = option(True, "also deliver adapters made for somebody else's description")
    bootstrap: int = option(2000, "resamples of the clients for the intervals")

    def problems(self) -> list[str]:
        """All mistakes in this group."""
        found = []
        if not self.methods or len(set(self.methods)) < len(self.methods):
            found.append(f"experiment.methods={list(self.methods)}: at least one, each once")
        known = [*NO_ADAPTER_METHODS, *GENERATORS, SHARED_METHOD, *TRAINED_METHODS]
        unknown = [method for method in self.methods if method not in known]
        if unknown:
            found.append(f"experiment.methods has {unknown}: must be of {', '.join(known)}")
        return found + _at_least(
            1,
            experiment__local_steps=self.local_steps,
            experiment__oracle_steps=self.oracle_steps,
            experiment__bootstrap=self.bootstrap,
        )


@dataclass(frozen=True)
class RunConfig:
    """Everything a run is a function of."""

    name: str = option("main", "of the run, in its results")
    seeds: tuple[int, ...] = option((0,), "one whole run each; the results average them")
    family: FamilyConfig = field(default_factory=FamilyConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    zoo: ZooConfig = field(default_factory=ZooConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)

    def problems(self) -> list[str]:
        """All mistakes in the configuration."""
        found = [] if self.name.strip() else [f"name={self.name!r}: must not be empty"]
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            found.append(f"seeds={list(self.seeds)}: at least one, each once, all >= 0")
        if self.zoo.path and len(self.seeds) > 1:
            found.append(
                f"zoo.path={self.zoo.path!r}: a zoo is of one seed, but seeds={list(self.seeds)};"
                " leave zoo.path out"
            )
        if self.federation.respelt:
            found += self._respelling_problems()
        for item in fields(self):
            group = getattr(self, item.name)
            if hasattr(group, "problems"):
                found += group.problems()
        return found

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

"""What the federation trains once for a zoo and keeps beside it: shared LoRA and generator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.peft_io import CONFIG_FILE, read_peft, write_peft
from sglora_fed.backbones import base_with, load_describer
from sglora_fed.config.schema import SHARED_METHOD, GeneratorConfig, RunConfig
from sglora_fed.errors import GeneratorError, GeneratorFileError, ZooForeignError
from sglora_fed.federation.bench import federation_start
from sglora_fed.federation.calibration import calibrate
from sglora_fed.federation.coordinator import Federation, Progress, train_shared_lora
from sglora_fed.federation.functional import train_functional
from sglora_fed.files import write_atomically
from sglora_fed.generators import (
    Generator,
    fit_generator,
    is_federated,
    load_generator,
    make_generator,
    save_generator,
)
from sglora_fed.generators.confidence import STRANGERS, Confidence
from sglora_fed.generators.functional import Functional
from sglora_fed.zoo import Zoo, ZooStore, trusted

SHARED = ("shared_rounds", "shared_steps", "shared_clients", "shared_momentum", "respelt")
ROUNDS = (*SHARED, "functional_rounds", "functional_steps", "functional_clients")
"""Settings of the federation that a trained generator depends on."""

Reporter = Callable[[str], Callable[[int, int], None]]
"""From a stage's name to what is told its progress."""


@dataclass(frozen=True)
class Trainer:
    """Trains for one zoo; what was trained before with the same settings is read instead.

    Attributes:
        config: of the run.
        federation: who takes part.
        layout: of the adapters.
        store: of the zoo.
        zoo: its experts.
        seed: of the run.
        reporter: of progress.
    """

    config: RunConfig
    federation: Federation
    layout: Layout
    store: ZooStore
    zoo: Zoo
    seed: int
    reporter: Reporter

    def shared_lora(self) -> np.ndarray:
        """[D] one LoRA for everybody, by FedAvg.

        Raises:
            ZooForeignError: when the kept one has another layout.
        """
        folder = _shared_folder(self.config, self.store, self.zoo)
        if (folder / CONFIG_FILE).exists():  # the last file written
            return _read_shared(folder, self.layout)
        start = federation_start(self.layout, self.seed)[0]
        experts, report = sorted(self.zoo.ids), self.reporter("shared LoRA")
        vector = train_shared_lora(self.federation, start, experts, self.seed, report)
        base = base_with(self.config.backbone, self.store.identity.weights_sha256)
        write_peft(vector, self.layout, base, folder)
        return vector

    def functional(self) -> Generator:
        """The functional generator, trained from the shared LoRA on."""
        path = functional_path(self.config, self.store, self.zoo)
        if path.exists():
            return load_generator(path, self.store.identity)
        generator = self._trained(self.zoo, self.reporter("functional"))
        save_generator(generator, self.config.generator, self.store.identity, path)
        return generator

    def _trained(self, zoo: Zoo, report: Progress) -> Generator:
        generator = Functional(self.config.generator)
        start = self.shared_lora()
        train_functional(self.federation, generator, start, zoo, self.layout, self.seed, report)
        return generator

    def _retrained(self, zoo: Zoo) -> Generator:
        """For some of the experts, in as many rounds: one of fewer is worse than the one judged."""
        return self._trained(zoo, self.reporter("held out"))

    def confidence(self, generator: Generator, fallback: np.ndarray) -> Confidence:
        """How sure to be of the generator's adapters, from the experts' own comparisons.

        Args:
            generator: the one whose adapters clients adopt.
            fallback: [D] what a client without confidence uses.
        """
        path = _confidence_path(self.config, self.store, self.zoo)
        if path.exists():
            return _read_confidence(path)
        found = calibrate(
            self.federation,
            generator,
            self.config.generator,
            self.zoo,
            fallback,
            np.asarray(load_describer(self.config.backbone).encode(STRANGERS)),
            self._retrained,
            self.seed,
            self.reporter("confidence"),
        )
        values = {
            "weights": found.weights.tolist(),
            "covariance": found.covariance.tolist(),
        }
        write_atomically(path, json.dumps(values).encode())
        return found


def trusted_zoo(store: ZooStore) -> Zoo:
    """The zoo's experts without those that contradict all others."""
    zoo, layout = store.load(), Layout.from_dict(store.identity.layout)
    return zoo.select(np.flatnonzero(trusted(zoo.embeddings, zoo.means, layout, zoo.owners)))


def generator_for(config: RunConfig, store: ZooStore) -> Generator:
    """The configured generator for a zoo on disk, without a federation.

    Raises:
        GeneratorError: for `functional` when no run has trained it with these settings.
    """
    zoo = trusted_zoo(store)
    path = functional_path(config, store, zoo)
    if is_federated(make_generator(config.generator)) and path.exists():
        return load_generator(path, store.identity)
    return fit_generator(config.generator, config.generator.name, zoo, store.identity.seed)


def kept_confidence(
    config: RunConfig, store: ZooStore, zoo: Zoo
) -> tuple[Confidence, np.ndarray] | None:
    """What earlier runs found out about the configured generator, and the fall-back [D].

    Args:
        config: of the runs that are meant.
        store: of the zoo.
        zoo: its trusted experts.

    Returns:
        None when no run with these settings and experts has asked them.

    Raises:
        GeneratorFileError: when the file is damaged.
        ZooForeignError: when the kept shared LoRA has another layout.
    """
    path, folder = _confidence_path(config, store, zoo), _shared_folder(config, store, zoo)
    if not path.exists():
        return None
    layout = Layout.from_dict(store.identity.layout)
    if SHARED_METHOD not in config.experiment.methods:
        return _read_confidence(path), federation_start(layout, store.identity.seed)[0]
    if not (folder / CONFIG_FILE).exists():
        return None
    return _read_confidence(path), _read_shared(folder, layout)


def functional_path(config: RunConfig, store: ZooStore, zoo: Zoo) -> Path:
    """Where the functional generator of a zoo's experts and some settings is kept."""
    key = _key(config, *ROUNDS, "smoothing")
    return store.path / f"functional-{key}-{_experts_sha256(zoo.ids)}.safetensors"


def _shared_folder(config: RunConfig, store: ZooStore, zoo: Zoo) -> Path:
    key = _key(config, *SHARED)
    return store.path / f"shared_lora-{key}-{_experts_sha256(zoo.ids)}"


def _read_shared(folder: Path, layout: Layout) -> np.ndarray:
    vector, found = read_peft(folder)
    if found != layout:
        raise ZooForeignError(f"{folder} has another layout than this run; remove it")
    return vector


def _confidence_path(config: RunConfig, store: ZooStore, zoo: Zoo) -> Path:
    key = _key(config, *ROUNDS, *(item.name for item in fields(GeneratorConfig)))
    has_shared = SHARED_METHOD in config.experiment.methods
    kind = f"{config.generator.name}-{'shared' if has_shared else 'none'}"
    return store.path / f"confidence-{kind}-{key}-{_experts_sha256(zoo.ids)}.json"


def _read_confidence(path: Path) -> Confidence:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        weights, covariance = (np.array(values[k], np.float64) for k in ("weights", "covariance"))
        return Confidence(weights, covariance)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, GeneratorError) as error:
        raise GeneratorFileError(
            f"{path} is no confidence file ({type(error).__name__}); remove it"
        ) from error


def _key(config: RunConfig, *names: str) -> str:
    """A hash of some settings of the federation and the generator, and of no others."""
    settings = asdict(config.federation) | asdict(config.generator)
    values = json.dumps([settings[name] for name in names])
    return hashlib.sha256(values.encode()).hexdigest()[:12]


def _experts_sha256(names: Sequence[str]) -> str:
    """What was trained by fewer experts must not stand in for what all of them trained."""
    return hashlib.sha256("/".join(sorted(names)).encode()).hexdigest()[:8]

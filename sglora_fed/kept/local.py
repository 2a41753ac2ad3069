"""Adapters that a node's virtual clients trained themselves, kept there: none is trained twice.

A file's name is the hash of everything that training depends on, so a file can be missing but never
out of date. Only what the client could have done alone is kept here; nothing of it is ever sent.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save

from sglora_fed.adapters.candidates import candidate_texts
from sglora_fed.adapters.data import prepare, prepare_separable
from sglora_fed.adapters.layout import Layout, check_vectors
from sglora_fed.adapters.training import train_adapters
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.schema import RunConfig, TrainConfig, TrainingPrivacyConfig
from sglora_fed.errors import AdapterFileError, PrivacyError
from sglora_fed.files import write_atomically
from sglora_fed.kept.facts import code_facts
from sglora_fed.kept.store import ALONE, TUNED, kept_path
from sglora_fed.promises import Promise, example_promise
from sglora_fed.tasks.digest import examples_sha256
from sglora_fed.tasks.public import public_captions
from sglora_fed.tasks.types import Example, Task
from sglora_fed.tensors import read_header

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class OwnNoise:
    """How a client protects its own examples when it fine-tunes.

    Attributes:
        privacy: clipping norm, loss, and what is trained.
        epsilon: of one example, over the training.
        captions: public ones with which pairs are compared.
    """

    privacy: TrainingPrivacyConfig
    epsilon: float
    captions: tuple[str, ...]

    def promise(self, examples: int, train: TrainConfig) -> Promise:
        """What it promises each of so many examples."""
        privacy, batch, steps = self.privacy, train.batch_size, train.steps
        return example_promise(self.epsilon, privacy.delta, examples, batch, steps, privacy.clip)


def own_noise(config: RunConfig) -> OwnNoise:
    """As the configuration says.

    Raises:
        PrivacyError: when it says nothing.
    """
    privacy = config.privacy.training
    if (epsilon := privacy.own_epsilon or privacy.epsilon) is None:
        raise PrivacyError("privacy.training.own_epsilon is not given")
    return OwnNoise(privacy, epsilon, public_captions(config.family))


@dataclass(frozen=True)
class Lesson:
    """One training: what a client learns from, and where it starts.

    Attributes:
        task: whose labels are the candidates.
        examples: of the task.
        start: [D] float32.
        seed: of the batches' order.
    """

    task: Task
    examples: tuple[Example, ...]
    start: np.ndarray
    seed: int


def train_or_recall(
    encoder: DualEncoder,
    layout: Layout,
    config: TrainConfig,
    lessons: Sequence[Lesson],
    hints: str,
    noise: OwnNoise | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Train what was not trained before.

    Args:
        encoder: frozen dual encoder.
        layout: of the vectors.
        config: of the training.
        lessons: n of them.
        hints: how the candidate texts carry the clients' own words.
        noise: for DP-SGD; what it has made is never made anew.

    Returns:
        [n, D] float32 adapters, and [n] seconds that each took when it was trained.

    Raises:
        AdapterFileError: for a kept file that is damaged.
        AdapterValueError: when training diverges.
    """
    common = {
        "code": code_facts(),
        "backbone": [encoder.id, encoder.weights_sha256, encoder.scale],
        "layout": layout.fingerprint,
        "train": asdict(config),
    }
    if noise is not None:
        common |= {"noise": [asdict(noise.privacy), noise.epsilon, noise.captions]}
    paths = [
        kept_path(kind_of(layout, one.start), common | _facts(encoder, one, hints), SUFFIX)
        for one in lessons
    ]
    # Who has the same examples and the same start trains once.
    missing = list({path: i for i, path in enumerate(paths) if not path.exists()}.values())
    if missing:
        started = time.perf_counter()
        vectors = _train(encoder, layout, config, [lessons[i] for i in missing], hints, noise)
        seconds = (time.perf_counter() - started) / len(missing)
        for i, vector in zip(missing, vectors, strict=True):
            _keep(paths[i], vector, seconds)
    kept = [_recall(path, layout) for path in paths]
    return np.stack([vector for vector, _ in kept]), np.array([seconds for _, seconds in kept])


def _train(
    encoder: DualEncoder,
    layout: Layout,
    config: TrainConfig,
    lessons: Sequence[Lesson],
    hints: str,
    noise: OwnNoise | None,
) -> np.ndarray:
    if noise is not None:
        return _train_privately(encoder, layout, config, lessons, hints, noise)
    return train_adapters(
        encoder,
        layout,
        np.stack([lesson.start for lesson in lessons]),
        [prepare(encoder, lesson.task, lesson.examples, hints) for lesson in lessons],
        config,
        [lesson.seed for lesson in lessons],
    ).final


def kind_of(layout: Layout, start: np.ndarray) -> str:
    """Whether training that begins at an adapter [D] is a client's own, or experts have a part."""
    factors = layout.unpack(torch.tensor(start)[None]).values()
    return TUNED if any(bool(b.any()) for _, b in factors) else ALONE


def _train_privately(
    encoder: DualEncoder,
    layout: Layout,
    config: TrainConfig,
    lessons: Sequence[Lesson],
    hints: str,
    noise: OwnNoise,
) -> np.ndarray:
    from sglora_fed.adapters.private import PrivateTraining, train_privately

    sigmas = [noise.promise(len(lesson.examples), config).sigma for lesson in lessons]
    parts = [
        prepare_separable(encoder, lesson.task, lesson.examples, hints, noise.captions)
        for lesson in lessons
    ]
    training = PrivateTraining(encoder, layout, config, noise.privacy)
    return train_privately(training, np.stack([one.start for one in lessons]), parts, sigmas).final


def _facts(encoder: DualEncoder, lesson: Lesson, hints: str) -> dict[str, object]:
    """Of one lesson alone."""
    texts, owners = candidate_texts(encoder, lesson.task, hints)
    return {
        "candidates": [texts, owners.tolist()],
        "examples": examples_sha256(lesson.task, lesson.examples),
        "start": hashlib.sha256(lesson.start.astype("<f4").tobytes()).hexdigest(),
        "seed": lesson.seed,
    }


def _keep(path: Path, vector: np.ndarray, seconds: float) -> None:
    write_atomically(path, save({"adapter": vector, "seconds": np.array([seconds])}))


def _recall(path: Path, layout: Layout) -> tuple[np.ndarray, float]:
    expected = {"adapter": ("F32", (layout.size,)), "seconds": ("F64", (1,))}
    try:
        header, metadata = read_header(path)
    except (OSError, ValueError) as error:
        raise AdapterFileError(f"{path}: {error}; remove it, it will be made again") from error
    if header != expected or metadata:
        raise AdapterFileError(f"{path} holds {header | metadata}; need {expected}; remove it")
    arrays = load(path.read_bytes())
    check_vectors(arrays["adapter"][None], layout)
    return arrays["adapter"], float(arrays["seconds"][0])

"""What a zoo holds: statistics of expert LoRAs and the embeddings of their descriptions."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sglora_fed.errors import ZooDamagedError
from sglora_fed.promises import Promise
from sglora_fed.units import UNIT_TOLERANCE, off_unit
from sglora_fed.zoo.rows import Rows, chunks, selected


@dataclass(frozen=True)
class Zoo:
    """E experts.

    Of a large zoo, wordings, means and variances lie in files and are read by rows.

    Attributes:
        ids: E distinct names, at least one.
        wordings: [E, W, d] float32, unit embeddings of W wordings of each description.
        means: [E, D] float32, mean of each LoRA over its last M checkpoints.
        variances: [E, D] float32, element-wise variance over the same checkpoints.
        examples: [E] int64, numbers of training examples.
        owners: E names of the nodes that the experts came from; each node has one voice in what is
            believed. Without them every expert is a node of its own.
        task_digests: E hashes of the tasks that the experts were trained on, or empty strings.
        promises: E promises about the experts' training examples; None where there is none.

    Raises:
        ZooDamagedError: when there is no expert, an id comes twice, shapes, types or lengths
            disagree, a value is not finite, a variance is negative, an expert has no examples, an
            embedding is no unit vector, or the wordings of an expert cancel out.
    """

    ids: tuple[str, ...]
    wordings: np.ndarray | Rows
    means: np.ndarray | Rows
    variances: np.ndarray | Rows
    examples: np.ndarray
    owners: tuple[str, ...] = ()
    task_digests: tuple[str, ...] = ()
    promises: tuple[Promise | None, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "promises", self.promises or (None,) * len(self.ids))
        object.__setattr__(self, "owners", self.owners or self.ids)
        object.__setattr__(self, "task_digests", self.task_digests or ("",) * len(self.ids))
        self._check_ids()
        self._check_shapes()
        self._check_names()
        self._check_values()

    def _check_ids(self) -> None:
        if not self.ids or not all(isinstance(name, str) and name for name in self.ids):
            raise ZooDamagedError(f"expert ids are {self.ids}; at least one, none empty")
        if len(set(self.ids)) < len(self.ids):
            twice = sorted(name for name, times in Counter(self.ids).items() if times > 1)
            raise ZooDamagedError(f"experts {twice} are in the zoo twice")

    def _check_shapes(self) -> None:
        count, size = len(self.ids), _width(self.means)
        texts = (*self.wordings.shape[1:], 1, 1)[:2]
        expected = {
            "wordings": ("float32", (count, *(max(1, n) for n in texts))),
            "means": ("float32", (count, size)),
            "variances": ("float32", (count, size)),
            "examples": ("int64", (count,)),
        }
        for name, (kind, shape) in expected.items():
            found = getattr(self, name)
            if found.dtype != kind or found.shape != shape:
                raise ZooDamagedError(
                    f"{name} of {count} experts are {found.dtype} {list(found.shape)};"
                    f" need {kind} {list(shape)}"
                )

    def _check_names(self) -> None:
        for name in ("owners", "task_digests", "promises"):
            if (count := len(getattr(self, name))) != len(self.ids):
                raise ZooDamagedError(f"{count} {name} of {len(self.ids)} experts; need one each")

    def _check_values(self) -> None:
        """Rows in files were checked when the files were opened."""
        wordings = self.wordings
        if isinstance(wordings, Rows):
            return
        for name in ("wordings", "means", "variances"):
            if not np.isfinite(getattr(self, name)).all():
                raise ZooDamagedError(f"{name} hold NaN or infinity")
        for name, least in (("variances", 0), ("examples", 1)):
            if (lowest := getattr(self, name).min()) < least:
                raise ZooDamagedError(f"{name} hold {lowest}; need numbers >= {least}")
        if (norm := off_unit(wordings)) is not None:
            raise ZooDamagedError(f"an embedding has norm {norm:.4g}; need 1")
        if np.linalg.norm(wordings.mean(axis=1), axis=1).min() < UNIT_TOLERANCE:
            raise ZooDamagedError("the wordings of an expert cancel out; they have no direction")

    @cached_property
    def embeddings(self) -> np.ndarray:
        """[E, d] float32, each expert's description: the direction of its wordings' mean."""
        made = []
        for (texts,) in chunks(self.wordings):
            means = texts.astype(np.float64).mean(axis=1)
            made.append((means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32))
        return np.concatenate(made)

    def rows_of(self, names: Iterable[str]) -> np.ndarray:
        """[n] rows of some experts."""
        return np.array([self._rows[name] for name in names], np.int64)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    @property
    def size(self) -> int:
        """Numbers of an adapter, D."""
        return int(self.means.shape[1])

    @cached_property
    def sha256(self) -> str:
        """Of all that is made with the experts; of the owners, who shares one with whom counts."""
        first = {owner: place for place, owner in reversed(list(enumerate(self.owners)))}
        places = [first[owner] for owner in self.owners]
        digest = hashlib.sha256(json.dumps([self.ids, self.task_digests, places]).encode())
        for array in (self.wordings, self.means, self.variances, self.examples):
            digest.update(str(array.shape).encode())
            for (part,) in chunks(array):
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def fingerprints(self) -> dict[str, str]:
        """Expert -> sha256 of its name, its task's hash and its numbers: what it is in any zoo."""
        found = {}
        for row, name in enumerate(self.ids):
            digest = hashlib.sha256(json.dumps([name, self.task_digests[row]]).encode())
            for array in (self.wordings, self.means, self.variances, self.examples):
                digest.update(np.ascontiguousarray(array[row]).tobytes())
            found[name] = digest.hexdigest()
        return found

    def select(self, rows: np.ndarray) -> Zoo:
        """The experts in some rows, in that order."""
        return Zoo(
            tuple(self.ids[i] for i in rows),
            selected(self.wordings, rows),
            selected(self.means, rows),
            selected(self.variances, rows),
            self.examples[rows],
            tuple(self.owners[i] for i in rows),
            tuple(self.task_digests[i] for i in rows),
            tuple(self.promises[i] for i in rows),
        )


@dataclass(frozen=True)
class ZooIdentity:
    """What a zoo was made for; another zoo cannot stand in for it.

    Attributes:
        backbone: its name.
        weights_sha256: of its weights.
        encoder: fingerprint of the description encoder.
        layout: of the LoRA vectors, as plain values.
        seed: of the run.
        config_sha256: of the configuration that the experts depend on.
        tasks_sha256: of the experts' tasks; empty where only the nodes have them.
        versions: of the libraries; informative, not compared.
    """

    backbone: str
    weights_sha256: str
    encoder: str
    layout: Mapping[str, Any]
    seed: int
    config_sha256: str
    tasks_sha256: str
    versions: Mapping[str, str]

    def differences(self, other: ZooIdentity) -> list[str]:
        """One line per field that differs; versions do not count."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{name} is {_short(theirs[name])}, not {_short(mine[name])}"
            for name in mine
            if name != "versions" and mine[name] != theirs[name]
        ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


def _width(array: np.ndarray | Rows) -> int:
    return max(1, array.shape[1]) if array.ndim == 2 else 1

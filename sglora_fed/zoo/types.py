"""What a zoo holds: statistics of expert LoRAs and the embeddings of their descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sglora_fed.errors import ZooDamagedError


@dataclass(frozen=True)
class Zoo:
    """E experts.

    Attributes:
        ids: E distinct names.
        embeddings: [E, d] float32, unit rows.
        means: [E, D] float32, mean of each LoRA over its last M checkpoints.
        variances: [E, D] float32, element-wise variance over the same checkpoints.
        examples: [E] int64, numbers of training examples.

    Raises:
        ZooDamagedError: when shapes disagree, an id comes twice, a value is not finite, a
            variance is negative or an embedding is no unit vector.
    """

    ids: tuple[str, ...]
    embeddings: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    examples: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.ids)
        if len(set(self.ids)) < count:
            twice = sorted({name for name in self.ids if self.ids.count(name) > 1})
            raise ZooDamagedError(f"experts {twice} are in the zoo twice")
        shapes = {len(array) for array in (self.embeddings, self.means, self.variances)}
        if shapes | {len(self.examples)} != {count} or self.means.shape != self.variances.shape:
            raise ZooDamagedError(
                f"{count} ids, embeddings {self.embeddings.shape}, means {self.means.shape},"
                f" variances {self.variances.shape}, examples {self.examples.shape} do not agree"
            )
        for name in ("embeddings", "means", "variances"):
            if not np.isfinite(getattr(self, name)).all():
                raise ZooDamagedError(f"{name} hold NaN or infinity")
        if (self.variances < 0).any():
            raise ZooDamagedError("a variance is negative")
        norms = np.linalg.norm(self.embeddings.astype(np.float64), axis=1)
        if count and np.abs(norms - 1).max() > 1e-3:
            raise ZooDamagedError(f"an embedding has norm {norms.max():.4g}; need 1")

    @property
    def size(self) -> int:
        """Numbers of an adapter, D."""
        return int(self.means.shape[1])

    def select(self, rows: np.ndarray) -> Zoo:
        """The experts in some rows, in that order."""
        ids = tuple(self.ids[i] for i in rows)
        arrays = (self.embeddings, self.means, self.variances, self.examples)
        return Zoo(ids, *(array[rows] for array in arrays))


@dataclass(frozen=True)
class ZooIdentity:
    """What a zoo was made for; another zoo cannot stand in for it.

    Attributes:
        backbone: its name.
        weights_sha256: of its weights.
        encoder: name of the description encoder.
        layout: of the LoRA vectors, as plain values.
        seed: of the run.
        config_sha256: of the configuration that the experts depend on.
        versions: of the libraries; informative, not compared.
    """

    backbone: str
    weights_sha256: str
    encoder: str
    layout: Mapping[str, Any]
    seed: int
    config_sha256: str
    versions: Mapping[str, str]

    def differences(self, other: ZooIdentity) -> list[str]:
        """One line per field that differs; versions do not count."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{name} is {str(theirs[name])[:80]}, not {str(mine[name])[:80]}"
            for name in mine
            if name != "versions" and mine[name] != theirs[name]
        ]

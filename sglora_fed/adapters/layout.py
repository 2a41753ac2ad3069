"""The layout of a LoRA vector: which number belongs to which factor of which module."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sglora_fed.errors import AdapterValueError, LayoutError
from sglora_fed.units import lengths

if TYPE_CHECKING:  # a zoo is read and listed without torch, which costs a second of CPU
    from torch import Tensor, nn

Numbers = TypeVar("Numbers", "Tensor", "np.ndarray")


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """One adapted linear module: its name in the model, input and output width."""

    name: str
    d_in: int
    d_out: int

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and bool(self.name)
        if not (named and _is_count(self.d_in) and _is_count(self.d_out)):
            raise LayoutError(
                f"module {self.name!r} has width {self.d_in!r} x {self.d_out!r};"
                " need a name and two integers > 0"
            )


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each LoRA factor lies in a flat vector of ``size`` numbers.

    Module by module: A (rank x d_in, row major), then B (d_out x rank). The adapted module computes
    ``W x + alpha / rank * B A x`` (Hu et al. 2022, eq. 3).

    Raises:
        LayoutError: without modules, with a module twice, or unless rank is an integer >= 1 and
            alpha a finite number > 0.
    """

    modules: tuple[ModuleShape, ...]
    rank: int
    alpha: float

    def __post_init__(self) -> None:
        names = [module.name for module in self.modules]
        if not names or len(set(names)) < len(names):
            raise LayoutError(f"modules are {names}; at least one, each once")
        if not (_is_count(self.rank) and _is_positive(self.alpha)):
            raise LayoutError(
                f"rank {self.rank!r} and alpha {self.alpha!r};"
                " rank must be an integer >= 1 and alpha a finite number > 0"
            )
        # 8 and 8.0 are one layout, so they must have one fingerprint.
        object.__setattr__(self, "alpha", float(self.alpha))

    @property
    def size(self) -> int:
        """Numbers in one adapter, D."""
        return sum(self.rank * (module.d_in + module.d_out) for module in self.modules)

    @property
    def scaling(self) -> float:
        """What B A is multiplied by: alpha / rank."""
        return self.alpha / self.rank

    @property
    def fingerprint(self) -> str:
        """sha256 of the layout; two layouts with the same fingerprint are interchangeable."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The layout as plain JSON values."""
        modules = [[module.name, module.d_in, module.d_out] for module in self.modules]
        return {"modules": modules, "rank": self.rank, "alpha": self.alpha}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Layout:
        """The inverse of :meth:`to_dict`; a damaged layout is refused, never repaired.

        Raises:
            LayoutError: when a field is missing, unknown, or of another type.
        """
        if not isinstance(values, Mapping) or set(values) != {"modules", "rank", "alpha"}:
            raise LayoutError(f"not a layout: {values!r}; need modules, rank and alpha alone")
        try:
            modules = tuple(ModuleShape(n, i, o) for n, i, o in values["modules"])
        except (TypeError, ValueError) as error:
            raise LayoutError(
                f"not modules of a layout: {values['modules']!r}; need [name, d_in, d_out] each"
            ) from error
        return cls(modules, values["rank"], values["alpha"])

    def unpack(self, vectors: Numbers) -> dict[str, tuple[Numbers, Numbers]]:
        """Views on the factors of a batch of adapters.

        Args:
            vectors: [n, D].

        Returns:
            Module name -> (A [n, rank, d_in], B [n, d_out, rank]).

        Raises:
            LayoutError: when the width is not D.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise LayoutError(f"vectors have shape {tuple(vectors.shape)}; need [n, {self.size}]")
        factors, start = {}, 0
        for module in self.modules:
            middle = start + self.rank * module.d_in
            end = middle + self.rank * module.d_out
            factors[module.name] = (
                vectors[:, start:middle].reshape(-1, self.rank, module.d_in),
                vectors[:, middle:end].reshape(-1, module.d_out, self.rank),
            )
            start = end
        return factors

    def pack(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """One flat vector [D] from module name -> (A [rank, d_in], B [d_out, rank]).

        Raises:
            LayoutError: when a module is missing, unknown, or of another shape.
        """
        if set(factors) != {module.name for module in self.modules}:
            raise LayoutError(f"factors for {sorted(factors)}; the layout has {self.modules}")
        parts = []
        for module in self.modules:
            a, b = factors[module.name]
            expected = ((self.rank, module.d_in), (module.d_out, self.rank))
            if (tuple(a.shape), tuple(b.shape)) != expected:
                raise LayoutError(
                    f"{module.name}: A {tuple(a.shape)}, B {tuple(b.shape)}; need {expected}"
                )
            parts += [a.reshape(-1), b.reshape(-1)]
        import torch

        return torch.cat(parts)


def _is_count(value: object) -> bool:
    # True and False are integers to Python, but nobody's rank or width.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value <= sys.float_info.max


def layout_of(model: nn.Module, names: Iterable[str], rank: int, alpha: float) -> Layout:
    """The layout of a LoRA on some linear modules of a model.

    Raises:
        LayoutError: when a name is no ``nn.Linear`` of the model.
    """
    from torch import nn

    shapes = []
    for name in names:
        try:
            module = model.get_submodule(name)
        except AttributeError:
            raise LayoutError(f"the model has no module {name!r}") from None
        if not isinstance(module, nn.Linear):
            raise LayoutError(f"module {name!r} is a {type(module).__name__}; need nn.Linear")
        shapes.append(ModuleShape(name, module.in_features, module.out_features))
    return Layout(tuple(shapes), rank, alpha)


def initial_vector(layout: Layout, seed: int) -> Tensor:
    """A LoRA that changes nothing yet: A uniform in +-1/sqrt(d_in), B zero (PEFT's own start).

    Every expert of a federation starts from the same A: factors from different starts cannot be
    averaged.

    Returns:
        [D] float32.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for module in layout.modules:
        bound = 1 / math.sqrt(module.d_in)
        a = torch.empty(layout.rank, module.d_in).uniform_(-bound, bound, generator=generator)
        factors[module.name] = (a, torch.zeros(module.d_out, layout.rank))
    return layout.pack(factors)


def effect_gram(layout: Layout, vectors: np.ndarray) -> np.ndarray:
    """[n, n] inner products of the matrices B A that some adapters [n, D] add to the weights.

    Two adapters may have other factors and the same effect: -B times -A is B A. The products are
    never formed: <B A, B' A'> is the sum over ranks of (B^T B')(A A'^T).
    """
    import torch

    total = np.zeros((len(vectors), len(vectors)))
    for a, b in layout.unpack(torch.from_numpy(vectors.astype(np.float64))).values():
        rows, columns = a.flatten(0, 1), b.transpose(1, 2).flatten(0, 1)
        blocks = (rows @ rows.T) * (columns @ columns.T)
        shape = (len(vectors), layout.rank, len(vectors), layout.rank)
        total += blocks.view(shape).sum(dim=(1, 3)).numpy()
    return total


def check_vectors(vectors: np.ndarray, layout: Layout, max_norm: float | None = None) -> None:
    """Refuse adapters that may not be used.

    Args:
        vectors: [..., D], any float type.
        layout: what the last axis must fit.
        max_norm: largest Euclidean norm allowed, or None for no bound.

    Raises:
        LayoutError: when the last axis is not D.
        AdapterValueError: on NaN, infinity, a number beyond float32 or a norm beyond the bound.
    """
    if vectors.ndim < 1 or vectors.shape[-1] != layout.size:
        raise LayoutError(
            f"vectors have shape {vectors.shape}; the last axis must be {layout.size}"
        )
    # Adapters are used as float32, where a larger number is infinite. No number of an adapter is
    # beyond its norm, and the square of a float32 number always fits in float64.
    norms, most = lengths(vectors), np.finfo(np.float32).max
    if not (norms <= most).all() and not (usable := np.abs(vectors) <= most).all():
        raise AdapterValueError(
            f"{int((~usable).sum())} of {vectors.size} numbers are NaN, infinite or beyond float32"
        )
    if max_norm is not None and (largest := float(norms.max(initial=0.0))) > max_norm:
        raise AdapterValueError(f"an adapter has norm {largest:.4g}; at most {max_norm:.4g}")

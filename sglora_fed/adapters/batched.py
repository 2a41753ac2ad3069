"""Many adapters in one forward and backward: they are folded into the batch.

A batch of ``n x B`` rows carries n adapters with B rows each. Every adapted linear module adds
its low-rank term by two batched matrix products; the frozen part sees one large batch. Module
replacement (rather than ``vmap``) keeps any model code working, data-dependent checks included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sglora_fed.adapters.layout import Layout
from sglora_fed.errors import LayoutError


class AdaptedLinear(nn.Module):
    """A frozen linear module plus one LoRA per group of rows.

    Args:
        base: the frozen module, W.
        a: [n, rank, d_in].
        b: [n, d_out, rank].
        scaling: alpha / rank.
    """

    def __init__(self, base: nn.Linear, a: Tensor, b: Tensor, scaling: float) -> None:
        super().__init__()
        self.base = base
        self._a = a
        self._b = b
        self._scaling = scaling

    def forward(self, x: Tensor) -> Tensor:
        """W x + scaling * B_g A_g x for the rows of group g; x is [n * B, ..., d_in]."""
        groups = self._a.shape[0]
        if x.shape[0] % groups:
            raise LayoutError(f"{x.shape[0]} rows cannot be shared equally by {groups} adapters")
        frozen: Tensor = self.base(x)
        rows = x.reshape(groups, -1, x.shape[-1])
        low = torch.bmm(rows, self._a.transpose(1, 2))
        wide = frozen.reshape(groups, -1, frozen.shape[-1])
        b = self._b.transpose(1, 2)
        if torch.is_grad_enabled():
            return torch.baddbmm(wide, low, b, alpha=self._scaling).view(frozen.shape)
        # Nobody else reads what the frozen module has made. With gradients torch would copy theirs.
        return wide.baddbmm_(low, b, alpha=self._scaling).view(frozen.shape)


@contextmanager
def adapted(model: nn.Module, layout: Layout, vectors: Tensor) -> Iterator[None]:
    """Within the context the model carries the adapters; outside it is untouched.

    Args:
        model: frozen; gradients reach ``vectors`` only.
        layout: where the factors lie; its module names are the model's.
        vectors: [n, D]; a forward inside the context takes n * B rows, grouped by adapter.

    Raises:
        LayoutError: when the layout does not fit the model or the vectors.
    """
    originals: list[tuple[nn.Module, str, nn.Linear]] = []
    try:
        for name, (a, b) in layout.unpack(vectors).items():
            parent, attribute, base = _locate(model, name)
            _check_widths(name, base, a.shape[2], b.shape[1])
            originals.append((parent, attribute, base))
            setattr(parent, attribute, AdaptedLinear(base, a, b, layout.scaling))
        yield
    finally:
        for parent, attribute, base in originals:
            setattr(parent, attribute, base)


def _locate(model: nn.Module, name: str) -> tuple[nn.Module, str, nn.Linear]:
    parent_name, _, attribute = name.rpartition(".")
    try:
        parent = model.get_submodule(parent_name)
        base = getattr(parent, attribute)
    except AttributeError:
        raise LayoutError(f"the model has no module {name!r}") from None
    if not isinstance(base, nn.Linear):
        raise LayoutError(f"module {name!r} is a {type(base).__name__}; need nn.Linear")
    return parent, attribute, base


def _check_widths(name: str, base: nn.Linear, d_in: int, d_out: int) -> None:
    widths = (base.in_features, base.out_features)
    if widths != (d_in, d_out):
        raise LayoutError(f"module {name!r} is {widths} wide; the layout has {(d_in, d_out)}")

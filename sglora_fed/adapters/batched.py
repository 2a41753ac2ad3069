"""Many adapters in one forward and backward: they are folded into the batch.

A batch of ``n x B`` rows carries n adapters with B rows each. Every adapted linear module adds
its low-rank term by two batched matrix products; the frozen part sees one large batch. Module
replacement (rather than ``vmap``) keeps any model code working, data-dependent checks included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        rows = _shared_out(x, groups)
        frozen: Tensor = self.base(x)
        low = torch.bmm(rows, self._a.transpose(1, 2))
        wide = frozen.reshape(groups, -1, frozen.shape[-1])
        b = self._b.transpose(1, 2)
        if torch.is_grad_enabled():
            return torch.baddbmm(wide, low, b, alpha=self._scaling).view(frozen.shape)
        # Nobody else reads what the frozen module has made. With gradients torch would copy theirs.
        return wide.baddbmm_(low, b, alpha=self._scaling).view(frozen.shape)

    @property
    def merged(self) -> Tensor:
        """[n, d_out, d_in] W + scaling * B A of each adapter."""
        return torch.baddbmm(self.base.weight, self._b, self._a, alpha=self._scaling)


def beside(modules: Sequence[nn.Linear | AdaptedLinear], x: Tensor) -> Sequence[Tensor]:
    """What some linear modules, all with a bias, make of the same rows [n * B, ..., d_in].

    Without gradients it is one product with their merged weights: rows are read and written once,
    and a merged weight costs no more than some rows do.

    Raises:
        LayoutError: when adapters cannot share the rows equally.
    """
    if torch.is_grad_enabled():
        return [module(x) for module in modules]
    weights = [_weights(module) for module in modules]
    groups = max(len(one) for one in weights)
    weight = torch.cat([one.expand(groups, -1, -1) for one in weights], dim=1)
    bases = [one.base if isinstance(one, AdaptedLinear) else one for one in modules]
    bias = torch.cat([base.bias for base in bases])
    made: Tensor = torch.baddbmm(bias, _shared_out(x, groups), weight.transpose(1, 2))
    widths = [one.shape[1] for one in weights]
    return torch.split(made.view(*x.shape[:-1], -1), widths, dim=-1)


def _shared_out(x: Tensor, groups: int) -> Tensor:
    """[groups, rows, d_in] of [n, ..., d_in]."""
    if x.shape[0] % groups:
        raise LayoutError(f"{x.shape[0]} rows cannot be shared equally by {groups} adapters")
    return x.reshape(groups, -1, x.shape[-1])


def _weights(module: nn.Linear | AdaptedLinear) -> Tensor:
    """[groups, d_out, d_in]."""
    return module.merged if isinstance(module, AdaptedLinear) else module.weight.unsqueeze(0)


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

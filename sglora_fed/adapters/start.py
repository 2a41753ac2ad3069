"""Where all LoRAs of a run start, and how far from there one may be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sglora_fed.adapters.layout import Layout, initial_vector
from sglora_fed.config.schema import RunConfig
from sglora_fed.seeds import derive_seed
from sglora_fed.units import lengths

if TYPE_CHECKING:
    from torch import nn

NORM_BOUND = 10.0
"""An adapter may have this many times the norm of an untrained one, not more."""

ROUNDING = 1e-3
"""Half precision misses a number by 5e-4 of it (2^-11), at most."""


def federation_start(layout: Layout, seed: int) -> np.ndarray:
    """[1, D] the LoRA that every expert of a run starts from."""
    return initial_vector(layout, derive_seed(seed, "adapter_start")).numpy()[None]


def configured_start(config: RunConfig, layout: Layout, seed: int) -> np.ndarray:
    """[1, D] the LoRA that every expert of a run starts from, as ``adapter.start`` says.

    Raises:
        SgloraError: as :func:`~sglora_fed.backbones.load_backbone`.
    """
    if config.adapter.start == "uniform":
        return federation_start(layout, seed)
    from sglora_fed.backbones import load_backbone  # the model itself, where all else needs none

    return singular_start(layout, load_backbone(config.backbone, config.adapter).model)


def singular_start(layout: Layout, model: nn.Module) -> np.ndarray:
    """[1, D] A: the directions that each frozen matrix stretches most, B zero.

    They are what PiSSA (Meng, Wang & Zhang 2024) starts from; the frozen matrix stays whole. Rows
    have the length that uniform ones have on average, so :func:`norm_bound` holds.
    """
    import torch

    factors = {}
    for module in layout.modules:
        weight = model.get_parameter(f"{module.name}.weight").detach().double().cpu()
        rows = torch.linalg.svd(weight, full_matrices=True).Vh[: layout.rank] / math.sqrt(3)
        a = torch.zeros(layout.rank, module.d_in)
        a[: len(rows)] = rows.float()
        factors[module.name] = (a, torch.zeros(module.d_out, layout.rank))
    return layout.pack(factors).numpy()[None]


def within_bound(vectors: np.ndarray, layout: Layout) -> np.ndarray:
    """Adapters [..., D] as clients take them, also in half precision: who is beyond is scaled.

    A client refuses a whole message for one adapter beyond the bound, and what a generator makes
    of one liar's numbers may be beyond it.
    """
    most = norm_bound(layout) * (1 - ROUNDING)
    norms = lengths(vectors)[..., None]
    if (norms <= most).all():
        return vectors
    made: np.ndarray = vectors * np.minimum(1.0, most / np.maximum(norms, most)).astype(np.float32)
    return made


def norm_bound(layout: Layout) -> float:
    """The largest norm of an adapter that a client or the server takes.

    An untrained one has rank / 3 as the expected square of each module's norm: rank x d_in numbers,
    uniform in +-1/sqrt(d_in).
    """
    return NORM_BOUND * math.sqrt(len(layout.modules) * layout.rank / 3)

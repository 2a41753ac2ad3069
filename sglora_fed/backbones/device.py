"""The device that a backbone runs on."""

from __future__ import annotations

import torch

from sglora_fed.errors import ConfigError


def available_device(name: str) -> torch.device:
    """What `cpu`, `cuda` or `auto` means here.

    Raises:
        ConfigError: for `cuda` where there is none.
    """
    there = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("backbone.device='cuda': no CUDA device here; use cpu or auto")
    return torch.device("cuda" if there else "cpu")

"""Adapters as PEFT directories that ``PeftModel.from_pretrained`` loads, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from sglora_fed.adapters.layout import Layout, ModuleShape, check_vectors
from sglora_fed.backbones.weights import BaseModel
from sglora_fed.errors import AdapterFileError, LayoutError
from sglora_fed.files import write_atomically

if TYPE_CHECKING:  # a node writes an adapter without torch
    from torch import Tensor

PREFIX = "base_model.model."
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

UNDERSTOOD = frozenset(
    {
        *("r", "lora_alpha", "target_modules", "init_lora_weights"),
        *("peft_type", "peft_version", "task_type", "auto_mapping", "inference_mode"),
        *("base_model_name_or_path", "revision", "lora_dropout"),
    }
)
"""Fields of a ``LoraConfig`` that a layout holds or that change no output; all others must be off,
known or not: most of them change what the factors mean."""

STARTS = (True, False, "gaussian", "orthogonal")
"""Values of ``init_lora_weights`` that draw the factors alone; others (``pissa``, ``olora``)
change the model's own weights whenever the adapter is loaded."""


def write_peft(vector: np.ndarray, layout: Layout, base: BaseModel | None, folder: Path) -> None:
    """Write one adapter as a PEFT LoRA directory.

    Args:
        vector: [D].
        layout: of the vector.
        base: the model that it belongs to; None where that is not known.
        folder: made when missing.

    Raises:
        LayoutError, AdapterValueError: when the vector is unusable; nothing is written then.
        ResultsError: when the files cannot be written.
    """
    check_vectors(vector[None], layout)
    factors = layout.unpack(np.ascontiguousarray(vector, np.float32)[None])
    tensors = {}
    for name, (a, b) in factors.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(a[0])
        tensors[f"{PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(b[0])
    write_atomically(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    config = json.dumps(_peft_config(layout, base), indent=2, sort_keys=True)
    write_atomically(folder / CONFIG_FILE, config.encode())


def _peft_config(layout: Layout, base: BaseModel | None) -> dict[str, Any]:
    """What a LoRA is: PEFT has its defaults for all else, in whatever version loads it."""
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base and base.name,
        "revision": base and base.revision,
        "r": layout.rank,
        "lora_alpha": layout.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": [module.name for module in layout.modules],
    }


def _plain_config() -> dict[str, Any]:
    """What PEFT writes for a LoRA of its defaults; imported here, because it takes a second."""
    from peft import LoraConfig

    plain: Any = LoraConfig()
    return dict(plain.to_dict())


def read_peft(folder: Path) -> tuple[np.ndarray, Layout]:
    """Read a PEFT LoRA directory, ours or another tool's.

    Returns:
        The vector [D] float32 and its layout; modules in the order of their names in the file's
        configuration when that lists full names, else sorted.

    Raises:
        AdapterFileError: when a file is missing or damaged, the two files disagree, or the
            configuration says anything that a plain LoRA of one rank and one alpha does not
            (``UNDERSTOOD``): DoRA, biases, a start that changes the model, a field that the
            installed PEFT does not have.
        AdapterValueError: when a number is NaN, infinite or beyond float32.
    """
    config = _read_config(folder)
    factors = _read_factors(folder)
    ranks = {rank for a, b in factors.values() for rank in (a.shape[0], b.shape[1])}
    if ranks != {config["r"]}:
        raise AdapterFileError(f"{folder}: ranks {sorted(ranks)}; need one rank, r={config['r']}")
    names = _order(folder, list(factors), config.get("target_modules"))
    try:
        shapes = (ModuleShape(n, factors[n][0].shape[1], factors[n][1].shape[0]) for n in names)
        layout = Layout(tuple(shapes), config["r"], config["lora_alpha"])
    except LayoutError as error:
        raise AdapterFileError(f"{folder}: {error.args[0]}") from error
    vector: np.ndarray = layout.pack(factors).numpy()
    check_vectors(vector[None], layout)
    return vector, layout


def _order(folder: Path, names: list[str], targets: object) -> list[str]:
    """The targets' order when they are full names; PEFT also takes endings of names and regexes."""
    if not isinstance(targets, list):
        return sorted(names)
    endings = tuple(f".{target}" for target in targets)
    if foreign := [name for name in names if not f".{name}".endswith(endings)]:
        raise AdapterFileError(f"{folder}: factors for {foreign}; target_modules are {targets}")
    return targets if sorted(names) == sorted(map(str, targets)) else sorted(names)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AdapterFileError(f"{folder} is no PEFT folder: it has no {CONFIG_FILE}") from error
    except (OSError, ValueError) as error:
        raise AdapterFileError(f"{path} cannot be read as JSON: {type(error).__name__}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterFileError(f"{path} does not describe a LoRA adapter (peft_type LORA)")
    _check_plain(path, config)
    if not isinstance(config.get("r"), int) or "lora_alpha" not in config:
        raise AdapterFileError(f"{path} lacks r or lora_alpha")
    return config


def _check_plain(path: Path, config: Mapping[str, Any]) -> None:
    plain = _plain_config()
    if unknown := sorted(set(config) - set(plain)):
        raise AdapterFileError(
            f"{path}: PEFT {plain['peft_version']} has no {unknown}; install the PEFT that wrote it"
            f" ({config.get('peft_version')})"
        )
    if (start := config.get("init_lora_weights", True)) not in STARTS:
        raise AdapterFileError(
            f"{path}: init_lora_weights={start!r} may change the model itself; convert the adapter"
            f" with PEFT's path_initial_model_for_weight_conversion (one of {STARTS} is read)"
        )
    for key in sorted(set(config) - UNDERSTOOD):
        value, off = config[key], plain[key]
        # None, false and an empty list or object all say that something is not used.
        if value != off and (value or off):
            raise AdapterFileError(f"{path}: {key}={value!r}; only {off!r} is supported")


def _read_factors(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    from safetensors.torch import load  # NumPy has no bfloat16

    path = folder / WEIGHTS_FILE
    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise AdapterFileError(f"{path} cannot be read: {type(error).__name__}") from error
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, rest = key.removeprefix(PREFIX).rpartition(".lora_")
        if rest not in ("A.weight", "B.weight") or not name or tensor.ndim != 2:
            raise AdapterFileError(f"{path}: tensor {key!r} is no LoRA factor of a linear module")
        found.setdefault(name, {})[rest[0]] = tensor.float()
    if lone := [name for name, pair in found.items() if len(pair) < 2]:
        raise AdapterFileError(f"{path}: {lone} have only one of the factors A and B")
    return {name: (pair["A"], pair["B"]) for name, pair in found.items()}

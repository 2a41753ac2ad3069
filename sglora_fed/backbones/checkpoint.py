"""Reading a checkpoint folder: whole, of the right architecture, in float32, without noise."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer
from transformers.utils import logging

from sglora_fed.errors import BackboneFileError, LayoutError

# transformers reports a damaged or foreign folder as any of these.
READ_ERRORS = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)


def read_model(kind: Any, folder: Path, device: torch.device, **options: Any) -> Any:
    """A frozen model of a checkpoint: float32, evaluation mode, no gradients.

    Args:
        kind: a transformers model class.
        folder: of the checkpoint.
        device: where the model goes.
        options: passed on to the class.

    Raises:
        BackboneFileError: when the files are damaged, or lack weights that the class needs
            (transformers would draw those at random).
    """
    try:
        with _quiet():
            model, report = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                # The checkpoint's own type may be half precision.
                dtype=torch.float32,
                # The encoders pass boolean masks, which eager attention would add to the scores.
                attn_implementation="sdpa",
                **options,
            )
    except READ_ERRORS as error:
        raise _unreadable(folder, kind.__name__, error) from error
    if missing := sorted(report["missing_keys"]):
        raise BackboneFileError(
            f"{folder} is no {kind.__name__} checkpoint: {len(missing)} weights are missing, first"
            f" {missing[0]!r}; set backbone.path to a checkpoint of that architecture"
        )
    model.train(False)
    return model.requires_grad_(False).to(device)


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        BackboneFileError: when its files are missing or damaged.
    """
    return read_part(AutoTokenizer, folder)


def read_part(kind: Any, folder: Path) -> Any:
    """A tokenizer or processor of a checkpoint.

    Raises:
        BackboneFileError: when its files are missing or damaged.
    """
    try:
        with _quiet():
            return kind.from_pretrained(folder, local_files_only=True)
    except READ_ERRORS as error:
        raise _unreadable(folder, kind.__name__, error) from error


def twin(model: Any) -> Any:
    """The same model in modules of its own; parameters are shared, so it costs no memory.

    An adapter placed in one twin's modules has no effect on the other.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in model.parameters()}
    return copy.deepcopy(model, shared)


def chosen_layers(layers: Sequence[int], count: int) -> tuple[int, ...]:
    """The adapted layers in order; all of them when none is named.

    Raises:
        LayoutError: for a layer that the model lacks.
    """
    if unknown := [layer for layer in layers if not 0 <= layer < count]:
        raise LayoutError(f"adapter.layers={unknown}: the model has layers 0 to {count - 1}")
    return tuple(sorted(layers)) or tuple(range(count))


def adapted_names(
    model: nn.Module, parents: Sequence[str], targets: Sequence[str]
) -> tuple[str, ...]:
    """Linear modules below some parents whose names end in a target, as PEFT matches targets.

    Args:
        model: the backbone.
        parents: names of layers (or of a part of each layer), in order.
        targets: ends of module names: ``value`` or ``attention.output.dense``.

    Returns:
        Full names, parent by parent, in the order of the targets.

    Raises:
        LayoutError: for a target that a parent has no module for, or that is no linear module.
    """
    names: list[str] = []
    for parent in parents:
        inside = [f"{parent}.{name}" for name, _ in model.get_submodule(parent).named_modules()]
        for target in targets:
            found = [name for name in inside if name.endswith(f".{target}")]
            if not found:
                raise LayoutError(f"{parent} has no module {target!r}; check adapter.targets")
            names += [name for name in found if name not in names]
    _check_linear(model, names)
    return tuple(names)


def _check_linear(model: nn.Module, names: Sequence[str]) -> None:
    for name in names:
        module = model.get_submodule(name)
        if not isinstance(module, nn.Linear):
            raise LayoutError(
                f"{name!r} is a {type(module).__name__}; adapter.targets must be linear modules"
            )


def _unreadable(folder: Path, kind: str, error: Exception) -> BackboneFileError:
    return BackboneFileError(
        f"{folder} cannot be read as {kind} ({type(error).__name__}); a file is missing, damaged or"
        " of another architecture: fetch the checkpoint again or set backbone.path"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no load report: what matters in them is checked and raised."""
    settings: Any = logging  # its functions carry no types
    verbosity, bar = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(verbosity)
        if bar:
            settings.enable_progress_bar()

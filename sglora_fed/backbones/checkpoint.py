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


def check_linear(model: nn.Module, names: Sequence[str]) -> None:
    """Refuse names that are no linear modules of the model.

    Raises:
        LayoutError: for the first such name.
    """
    for name in names:
        try:
            module = model.get_submodule(name)
        except AttributeError:
            raise LayoutError(f"the model has no module {name!r}; check adapter.targets") from None
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

"""The kept shared LoRA, as a PEFT folder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.peft_io import CONFIG_FILE, read_peft, write_peft
from sglora_fed.backbones.weights import base_model
from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import AdapterFileError
from sglora_fed.kept.store import Facts, keep_facts, kept_path

KIND = "shared_lora"


def kept_shared(facts: Facts, layout: Layout) -> np.ndarray | None:
    """[D] the shared LoRA that all experts of these facts trained, or None.

    Raises:
        AdapterFileError: when it is damaged.
    """
    folder = kept_path(KIND, facts, "")
    if not (folder / CONFIG_FILE).exists():  # the last file written
        return None
    vector, found = read_peft(folder)
    if found != layout:
        raise AdapterFileError(f"{folder} has another layout than its name says; remove it")
    return vector


def keep_shared(
    vector: np.ndarray, layout: Layout, config: RunConfig, facts: Facts, absent: Sequence[str]
) -> None:
    """Keep a shared LoRA [D]; one that was made without somebody does not stand in for the whole.

    Raises:
        ResultsError: when the disk is full.
    """
    keep_facts(facts)
    base = base_model(config.backbone.path, config.backbone.revision)
    write_peft(vector, layout, base, kept_path(KIND, facts, "", absent))

"""Adapters: one LoRA as a flat vector, many of them in one forward, PEFT in and out."""

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.data import Prepared, few_shot, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import (
    Layout,
    ModuleShape,
    check_vectors,
    initial_vector,
    layout_of,
)
from sglora_fed.adapters.peft_io import read_peft, write_peft
from sglora_fed.adapters.training import Trained, train_adapters

__all__ = [
    "Layout",
    "ModuleShape",
    "Prepared",
    "Trained",
    "adapted",
    "check_vectors",
    "few_shot",
    "initial_vector",
    "layout_of",
    "prepare",
    "read_peft",
    "score_tasks",
    "train_adapters",
    "write_peft",
]

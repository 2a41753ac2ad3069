"""A tiny random BERT as a backbone, and the same model seen by PEFT alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from sglora_fed.adapters.layout import Layout, layout_of
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.tasks.types import Example, Task

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [f"w{number}" for number in range(40)]
LABELS = ("book a table", "play", "stop the loud music now")


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with large random weights, so that a mistake shows in the scores."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(MARKS) + len(WORDS),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(MARKS + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(bert_folder: Path) -> MiniLM:
    return MiniLM(bert_folder, targets=("query", "value"), scale=5.0)


@pytest.fixture(scope="session")
def layout(encoder: MiniLM) -> Layout:
    return layout_of(encoder.model, encoder.adaptable(), 2, 3.0)


@pytest.fixture(scope="session")
def vectors(layout: Layout) -> np.ndarray:
    """Five adapters in which neither factor is zero."""
    rng = np.random.default_rng(1)
    return rng.normal(0, 0.3, (5, layout.size)).astype(np.float32)


@dataclass
class Reference:
    """One LoRA by transformers and PEFT, one text at a time: no padding, no folding."""

    model: Any
    tokenizer: Any
    layout: Layout

    def parameters(self) -> list[Tensor]:
        """A and B of each module, in the layout's order."""
        prefix = "base_model.model"
        return [
            self.model.get_submodule(f"{prefix}.{module.name}.lora_{side}.default").weight
            for module in self.layout.modules
            for side in "AB"
        ]

    def load(self, vector: np.ndarray) -> None:
        """Cut the vector with numpy, by the widths alone."""
        start = 0
        with torch.no_grad():
            for parameter in self.parameters():
                piece = vector[start : start + parameter.numel()]
                parameter.copy_(torch.from_numpy(piece.reshape(parameter.shape)))
                start += parameter.numel()
        assert start == len(vector)

    def flat(self, gradients: bool = False) -> np.ndarray:
        tensors = [p.grad if gradients else p.detach() for p in self.parameters()]
        return np.concatenate([tensor.numpy().ravel() for tensor in tensors])

    def embed(self, texts: Sequence[str]) -> Tensor:
        """[n, dim] unit rows, differentiable."""
        rows = []
        for text in texts:
            ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
            mean = self.model(input_ids=ids).last_hidden_state[0].mean(dim=0)
            rows.append(mean / mean.norm())
        return torch.stack(rows)

    def scores(self, items: Sequence[str], texts: Sequence[str]) -> Tensor:
        return 5.0 * self.embed(items) @ self.embed(texts).T


@pytest.fixture
def reference(bert_folder: Path, layout: Layout) -> Reference:
    return make_reference(bert_folder, layout)


def make_reference(bert_folder: Path, layout: Layout) -> Reference:
    config = LoraConfig(
        r=2, lora_alpha=3, lora_dropout=0.0, target_modules=[m.name for m in layout.modules]
    )
    model = get_peft_model(BertModel.from_pretrained(bert_folder, add_pooling_layer=False), config)
    return Reference(model.eval(), AutoTokenizer.from_pretrained(bert_folder), layout)


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """A function of (seed, examples, labels, kind) that gives a task of random texts."""

    def make(seed: int, count: int = 12, labels: int = 2, kind: Any = "labelled") -> Task:
        rng = np.random.default_rng(seed)

        def text() -> str:
            return " ".join(rng.choice(WORDS, rng.integers(1, 9)))

        keys = [f"k{number}" for number in range(labels)]
        texts = {key: text() + f" w{number}" for number, key in enumerate(keys)}
        if kind == "retrieval":
            texts, pairs = {}, [(text(), text()) for _ in range(count)]
        else:
            pairs = [(text(), keys[i % labels]) for i in range(count)]
        examples = tuple(Example(item, label) for item, label in pairs)
        return Task(f"task-{seed}", "anything", texts, examples, examples, kind=kind)

    return make

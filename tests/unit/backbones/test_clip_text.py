"""CLIP's text tower as the description encoder, against CLIPModel's own text features."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, CLIPModel

from sglora_fed.backbones import description_reader, load_backbone, load_describer
from sglora_fed.backbones.clip_text import ClipDescriptionEncoder
from sglora_fed.backbones.types import Describer
from sglora_fed.backbones.weights import weights_hash
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneFileError, BackboneInputError

TEXTS = ["a photo of a red dog", "blue", "a green dog", "a photo of a dog a dog a dog a dog"]


@pytest.fixture(scope="module")
def config(clip_folder: Path) -> BackboneConfig:
    return BackboneConfig(name="clip", path=str(clip_folder), describer="clip")


@pytest.fixture(scope="module")
def describer(config: BackboneConfig) -> Describer:
    return load_describer(config)


def reference(folder: Path, text: str) -> np.ndarray:
    """One text at a time, by the whole model's own logits' text side."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).train(False)
    tokens = AutoTokenizer.from_pretrained(folder)(
        [text], truncation=True, max_length=8, return_tensors="pt"
    )
    with torch.no_grad():
        made = model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=torch.zeros(1, 3, 32, 32),
        )
    row: np.ndarray = made.text_embeds[0].numpy()
    return row / np.linalg.norm(row)


def test_equals_the_models_own_text_embeddings(clip_folder: Path, describer: Describer) -> None:
    rows = describer.encode(TEXTS)
    assert (rows.shape, rows.dtype) == ((4, 12), np.float32)
    for text, row in zip(TEXTS, rows, strict=True):
        np.testing.assert_allclose(row, reference(clip_folder, text), atol=1e-5)
    assert np.abs(rows @ rows.T - np.eye(4)).max() < 1 - 1e-3  # texts differ, or this says nothing


def test_more_texts_than_one_chunk_keep_their_order(describer: Describer) -> None:
    many = [TEXTS[n % 3] for n in range(260)]
    np.testing.assert_allclose(describer.encode(many)[:6], describer.encode(many[:6]), atol=1e-6)
    np.testing.assert_allclose(
        describer.encode(many)[-2], describer.encode(TEXTS[:1])[0], atol=1e-6
    )


def test_what_it_is(clip_folder: Path, describer: Describer) -> None:
    weights = weights_hash(clip_folder / "model.safetensors")
    assert (describer.dim, describer.weights_sha256) == (12, weights)
    assert describer.fingerprint == f"{describer.id}:{weights}"
    assert describer.fingerprint != load_describer(BackboneConfig()).fingerprint
    assert describer.encode([]).shape == (0, 12)


def test_its_words_are_read_by_its_own_tokeniser(config: BackboneConfig) -> None:
    known, foreign = description_reader(config).read(["a red dog", "a purple cat"])
    assert (known.unknown, foreign.unknown) == (0, 2)


def test_an_adapter_does_not_reach_it(config: BackboneConfig, describer: Describer) -> None:
    before = describer.encode(TEXTS)
    encoder = load_backbone(config, AdapterConfig(targets=("q_proj",), layers=()))
    for name in (
        "text_model.encoder.layers.0.self_attn",
        encoder.adaptable()[0].rpartition(".")[0],
    ):
        encoder.model.get_submodule(name).q_proj = nn.Linear(16, 16)
    np.testing.assert_array_equal(describer.encode(TEXTS[::-1])[::-1], before)


def test_empty_texts_are_named_by_their_number(describer: Describer) -> None:
    with pytest.raises(BackboneInputError, match=r"\[1\]"):
        describer.encode(["a dog", " "])


def test_a_checkpoint_without_a_text_tower_is_refused(minilm_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(minilm_folder, tmp_path / "copy"))
    with pytest.raises(BackboneFileError, match="CLIPModel"):
        ClipDescriptionEncoder(folder)

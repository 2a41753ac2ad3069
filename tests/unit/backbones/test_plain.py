"""The NumPy describer against the torch one, and layouts from headers against the models'."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.layout import layout_of
from sglora_fed.backbones import light_describer, load_backbone, load_describer
from sglora_fed.backbones.plain import PlainDescriber
from sglora_fed.backbones.shapes import checkpoint_layout
from sglora_fed.backbones.weights import resolve_minilm
from sglora_fed.config import compose
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneFileError, BackboneInputError, LayoutError

TEXTS = (
    "Hi",
    "My camera hangs upside down, with red and blue exchanged.",
    "Mark as important, travel, banking and work; or 日本語",
    "word " * 600,
)


@pytest.fixture(scope="module")
def describer() -> PlainDescriber:
    made = light_describer(BackboneConfig())
    assert isinstance(made, PlainDescriber)
    return made


def test_it_makes_the_numbers_that_torch_makes(describer: PlainDescriber) -> None:
    theirs = load_describer(BackboneConfig())
    assert (describer.fingerprint, describer.dim) == (theirs.fingerprint, theirs.dim)
    np.testing.assert_allclose(describer.encode(TEXTS), theirs.encode(TEXTS), atol=2e-6)
    assert describer.encode(TEXTS).dtype == np.float32
    assert describer.encode([]).shape == (0, 384)


def test_a_text_without_a_word_piece_is_refused_by_its_number(describer: PlainDescriber) -> None:
    with pytest.raises(BackboneInputError, match=r"\[1\]"):
        describer.encode(["a word", "\u200b"])


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", b"{"), ("config.json", b'{"model_type": "gpt2"}'), ("tokenizer.json", b"[]")],
)
def test_another_checkpoint_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    shutil.copytree(resolve_minilm(None, None, None), tmp_path / "minilm")
    (tmp_path / "minilm" / name).write_bytes(content)
    with pytest.raises(BackboneFileError):
        PlainDescriber(tmp_path / "minilm")


def test_another_activation_is_refused(tmp_path: Path) -> None:
    shutil.copytree(resolve_minilm(None, None, None), tmp_path / "minilm")
    path = tmp_path / "minilm" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu"}))
    with pytest.raises(BackboneFileError, match="gelu"):
        PlainDescriber(tmp_path / "minilm")


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=assistant"],
        ["experiment=assistant", "adapter.targets=[query,dense]", "adapter.layers=[4,1]"],
        ["experiment=cameras"],
    ],
)
def test_a_header_tells_the_layout_that_the_model_has(overrides: list[str]) -> None:
    config = compose(overrides)
    encoder = load_backbone(config.backbone, config.adapter)
    names, adapter = encoder.adaptable(), config.adapter
    wanted = layout_of(encoder.model, names, adapter.rank, adapter.alpha)
    assert checkpoint_layout(config.backbone, adapter) == wanted


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (AdapterConfig(layers=(6,)), "layers 0 to 5"),
        (AdapterConfig(targets=("LayerNorm",)), "'LayerNorm'"),
        (AdapterConfig(targets=("query", "q_proj")), "'q_proj'"),
    ],
)
def test_a_layer_or_target_that_is_not_there_is_named(adapter: AdapterConfig, words: str) -> None:
    with pytest.raises(LayoutError, match=words):
        checkpoint_layout(BackboneConfig(), adapter)

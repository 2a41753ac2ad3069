"""The backbones in NumPy against those in torch, bare and with an adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessorPil

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.layout import layout_of
from sglora_fed.backbones import light_backbone, load_backbone
from sglora_fed.backbones.arithmetic import Adapter, gelu, near_gelu
from sglora_fed.backbones.plain_pictures import preprocessing
from sglora_fed.backbones.types import DualEncoder, PlainEncoder
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneFileError, BackboneInputError

WORDS = ["a photo of a red dog", "blue", "a green dog", "a dog a dog a dog a dog a dog", "blue"]
SENTENCES = ["Hi", *(f"letter {n} is about travel, or 日本語" for n in range(40)), "word " * 600]
ROW = tuple[np.ndarray, np.ndarray]


def rows(plain: PlainEncoder, items: list[str], texts: list[str]) -> ROW:
    return (
        plain.encode_items(plain.prepare_items(items), 1),
        plain.encode_texts(plain.prepare_texts(texts), 1),
    )


@torch.no_grad()
def torch_rows(encoder: DualEncoder, items: list[str], texts: list[str]) -> ROW:
    return (
        encoder.encode_items(encoder.prepare_items(items), 1).numpy(),
        encoder.encode_texts(encoder.prepare_texts(texts), 1).numpy(),
    )


def check(
    backbone: BackboneConfig,
    adapter: AdapterConfig,
    items: list[str],
    texts: list[str],
    near: float = 3e-6,
) -> None:
    plain, encoder = light_backbone(backbone), load_backbone(backbone, adapter)
    assert plain is not None
    assert (plain.id, plain.modality) == (encoder.id, encoder.modality)
    assert plain.scale == pytest.approx(encoder.scale)
    layout = layout_of(encoder.model, encoder.adaptable(), 2, 8.0)
    rng = np.random.default_rng(0)
    vector = rng.normal(scale=0.1, size=layout.size).astype(np.float32)
    bare = rows(plain, items, texts)
    for mine, theirs in zip(bare, torch_rows(encoder, items, texts), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, atol=near)
    with adapted(encoder.model, layout, torch.from_numpy(vector[None])):
        wanted = torch_rows(encoder, items, texts)
    changed = rows(plain.carrying(Adapter(layout, vector)), items, texts)
    for mine, theirs in zip(changed, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=near)
    # The adapter does something, and nothing to the encoder without it.
    assert np.abs(changed[0] - bare[0]).max() > 1e-2
    np.testing.assert_array_equal(rows(plain, items, texts)[0], bare[0])


@pytest.mark.parametrize("targets", [("query", "value"), ("query", "dense")])
def test_minilm_makes_the_numbers_that_torch_makes(targets: tuple[str, ...]) -> None:
    check(BackboneConfig(), AdapterConfig(targets=targets, layers=(1, 5)), SENTENCES, ["a", "b"])


@pytest.mark.parametrize("path", ["package:cameras", "tiny"])
def test_clip_makes_the_numbers_that_torch_makes(
    path: str, clip_folder: Path, images: list[str]
) -> None:
    folder = str(clip_folder) if path == "tiny" else path
    targets = ("q_proj", "out_proj", "fc1", "fc2")
    texts = WORDS if path == "tiny" else ["a small red circle at the top", "a circle, 7 of them"]
    backbone, adapter = BackboneConfig("clip", folder), AdapterConfig(targets=targets, layers=())
    # The tiny one's weights are large, and so is what becomes of rounding.
    check(backbone, adapter, images, texts, near=1e-4 if path == "tiny" else 3e-6)


def test_what_cannot_be_read_is_refused_as_torch_refuses_it(images: list[str]) -> None:
    texts, pictures = (
        light_backbone(BackboneConfig()),
        light_backbone(BackboneConfig("clip", "package:cameras")),
    )
    assert texts is not None
    assert pictures is not None
    with pytest.raises(BackboneInputError, match="1 items are pictures"):
        texts.prepare_items(["a", np.zeros((2, 2, 3), np.uint8)])
    with pytest.raises(BackboneInputError, match=r"\[1\]"):
        texts.prepare_texts(["a", "\u200b"])
    with pytest.raises(BackboneInputError, match=r"\[0\]"):
        pictures.prepare_texts([" ", "a"])
    with pytest.raises(BackboneInputError, match="picture"):
        pictures.prepare_items([__file__])
    assert len(pictures.prepare_items(images)) == len(images)


def without(part: str, key: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        told = json.loads((folder / "config.json").read_text())
        del told[part][key]
        (folder / "config.json").write_text(json.dumps(told))

    return change


def preprocessed(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def relu(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    told["vision_config"]["hidden_act"] = "relu"
    (folder / "config.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    "change",
    [
        without("text_config", "eos_token_id"),
        without("vision_config", "num_attention_heads"),
        relu,
        preprocessed(do_normalize=False),
        preprocessed(do_pad=True),
        preprocessed(size={"height": 32, "width": 32}),
        preprocessed(crop_size={"height": 30, "width": 30}),
        preprocessed(size={"shortest_edge": 31}),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "config.json").unlink(),
    ],
)
def test_what_only_torch_reads_is_left_to_it(
    change: Callable[[Path], None], clip_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    assert light_backbone(BackboneConfig("clip", str(folder))) is not None
    change(folder)
    assert light_backbone(BackboneConfig("clip", str(folder))) is None


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_refused(name: str, clip_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    (folder / name).write_bytes(b"{")
    with pytest.raises(BackboneFileError):
        light_backbone(BackboneConfig("clip", str(folder)))


def test_a_gpu_is_left_to_torch() -> None:
    assert light_backbone(BackboneConfig(device="cuda")) is None


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([2, 3]), st.sampled_from([16, 21]))
def test_pictures_become_what_the_preprocessor_makes_of_them(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, resample: int, shorter: int
) -> None:
    folder = tmp_path_factory.mktemp("preprocessor")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": shorter}, crop_size={"height": 16, "width": 16}, resample=resample
    )
    processor.save_pretrained(folder)
    own = preprocessing(folder, 16)
    assert own is not None
    picture = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    (wanted,) = processor([Image.fromarray(picture)])["pixel_values"]
    (made,) = own.values(own.middle(picture)[None])
    np.testing.assert_array_equal(made.transpose(2, 0, 1), wanted)


def test_older_files_say_the_same_in_fewer_words(tmp_path: Path) -> None:
    told = {"size": 20, "crop_size": 16, "resample": 3, "image_mean": [0.5] * 3}
    steps = {"do_resize": True, "do_center_crop": True, "do_normalize": True}
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(told | steps | {"image_std": [0.3, 0.4, 0.5]}))
    own = preprocessing(tmp_path, 16)
    assert own is not None
    picture = np.random.default_rng(0).integers(256, size=(31, 50, 3), dtype=np.uint8)
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path)
    (wanted,) = processor([Image.fromarray(picture)])["pixel_values"]
    np.testing.assert_array_equal(
        own.values(own.middle(picture)[None])[0].transpose(2, 0, 1), wanted
    )


def test_the_quick_error_function_is_as_near_as_it_says() -> None:
    rows = np.linspace(-12, 12, 400_001, dtype=np.float32)
    # Half of 1.5e-7, and five roundings to float32 of at most 6e-8 each.
    assert (np.abs(near_gelu(rows) - gelu(rows)) <= np.abs(rows) * 3.75e-7).all()

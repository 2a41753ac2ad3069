"""CLIP, from a checkpoint on disk, against CLIPModel's own scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.layout import layout_of
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.backbones.clip import Clip
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneFileError, BackboneInputError, LayoutError

TEXTS = ["a photo of a red dog", "blue", "a green dog", "a photo of a dog a dog a dog a dog"]
ADAPTER = AdapterConfig(targets=("q_proj", "k_proj", "v_proj"), layers=())


@pytest.fixture
def copied(clip_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> DualEncoder:
    return load_backbone(BackboneConfig(name="clip", path=str(clip_folder)), ADAPTER)


def on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def reference(folder: Path, images: list[str], texts: list[str]) -> torch.Tensor:
    """[images, texts] logits by the model's own forward."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).train(False)
    tokens = AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, truncation=True, max_length=8, return_tensors="pt"
    )
    opened = [on_white(Image.open(path).convert("RGBA")) for path in images]
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(opened, return_tensors="pt")
    with torch.no_grad():
        inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        logits: torch.Tensor = model(**inputs, **pixels).logits_per_image
    return logits


def scores(encoder: DualEncoder, images: list[str], texts: list[str]) -> torch.Tensor:
    items = encoder.encode_items(encoder.prepare_items(images), 1)
    return encoder.scale * items @ encoder.encode_texts(encoder.prepare_texts(texts), 1).T


@pytest.mark.parametrize("learning", [False, True])
def test_equals_the_models_own_logits(
    clip_folder: Path, encoder: DualEncoder, images: list[str], learning: bool
) -> None:
    expected = reference(clip_folder, images, TEXTS)
    assert expected.std() > 0.1  # scores that differ, or equality would say nothing
    with torch.set_grad_enabled(learning):
        found = scores(encoder, images, TEXTS)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (encoder.id, encoder.dim) == ("clip-vit-patch8-32", 12)


def test_half_precision_checkpoints_run_in_float32(copied: Path, images: list[str]) -> None:
    file = copied / "model.safetensors"
    save_file({k: v.half() for k, v in load_file(file).items()}, file, {"format": "pt"})
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    found = scores(Clip(copied), images, TEXTS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference(copied, images, TEXTS), atol=1e-5, rtol=1e-5)


def test_adapters_lie_in_the_vision_tower(clip_folder: Path, images: list[str]) -> None:
    encoder = Clip(clip_folder, ("q_proj", "v_proj"), (2, 0))
    assert encoder.adaptable() == (
        "vision_model.encoder.layers.0.self_attn.q_proj",
        "vision_model.encoder.layers.0.self_attn.v_proj",
        "vision_model.encoder.layers.2.self_attn.q_proj",
        "vision_model.encoder.layers.2.self_attn.v_proj",
    )
    before = scores(encoder, images, TEXTS)
    attention = encoder.model.get_submodule("vision_model.encoder.layers.0.self_attn")
    replaced = nn.Linear(16, 16)
    attention.v_proj = replaced
    after = scores(encoder, images, TEXTS)
    assert (after - before).abs().max() > 1e-3
    after.sum().backward()
    assert replaced.weight.grad is not None
    assert replaced.weight.grad.abs().max() > 0


def test_adapters_score_alike_with_gradients_and_without(
    encoder: DualEncoder, images: list[str]
) -> None:
    layout = layout_of(encoder.model, encoder.adaptable(), 2, 3.0)
    vectors = torch.randn(2, layout.size, generator=torch.Generator().manual_seed(0)) / 5
    items = encoder.prepare_items(images[:2] * 2)
    with adapted(encoder.model, layout, vectors):
        learning = encoder.encode_items(items, 2)
        with torch.no_grad():
            torch.testing.assert_close(encoder.encode_items(items, 2), learning)
    # The comparison would be empty if the adapters changed little.
    assert (learning[:2] - learning[2:]).abs().max() > 0.05


def test_scale_can_be_set(clip_folder: Path, encoder: DualEncoder) -> None:
    assert Clip(clip_folder, scale=7.0).scale == 7.0
    assert encoder.scale == pytest.approx(4.4817, abs=1e-4)  # e ** 1.5, the fixture's value


def test_nothing_in_nothing_out(encoder: DualEncoder) -> None:
    assert encoder.encode_items(encoder.prepare_items([]), 1).shape == (0, 12)
    assert encoder.encode_texts(encoder.prepare_texts([]), 1).shape == (0, 12)


def test_descriptions_are_encoded_by_minilm(clip_folder: Path) -> None:
    describer = load_describer(BackboneConfig(name="clip", path=str(clip_folder)))
    assert (describer.id, describer.dim) == ("all-MiniLM-L6-v2+4phrases+2words", 384)


def test_unreadable_images_are_refused(
    encoder: DualEncoder, images: list[str], tmp_path: Path
) -> None:
    whole = Path(images[0]).read_bytes()
    damaged = {
        "text.png": b"no image",
        "empty.png": b"",
        "cut.png": whole[: len(whole) // 2],
        "broken.png": whole[:60] + bytes(40) + whole[100:],
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
    for name in [*damaged, "missing.png"]:
        with pytest.raises(BackboneInputError, match=name):
            encoder.prepare_items([str(tmp_path / name)])
    with pytest.raises(BackboneInputError):
        encoder.prepare_items([str(tmp_path)])


@pytest.mark.parametrize("side", [7100, 20_000])
def test_huge_images_are_refused_before_they_are_decoded(
    encoder: DualEncoder, tmp_path: Path, side: int
) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (side, side)).save(path)
    with pytest.raises(BackboneInputError, match=r"huge\.png"):
        encoder.prepare_items([str(path)])


def test_empty_text_is_refused(encoder: DualEncoder) -> None:
    with pytest.raises(BackboneInputError, match=r"\[1\]"):
        encoder.prepare_texts(["a dog", " "])


def test_processor_that_does_not_fit_is_refused(copied: Path, images: list[str]) -> None:
    side = {"height": 24, "width": 24}
    CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=side).save_pretrained(copied)
    with pytest.raises(BackboneInputError, match="24"):
        Clip(copied).prepare_items(images[:1])


@pytest.mark.parametrize(
    ("targets", "layers", "value"),
    [(("q_proj",), (3,), "3"), (("query",), (), "query")],
)
def test_unknown_modules_are_refused(
    clip_folder: Path, targets: tuple[str, ...], layers: tuple[int, ...], value: str
) -> None:
    with pytest.raises(LayoutError, match=value):
        Clip(clip_folder, targets, layers)


def test_truncated_weights_are_refused(copied: Path) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BackboneFileError, match="damaged"):
        Clip(copied)


def test_missing_tensors_are_not_drawn_at_random(copied: Path) -> None:
    file = copied / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("visual_projection.weight")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(BackboneFileError, match=r"visual_projection\.weight"):
        Clip(copied)


def test_checkpoint_of_another_architecture_is_refused(minilm_folder: Path) -> None:
    with pytest.raises(BackboneFileError, match="CLIPModel"):
        Clip(minilm_folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_missing_parts_are_refused(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(BackboneFileError, match=str(copied)):
        Clip(copied)


def test_what_lies_below_the_first_adapted_layer_runs_once(
    clip_folder: Path, images: list[str]
) -> None:
    """All layers, the last two and the last: other activations are kept, scores are the same."""
    expected = reference(clip_folder, images, TEXTS)
    kept = []
    for layers in ((), (1, 2), (2,)):
        encoder = Clip(clip_folder, ("v_proj",), layers)
        kept.append(torch.stack(encoder.prepare_items(images)))
        torch.testing.assert_close(scores(encoder, images, TEXTS), expected, atol=1e-5, rtol=1e-5)
    assert kept[0].shape == (len(images), 17, 16)
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[1], kept[2])


def test_texts_are_kept_and_told_apart(encoder: DualEncoder) -> None:
    first = encoder.prepare_texts(["a dog", "blue", "a dog"])
    again = encoder.prepare_texts(["blue", "red"])
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[1], again[0])
    assert not torch.equal(again[0], again[1])

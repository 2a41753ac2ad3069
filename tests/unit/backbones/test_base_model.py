"""Written adapters name a base that stock classes load, and give our outputs there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, BertModel, CLIPImageProcessorPil, CLIPModel

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.layout import Layout, layout_of
from sglora_fed.adapters.peft_io import write_peft
from sglora_fed.backbones import base_with, load_backbone
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.backbones.weights import MINILM_ID, MINILM_REVISION, BaseModel, base_model
from sglora_fed.config.schema import AdapterConfig, BackboneConfig

TEXTS = ["remind me to call my mother", "hi"]
VISION = AdapterConfig(targets=("q_proj", "k_proj", "v_proj"), layers=())


@pytest.fixture
def hub_cache(minilm_folder: Path, tmp_path: Path) -> Path:
    """MiniLM as the hub's own client would have put it into its cache."""
    snapshots = tmp_path / "hub" / f"models--{MINILM_ID.replace('/', '--')}" / "snapshots"
    shutil.copytree(minilm_folder, snapshots / MINILM_REVISION)
    return tmp_path / "hub"


def written(encoder: DualEncoder, backbone: BackboneConfig, folder: Path) -> tuple[Any, Tensor]:
    layout = layout_of(encoder.model, encoder.adaptable(), 2, 4.0)
    vector = np.random.default_rng(0).normal(0, 0.1, layout.size).astype(np.float32)
    base = base_with(backbone, encoder.weights_sha256)
    assert base is not None
    write_peft(vector, layout, base, folder)
    return layout, torch.from_numpy(vector)[None]


def stock(folder: Path, **where: Any) -> nn.Module:
    """By what the folder alone says."""
    config = PeftConfig.from_pretrained(folder)
    name, revision = str(config.base_model_name_or_path), config.revision
    base = AutoModel.from_pretrained(name, revision=revision, **where)
    model: nn.Module = PeftModel.from_pretrained(base, folder).eval()
    return model


def encoded(
    encoder: DualEncoder, items: list[str], layout: Layout, vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """With the adapter and without."""
    prepared = encoder.prepare_items(items)
    with torch.no_grad(), adapted(encoder.model, layout, vectors):
        with_adapter = encoder.encode_items(prepared, 1)
    return with_adapter, encoder.encode_items(prepared, 1)


def test_minilm_s_adapter_names_the_hub_s_model(hub_cache: Path, tmp_path: Path) -> None:
    encoder = load_backbone(BackboneConfig(), AdapterConfig())
    layout, vectors = written(encoder, BackboneConfig(), tmp_path / "adapter")
    model = stock(tmp_path / "adapter", cache_dir=hub_cache)
    assert isinstance(model.get_base_model(), BertModel)
    tokenizer = AutoTokenizer.from_pretrained(
        MINILM_ID, revision=MINILM_REVISION, cache_dir=hub_cache
    )
    ours, bare = encoded(encoder, TEXTS, layout, vectors)
    for row, text in enumerate(TEXTS):
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = hidden.mean(dim=0)
        torch.testing.assert_close(ours[row], mean / mean.norm(), atol=1e-5, rtol=0)
    assert (ours - bare).abs().max() > 0.01


def test_clip_s_adapter_names_the_folder(
    clip_folder: Path, images: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip_folder.parent)  # a relative path in the configuration
    backbone = BackboneConfig(name="clip", path=clip_folder.name)
    encoder = load_backbone(backbone, VISION)
    layout, vectors = written(encoder, backbone, tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    model = stock(tmp_path / "adapter")
    assert isinstance(model.get_base_model(), CLIPModel)
    opened = [Image.open(path).convert("RGB") for path in images[:2]]
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(opened, return_tensors="pt")
    ours, bare = encoded(encoder, images[:2], layout, vectors)
    with torch.no_grad():
        theirs = model.get_image_features(**pixels).pooler_output
    # We merge weights, which rounds differently: 9e-6 from double precision here, PEFT 2e-6.
    torch.testing.assert_close(ours, nn.functional.normalize(theirs, dim=-1), atol=3e-5, rtol=0)
    assert (ours - bare).abs().max() > 0.01


def test_what_a_base_is_named() -> None:
    assert base_model(None, None) == BaseModel(MINILM_ID, MINILM_REVISION)
    assert base_model(None, "abc") == BaseModel(MINILM_ID, "abc")
    assert base_model("some/model", "abc") == BaseModel("some/model", "abc")
    assert base_model("~", None) == BaseModel(str(Path.home()), None)


def test_other_weights_have_no_name(clip_folder: Path) -> None:
    assert base_with(BackboneConfig(), "0" * 64) is None
    assert base_with(BackboneConfig(name="clip", path=str(clip_folder)), "0" * 64) is None


def test_what_the_file_says_peft_would_say_too(clip_folder: Path, tmp_path: Path) -> None:
    backbone = BackboneConfig(name="clip", path=str(clip_folder))
    encoder = load_backbone(backbone, VISION)
    written(encoder, backbone, tmp_path / "ours")
    stock(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    ours, theirs = (
        json.loads((tmp_path / who / "adapter_config.json").read_text())
        for who in ("ours", "theirs")
    )
    for values in (ours, theirs):
        values["target_modules"].sort()
    assert {name: theirs[name] for name in ours} == ours
    # What it leaves out is a plain LoRA's default.
    plain = LoraConfig().to_dict()
    left = set(theirs) - set(ours) - {"auto_mapping", "peft_version"}
    assert {name: theirs[name] for name in left} == {name: plain[name] for name in left}

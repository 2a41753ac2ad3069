"""The CLIP that ships: what its card says, where it is found, and pictures in memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer, CLIPImageProcessorPil

from sglora_fed.adapters.data import prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.backbones import load_backbone, weights
from sglora_fed.backbones.clip import Clip
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.backbones.weights import PACKAGED, base_model, resolve_checkpoint
from sglora_fed.config import compose
from sglora_fed.errors import BackboneHashError, BackboneInputError, BackboneMissingError
from sglora_fed.files import sha256_of
from sglora_fed.tasks.cameras.captions import CAPTIONS, WORDS
from sglora_fed.tasks.cameras.scenes import hard_groups, render
from sglora_fed.tasks.types import Example, Task

PATH = "package:cameras"
FOLDER = resolve_checkpoint(PATH, None, None)


@pytest.fixture(scope="module")
def encoder() -> DualEncoder:
    config = compose(["backbone=cameras", "adapter=cameras"])
    return load_backbone(config.backbone, config.adapter)


def gallery(seed: int) -> Task:
    rng = np.random.default_rng(seed)
    numbers = hard_groups(rng)[:25].ravel()
    test = zip(render(numbers, rng), numbers, strict=True)
    examples = tuple(Example(picture, CAPTIONS[number]) for picture, number in test)
    return Task(f"g{seed}", "plain", {}, (), examples, kind="retrieval", modality="image")


def test_upright_cameras_find_their_captions(encoder: DualEncoder) -> None:
    tasks = [gallery(seed) for seed in range(100, 110)]
    parts = [prepare(encoder, task, task.test) for task in tasks]
    found = [
        task_metrics(part.kind, score, part.targets)
        for part, score in zip(parts, score_tasks(encoder, parts), strict=True)
    ]
    for way in ("i2t_r1", "t2i_r1"):
        assert np.mean([metrics[way] for metrics in found]) > 0.98


def test_its_card_and_size() -> None:
    card = (FOLDER / "README.md").read_text()
    file = FOLDER / weights.WEIGHTS_FILE
    assert file.stat().st_size <= 500_000
    assert sha256_of(file) == PACKAGED["cameras"]
    assert PACKAGED["cameras"] in card


def test_its_tokeniser_knows_every_word_of_a_caption() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    ids = tokenizer(" ".join(WORDS))["input_ids"]
    assert len(set(ids)) == len(WORDS) + 2
    assert all(len(row) <= 10 for row in tokenizer(list(CAPTIONS))["input_ids"])


def test_stock_transformers_load_it(encoder: DualEncoder) -> None:
    base = base_model(PATH, None)
    assert (base.name, base.revision) == (str(FOLDER), None)
    model = AutoModel.from_pretrained(base.name, dtype=torch.float32).eval()
    task = gallery(1)
    processor = CLIPImageProcessorPil.from_pretrained(base.name)
    pixels = processor([Image.fromarray(example.item) for example in task.test])["pixel_values"]
    texts = AutoTokenizer.from_pretrained(base.name)(
        [example.label for example in task.test], padding=True, return_tensors="pt"
    )
    part = prepare(encoder, task, task.test)
    with torch.no_grad():
        expected = model(**texts, pixel_values=torch.tensor(np.array(pixels))).logits_per_image
    torch.testing.assert_close(score_tasks(encoder, [part])[0], expected, atol=1e-4, rtol=1e-4)


def test_pictures_in_memory_and_their_files_give_the_same_numbers(
    encoder: DualEncoder, tmp_path: Path
) -> None:
    pictures = list(render(np.arange(6), np.random.default_rng(0)))
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(picture).save(paths[-1])
    pairs = zip(encoder.prepare_items(pictures), encoder.prepare_items(paths), strict=True)
    for mine, read in pairs:
        assert torch.equal(mine, read)


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 4), (32, 0, 3)])
def test_arrays_that_are_no_rgb_pictures_are_refused(
    encoder: DualEncoder, shape: tuple[int, ...]
) -> None:
    with pytest.raises(BackboneInputError, match=r"in memory.*need \[height, width, 3\] uint8"):
        encoder.prepare_items([np.zeros(shape, np.uint8)])
    with pytest.raises(BackboneInputError, match="float64"):
        encoder.prepare_items([np.zeros((32, 32, 3))])


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneHashError, match="f" * 64):
        resolve_checkpoint(PATH, None, "f" * 64)
    folder = tmp_path / "cameras"
    shutil.copytree(FOLDER, folder)
    with (folder / weights.WEIGHTS_FILE).open("ab") as file:
        file.write(b" ")
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "weights.py"))
    with pytest.raises(BackboneHashError, match=PACKAGED["cameras"]):
        resolve_checkpoint(PATH, None, None)
    (folder / weights.WEIGHTS_FILE).unlink()
    with pytest.raises(BackboneMissingError, match="reinstall"):
        resolve_checkpoint(PATH, None, None)


def test_a_name_that_does_not_ship_is_refused() -> None:
    with pytest.raises(BackboneMissingError, match=r"package:magic.*cameras"):
        resolve_checkpoint("package:magic", None, None)


def test_it_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    copied = shutil.copytree(FOLDER, tmp_path / "mine")
    assert Clip(copied).id == "clip-vit-patch8-32"

"""One step of training gives a whole checkpoint; the model shipped was made by these settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import CLIPModel

from sglora_fed.files import sha256_of
from sglora_fed.tasks.cameras.captions import CAPTIONS, WORDS

Script = Callable[[str], ModuleType]


def test_a_checkpoint_loads_and_its_card_tells_its_hash(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("train_cameras_clip")
    monkeypatch.setattr(bench, "BATCH", 8)
    monkeypatch.setattr(bench, "GALLERIES", 1)
    bench.main(["--out", str(tmp_path), "--steps", "1"])
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert sha256_of(tmp_path / "model.safetensors") in card
    assert all(p.dtype == torch.float16 for p in CLIPModel.from_pretrained(tmp_path).parameters())


def test_every_word_is_a_token_of_its_own_and_strangers_are_none(script: Script) -> None:
    bench = script("train_cameras_clip")
    tokens = bench.tokenizer()
    ids = tokens(list(CAPTIONS))["input_ids"]
    assert len({tuple(row) for row in ids}) == len(set(CAPTIONS))
    assert max(map(len, ids)) == bench.longest()
    assert tokens(f"{WORDS[0]} xylophone")["input_ids"] == [0, 2, 1, 1]

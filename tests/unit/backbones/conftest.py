from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from sglora_fed.backbones.weights import OFFLINE_PACKAGE, _offline

WORDS = ["<|startoftext|>", "<|endoftext|>", "a", "photo", "of", "red", "blue", "green", "dog"]


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    folder = _offline()
    assert folder is not None, f"{OFFLINE_PACKAGE} is needed by these tests"
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights, saved as any checkpoint is."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    CLIPModel(_clip_config()).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Images of several shapes and modes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for index, (shape, mode) in enumerate([((40, 60), "RGB"), ((32, 32), "L"), ((90, 33), "RGBA")]):
        pixels = rng.integers(0, 255, (*shape, len(mode)), dtype=np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(pixels.squeeze(-1) if mode == "L" else pixels, mode=mode).save(path)
        paths.append(str(path))
    return paths


def _clip_config() -> CLIPConfig:
    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        # Large random weights, so that a mistake anywhere shows in the scores.
        "initializer_factor": 20.0,
    }
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 8}
    marks = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return CLIPConfig(
        text_config=small | text | marks,
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=12,
        logit_scale_init_value=1.5,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )

"""Train the small CLIP of the family ``cameras`` and write it as a checkpoint.

Run: python benchmarks/train_cameras_clip.py --out sglora_fed/backbones/cameras
Takes less than a minute on a GPU and a quarter of an hour on two CPU cores. Scenes and captions are
drawn as training goes; every camera is upright, shows true colours and has a clean lens. The sha256
that it prints belongs into ``sglora_fed/backbones/weights.py``.
"""

from __future__ import annotations

import argparse
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from sglora_fed.backbones.clip import Clip
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.files import sha256_of
from sglora_fed.tasks.cameras.captions import CAPTIONS, WORDS
from sglora_fed.tasks.cameras.scenes import SCENES, SIDE, hard_groups, render

START, END = "<|startoftext|>", "<|endoftext|>"

STEPS = 700
"""R@1 is 1 by then. A model trained for longer is worse to adapt: after 4,500 steps fine-tuning on
256 pairs of another camera ends 30 points lower."""

BATCH = 512
"""Pairs of a step; half of them in hard groups, without which colours and places are not learnt."""

RATE = 2e-3
WARM_UP = 200
DECAY = 0.05
MOST_SCALE = 60.0
"""A larger logit scale makes training unstable."""

VISION = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
PROJECTION = 48

GALLERIES = 50
"""Of 100 captions in 25 hard groups each, for R@1."""

CARD = """# CLIP of the family `cameras`

A `transformers.CLIPModel` of {parameters:,} parameters that tells scenes of
`sglora_fed.tasks.cameras` apart: one of six shapes in six colours, two sizes and nine places. It
was trained from scratch on cameras that are upright, with true colours and a clean lens. It knows
nothing else: for any other picture its scores mean nothing.

- Vision: {vision[hidden_size]} wide, {vision[num_hidden_layers]} layers, patches of
  {vision[patch_size]} pixels. Text: {text[hidden_size]} wide, {text[num_hidden_layers]} layers,
  {words} words.
- Data: {steps:,} steps of {batch} pairs drawn by `render` and `caption`, half of them in hard
  groups (one object at two places, in two colours); seed {seed}. No data from elsewhere.
- Loss: both directions' cross entropy (Radford et al. 2021); another pair of the batch with the
  same caption is left out, by the equality of captions.
- AdamW, rate {rate} with warm-up and cosine, weight decay {decay}; logit scale at most {scale:g}.
- R@1 of 100 captions in 25 hard groups, mean of {galleries} galleries of a fresh seed, float16
  weights as shipped: image to text {i2t:.4f}, text to image {t2i:.4f}.
- Made on {card} with torch {torch}, transformers {transformers} by
  `python benchmarks/train_cameras_clip.py --out sglora_fed/backbones/cameras --seed {seed}`.
- Weights: float16, sha256 `{sha256}`. Licence: that of the project.
"""


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words of the captions between CLIP's marks; any other word is the end mark."""
    vocabulary = {word: number for number, word in enumerate((START, END, *WORDS))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    marks = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    wrap: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return wrap(tokenizer_object=made, model_max_length=longest(), **marks)


def longest() -> int:
    """Tokens of the longest caption with its marks."""
    return 2 + max(len(text.split()) for text in CAPTIONS)


def new_model() -> CLIPModel:
    """The model before training."""
    marks = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = TEXT | marks | {"vocab_size": 2 + len(WORDS), "max_position_embeddings": longest()}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=PROJECTION)
    return CLIPModel(config)


def batches(seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scenes [B] and their pictures without end; the next is drawn while one is used."""
    rng = np.random.default_rng(seed)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        hard = hard_groups(rng).ravel()[: BATCH // 2]
        numbers = np.concatenate([hard, rng.integers(0, len(SCENES), BATCH - len(hard))])
        return numbers, render(numbers, rng)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(draw)
        while True:
            ready, waiting = waiting.result(), pool.submit(draw)
            yield ready


def contrastive(model: CLIPModel, pixels: Tensor, ids: Tensor) -> Tensor:
    """Mean of both directions' cross entropy; pairs with the same tokens do not count as wrong.

    To leave out pairs of similar embeddings instead would hide the hard ones: captions collapse.
    """
    made = model(input_ids=ids, pixel_values=pixels)
    logits = model.logit_scale.exp() * made.image_embeds @ made.text_embeds.T
    twins = (ids[:, None] == ids[None]).all(dim=2).fill_diagonal_(False)
    logits = logits.masked_fill(twins, -torch.inf)
    right = torch.arange(len(ids), device=ids.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def rate(step: int, steps: int) -> float:
    """Share of the full learning rate: linear warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / WARM_UP)
    return warm * (1 + math.cos(math.pi * step / steps)) / 2


def train(model: CLIPModel, steps: int, seed: int, device: torch.device) -> None:
    """Train in place."""
    tokens = tokenizer()(list(CAPTIONS), padding="max_length", return_tensors="pt")["input_ids"]
    tokens = tokens.to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps))
    for step, (numbers, pictures) in zip(range(steps), batches(seed), strict=False):
        pixels = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2) / 127.5 - 1
        loss = contrastive(model, pixels, tokens[torch.from_numpy(numbers).to(device)])
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(MOST_SCALE))
        if step % 250 == 0 or step == steps - 1:
            print(f"step {step}: loss {float(loss.detach()):.4f}", flush=True)


def save(model: CLIPModel, folder: Path) -> None:
    """Write everything that a CLIP checkpoint has."""
    torch.nn.Module.to(model, "cpu", torch.float16)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder)


@torch.no_grad()
def recall(folder: Path, seed: int) -> dict[str, float]:
    """Mean metrics of the checkpoint, loaded as a user's own is, over galleries of hard groups."""
    encoder, rng = Clip(folder), np.random.default_rng(seed)
    found: list[dict[str, float]] = []
    for _ in range(GALLERIES):
        numbers = hard_groups(rng)[:25].ravel()
        items = encoder.encode_items(encoder.prepare_items(list(render(numbers, rng))), 1)
        captions = encoder.prepare_texts([CAPTIONS[number] for number in numbers])
        scores = items @ encoder.encode_texts(captions, 1).T
        found.append(task_metrics("retrieval", scores, np.arange(len(numbers))))
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


def write_card(folder: Path, model: CLIPModel, steps: int, seed: int, card: str) -> None:
    """Write README.md beside the checkpoint, with what was measured."""
    import transformers

    found = recall(folder, seed + 1)
    facts: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vision": VISION,
        "text": TEXT,
        "words": len(WORDS),
        "steps": steps,
        "batch": BATCH,
        "seed": seed,
        "rate": RATE,
        "decay": DECAY,
        "scale": MOST_SCALE,
        "galleries": GALLERIES,
        "i2t": found["i2t_r1"],
        "t2i": found["t2i_r1"],
        "card": card,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sha256": sha256_of(folder / "model.safetensors"),
    }
    text = CARD.format(**facts)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, measure what was saved."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    torch.manual_seed(given.seed)
    model = new_model()
    torch.nn.Module.to(model, device)
    train(model, given.steps, given.seed, device)
    save(model, given.out)
    write_card(given.out, model, given.steps, given.seed, card)


if __name__ == "__main__":
    main()

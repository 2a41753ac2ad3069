"""MiniLM against the whole transformers model with sentence mean pooling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, BertModel

from sglora_fed.backbones import load_backbone, load_describer, minilm
from sglora_fed.backbones.metrics import accuracy
from sglora_fed.backbones.minilm import DescriptionEncoder, MiniLM, load_bert
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneInputError, LayoutError

MIXED = ["hi", "book me a flight to paris for tomorrow morning please", "what's my balance?"]
EQUAL = ["play some jazz", "call my mother", "stop the timer"]


def whole_model(folder: Path) -> nn.Module:
    return BertModel.from_pretrained(folder).train(False).requires_grad_(False)


def reference(folder: Path, texts: list[str], model: nn.Module | None = None) -> Tensor:
    """[n, 384] by the whole model, one text at a time: no padding, no mask, no split."""
    model = model or whole_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        mean = model(**ids).last_hidden_state[0].mean(dim=0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


def described(folder: Path, texts: list[str], cut: dict[str, list[str]]) -> Tensor:
    """[n, 384] the text and four times its phrases as ``cut`` gives them, and twice its words."""
    rows = []
    for text in texts:
        whole = reference(folder, [text])[0]
        whole = whole + 4 * reference(folder, cut.get(text, [text])).mean(dim=0)
        rows.append(whole / whole.norm() + 2 * words(folder, text))
    return nn.functional.normalize(torch.stack(rows), dim=1)


def words(folder: Path, text: str) -> Tensor:
    """[384] the direction of a text's different word pieces in the table of embeddings."""
    table = whole_model(folder).get_input_embeddings().weight
    ids = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=256)["input_ids"]
    pieces = nn.functional.normalize(table[sorted(set(ids[1:-1]))], dim=1)
    return nn.functional.normalize(pieces.sum(dim=0), dim=0)


@pytest.mark.parametrize("layers", [(), (3, 4, 5), (5,), (1, 4)])
@pytest.mark.parametrize("targets", [("query", "value"), ("key",), ("value", "output.dense")])
@pytest.mark.parametrize("texts", [MIXED, EQUAL], ids=["mixed", "equal"])
def test_equals_the_whole_model(
    minilm_folder: Path, layers: tuple[int, ...], targets: tuple[str, ...], texts: list[str]
) -> None:
    encoder = MiniLM(minilm_folder, targets, layers)
    encoded = encoder.encode_items(encoder.prepare_items(texts), 1)
    torch.testing.assert_close(encoded, reference(minilm_folder, texts), atol=1e-5, rtol=0)
    assert encoded.dtype == torch.float32


def test_order_survives_more_texts_than_one_chunk(minilm_folder: Path) -> None:
    texts = [" ".join(["word"] * (1 + 7 * i % 13)) + f" {i}" for i in range(150)]
    encoder = MiniLM(minilm_folder, layers=(5,))
    some = [0, 63, 64, 149]
    encoded = encoder.encode_items(encoder.prepare_items(texts), 1)[some]
    expected = reference(minilm_folder, [texts[i] for i in some])
    torch.testing.assert_close(encoded, expected, atol=1e-5, rtol=0)


def test_cosines_that_the_makers_of_the_model_publish(minilm_folder: Path) -> None:
    # From the README of sentence-transformers, four decimals.
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    published = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    encoder = MiniLM(minilm_folder)
    encoded = encoder.encode_texts(encoder.prepare_texts(texts), 1)
    torch.testing.assert_close(encoded @ encoded.T, published, atol=1e-4, rtol=0)


def test_long_texts_are_cut_at_256_word_pieces(minilm_folder: Path) -> None:
    encoder = MiniLM(minilm_folder, layers=(5,))
    (prepared,) = encoder.prepare_items(["home " * 400])
    assert prepared.shape == (256, 384)
    same = encoder.encode_items([prepared], 1)
    expected = reference(minilm_folder, ["home " * 254])
    torch.testing.assert_close(same, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("empty", ["", "  \n", "\u200b"])
def test_empty_text_is_refused_by_number_not_by_content(minilm_folder: Path, empty: str) -> None:
    with pytest.raises(BackboneInputError, match=r"\[1\]") as caught:
        MiniLM(minilm_folder).prepare_items(["my secret", empty])
    assert "secret" not in str(caught.value)
    with pytest.raises(BackboneInputError):
        DescriptionEncoder(minilm_folder).encode([empty])


def test_the_number_is_that_of_the_text_among_those_given(minilm_folder: Path) -> None:
    encoder, describer = MiniLM(minilm_folder), DescriptionEncoder(minilm_folder)
    encoder.prepare_items(["seen"]), describer.encode(["seen"])
    for work in (encoder.prepare_items, describer.encode):
        with pytest.raises(BackboneInputError, match=r"\[3\]"):
            work(["seen", "twice", "twice", " "])


def test_a_few_descriptions_at_a_time_are_embedded_as_all_together(
    minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        "Mirrored, and all grey.",
        "Upside down.",
        "all grey",
        "Blurred, and mirrored.",
        "Red.",
    ]
    wanted, seen = DescriptionEncoder(minilm_folder).encode(texts), list[int]()
    together = minilm.described

    def counted(some: Sequence[str], *how: Any) -> np.ndarray:
        seen.append(len(some))
        return together(some, *how)

    monkeypatch.setattr(minilm, "described", counted)
    monkeypatch.setattr(minilm, "DESCRIBED", 2)
    describer = DescriptionEncoder(minilm_folder)
    np.testing.assert_allclose(describer.encode(texts), wanted, atol=1e-5)
    assert seen == [2, 2, 1]
    with pytest.raises(BackboneInputError, match=r"\[3\]"):
        describer.encode([*texts[:3], " "])


def test_nothing_in_nothing_out(minilm_folder: Path) -> None:
    encoder = MiniLM(minilm_folder)
    assert encoder.encode_items(encoder.prepare_items([]), 1).shape == (0, 384)
    assert DescriptionEncoder(minilm_folder).encode([]).shape == (0, 384)


class Shifted(nn.Module):
    """A stand-in for an adapter: the frozen module plus a trainable shift."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.shift = nn.Parameter(torch.linspace(-0.5, 0.5, 384))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.shift


def place(model: nn.Module, name: str) -> Shifted:
    parent, _, child = name.rpartition(".")
    shifted = Shifted(model.get_submodule(name))
    setattr(model.get_submodule(parent), child, shifted)
    return shifted


@pytest.mark.parametrize("targets", [("query", "value"), ("value", "output.dense")])
@pytest.mark.parametrize("index", [0, 1, -1])
def test_replaced_modules_take_effect_and_get_gradients(
    minilm_folder: Path, targets: tuple[str, ...], index: int
) -> None:
    encoder = MiniLM(minilm_folder, targets, layers=(3, 5))
    name = encoder.adaptable()[index]
    plain = encoder.encode_items(encoder.prepare_items(MIXED), 1)
    shifted = place(encoder.model, name)
    encoded = encoder.encode_items(encoder.prepare_items(MIXED), 1)
    whole = whole_model(minilm_folder)
    theirs = place(whole, name)
    expected = reference(minilm_folder, MIXED, whole)
    torch.testing.assert_close(encoded, expected, atol=1e-5, rtol=0)
    assert (encoded - plain).abs().max() > 1e-3
    (encoded[0] @ encoded[1]).backward()
    (expected[0] @ expected[1]).backward()
    assert shifted.shift.grad is not None
    assert shifted.shift.grad.abs().max() > 1e-4
    torch.testing.assert_close(shifted.shift.grad, theirs.shift.grad, atol=1e-6, rtol=1e-3)
    frozen = [p for n, p in encoder.model.named_parameters() if "shift" not in n]
    assert all(p.grad is None and not p.requires_grad for p in frozen)


def test_a_description_is_embedded_with_its_phrases_and_words(minilm_folder: Path) -> None:
    cut = {
        "Mark as now: travel, pets and work; the rest is later.": [
            "Mark as now", "travel", "pets", "work", "the rest is later",
        ],
        "a photo of a tabby cat": ["a photo of a tabby cat"],
    }  # fmt: skip
    made = torch.from_numpy(DescriptionEncoder(minilm_folder).encode(list(cut)))
    torch.testing.assert_close(made, described(minilm_folder, list(cut), cut), atol=1e-5, rtol=0)
    assert DescriptionEncoder(minilm_folder).encode([]).shape == (0, 384)


def test_very_long_and_foreign_descriptions_are_embedded(minilm_folder: Path) -> None:
    # Cut at 256 word pieces as a whole, and after 32 phrases.
    long, foreign = "travel and pets, " * 600, "标记旅行和宠物为重要"
    made = torch.from_numpy(DescriptionEncoder(minilm_folder).encode([long, foreign]))
    cut = {long: ["travel", "pets"] * 16}
    expected = described(minilm_folder, [long, foreign], cut)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_descriptions_never_see_an_adapter(minilm_folder: Path) -> None:
    encoder = MiniLM(minilm_folder)
    describer = DescriptionEncoder(minilm_folder)
    for name in encoder.adaptable():
        place(encoder.model, name)
    for late in (describer, DescriptionEncoder(minilm_folder)):
        embedded = torch.from_numpy(late.encode(MIXED))
        torch.testing.assert_close(embedded, described(minilm_folder, MIXED, {}), atol=1e-5, rtol=0)
    assert MiniLM(minilm_folder).model is not encoder.model


def test_weights_are_in_memory_once(minilm_folder: Path) -> None:
    encoder, describer = MiniLM(minilm_folder), DescriptionEncoder(minilm_folder)
    pointers = {p.data_ptr() for p in encoder.model.parameters()}
    assert pointers == {p.data_ptr() for p in describer._bert.parameters()}


def test_adaptable_modules(minilm_folder: Path) -> None:
    names = MiniLM(minilm_folder, ("query", "value"), (5, 3)).adaptable()
    assert names == (
        "encoder.layer.3.attention.self.query",
        "encoder.layer.3.attention.self.value",
        "encoder.layer.5.attention.self.query",
        "encoder.layer.5.attention.self.value",
    )
    assert len(MiniLM(minilm_folder).adaptable()) == 12


@pytest.mark.parametrize(
    ("targets", "layers", "value"),
    [(("query",), (6,), "6"), (("q_proj",), (), "q_proj"), (("dropout",), (), "dropout")],
)
def test_unknown_modules_are_refused(
    minilm_folder: Path, targets: tuple[str, ...], layers: tuple[int, ...], value: str
) -> None:
    with pytest.raises(LayoutError, match=value):
        MiniLM(minilm_folder, targets, layers)


def test_loaded_once_per_configuration_and_silently(capfd: pytest.CaptureFixture[str]) -> None:
    for cached in (load_backbone, load_describer, load_bert):
        cached.cache_clear()
    first = load_backbone(BackboneConfig(), AdapterConfig())
    assert load_backbone(BackboneConfig(), AdapterConfig()) is first
    assert (first.id, first.dim, first.scale) == ("all-MiniLM-L6-v2", 384, 20.0)
    assert load_backbone(BackboneConfig(scale=5.0), AdapterConfig()).scale == 5.0
    assert load_describer(BackboneConfig()).encode(["hello"]).shape == (1, 384)
    assert capfd.readouterr() == ("", "")


def test_two_labels_that_are_read_as_one_text_are_never_told_apart(minilm_folder: Path) -> None:
    encoder = MiniLM(minilm_folder)
    texts = [f"message number {n} {'about my flight ' * (n % 5)}" for n in range(40)]
    every = ["\U0001f600", *(f"something else {n}" for n in range(9)), "\U0001f389"]
    items = encoder.encode_items(encoder.prepare_items(texts), 1)
    scores = (items @ encoder.encode_texts(encoder.prepare_texts(every), 1).T)[:, [0, 10]]
    for label in (0, 1):
        assert accuracy(scores, torch.full((40,), label)) == 0.0


def test_texts_are_run_once_and_forgetting_changes_nothing(
    minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["book a flight", "is it going to rain", "book a flight"]
    encoder = MiniLM(minilm_folder, layers=(5,))
    wanted = encoder.prepare_items(texts)
    assert wanted[0] is wanted[2]
    assert encoder.prepare_items(texts[1:])[0] is wanted[1]
    room = max(row.untyped_storage().nbytes() for row in wanted)
    monkeypatch.setattr(minilm, "REMEMBERED", room)  # for one of the two
    forgetful = MiniLM(minilm_folder, layers=(5,))
    for _ in range(2):
        again = forgetful.prepare_items(["something else", *texts])
        assert forgetful._remembered.bytes <= room
        for one, other in zip(again[1:], wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    describer = DescriptionEncoder(minilm_folder)
    first = describer.encode(texts)
    for again_described in (
        describer.encode(texts),
        DescriptionEncoder(minilm_folder).encode(texts),
    ):
        np.testing.assert_allclose(again_described, first, atol=1e-5)

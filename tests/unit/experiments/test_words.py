"""Words that the real MiniLM cannot tell apart or does not know, and words that it can and does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sglora_fed.backbones import candidate_reader, description_reader
from sglora_fed.backbones.reading import TextReader
from sglora_fed.backbones.weights import resolve_minilm
from sglora_fed.config import compose
from sglora_fed.config.schema import BackboneConfig
from sglora_fed.errors import BackboneFileError, TextsAlikeError, VocabularyError
from sglora_fed.experiments.words import check_candidates, check_descriptions, check_words
from sglora_fed.tasks import load_family
from sglora_fed.tasks.types import Example, Task

TEXTS = (Example("call mum", "a"), Example("buy milk", "b"))
TASK = Task("one", "Calls are urgent.", {"a": "now", "b": "later"}, TEXTS, TEXTS)


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return description_reader(BackboneConfig())


def described(*texts: str) -> list[Task]:
    return [replace(TASK, id=f"t{n}", description=text) for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    "labels",
    [
        ("\U0001f600", "\U0001f389"),
        ("na\u00efve", "naive"),
        ("\u2c81\u2c83", "\u2c85\u2c87"),  # Coptic
        ("keep \U0001f600", "keep \U0001f389"),
        ("home " * 300 + "yes", "home " * 300 + "no"),
        ("a-b", "a - b"),
    ],
    ids=["emoji", "accent", "script", "emoji in words", "beyond the cut", "spaces"],
)
def test_labels_that_are_one_text_are_refused(reader: TextReader, labels: tuple[str, str]) -> None:
    task = replace(TASK, labels=dict(zip("ab", labels, strict=True)))
    others = [replace(TASK, id=f"t{n}") for n in range(10)]
    with pytest.raises(TextsAlikeError, match=r"SGL-202.*'one': the labels of 'a' and 'b'"):
        check_candidates(reader, [*others, task])


@pytest.mark.parametrize(
    "hints",
    [
        {"a": "my calls", "b": "my calls"},
        {"a": "calls, mail", "b": ("mail", "calls")},
        {"a": "caf\u00e9", "b": "cafe"},
        {"b": "now"},
    ],
    ids=["same", "same things", "accent", "the other label"],
)
def test_hints_that_are_one_text_are_refused(reader: TextReader, hints: Any) -> None:
    with pytest.raises(TextsAlikeError, match=r"'one': the hints of 'a' and 'b'"):
        check_candidates(reader, [replace(TASK, hints=hints)])


@pytest.mark.parametrize(
    "hints", [{}, {"a": "calls"}, {"a": "calls, mail", "b": "mail"}, {"b": "everything else"}]
)
def test_hints_that_differ_pass(reader: TextReader, hints: Any) -> None:
    check_candidates(reader, [replace(TASK, hints=hints)])


@pytest.mark.parametrize(
    "texts",
    [
        ("Keep \U0001f600 for me.", "Keep \U0001f389 for me."),
        ("Keep mails in \u2c81\u2c83.", "Keep mails in \u2c85\u2c87."),
        ("I like " + "cats, " * 200 + "and dogs", "I like " + "cats, " * 200 + "and birds"),
    ],
    ids=["emoji", "script", "beyond the cut"],
)
def test_two_wishes_that_are_read_as_one_are_refused(
    reader: TextReader, texts: tuple[str, str]
) -> None:
    with pytest.raises(TextsAlikeError, match=r"SGL-202.*'t1'.*'t2'"):
        check_descriptions(reader, described("Calls, please.", *texts))
    paraphrased = [
        replace(t, description=t.id, paraphrases=(t.description,)) for t in described(*texts)
    ]
    with pytest.raises(TextsAlikeError, match=r"SGL-202.*'t0'.*'t1'"):
        check_descriptions(reader, paraphrased)


@pytest.mark.parametrize(
    "texts",
    [
        ("Sort my mail.", "Sort my mail."),
        ("Sort my mail.", "sort  my MAIL."),
        ("Un caf\u00e9 pour moi", "un cafe pour moi"),
        ("Sort my mail.", "Sort my\u200b mail."),
    ],
    ids=["same", "case", "accent", "invisible"],
)
def test_one_wish_of_two_people_passes(reader: TextReader, texts: tuple[str, str]) -> None:
    check_descriptions(reader, described(*texts))


def test_wordings_of_one_task_may_be_alike(reader: TextReader) -> None:
    check_descriptions(
        reader, [replace(TASK, description="a \U0001f600", paraphrases=("a \U0001f389",))]
    )


def test_most_words_must_be_known(reader: TextReader) -> None:
    chinese = "\u53ea\u7ed9\u6211\u770b\u53d1\u7968"  # five of its six letters are unknown
    with pytest.raises(VocabularyError, match=r"SGL-304.*descriptions.* 5 of 6 "):
        check_descriptions(reader, described(chinese))
    check_descriptions(reader, described(chinese, "show me invoices and hotels at once"))
    words = replace(TASK, labels={"a": chinese, "b": "\u53d1\u7968"})
    with pytest.raises(VocabularyError, match="labels and hints"):
        check_candidates(reader, [words])
    pairs = tuple(Example(f"/{n}.png", chinese + "x" * n) for n in range(3))
    pictures = Task("r", "Find it.", {}, pairs, pairs, kind="retrieval", modality="image")
    with pytest.raises(VocabularyError, match="captions"):
        check_candidates(reader, [pictures])


def test_the_embedded_family_passes(reader: TextReader) -> None:
    tasks = load_family(compose(["family.several_ways=true"]).family).tasks
    check_descriptions(reader, tasks)
    check_candidates(reader, tasks)


def test_pieces_are_those_of_transformers(reader: TextReader) -> None:
    folder = resolve_minilm(None, None, None)
    texts = ["Sort my mail!", "\U0001f600 caf\u00e9", "home " * 400, "unaffable \u53ea"]
    theirs = AutoTokenizer.from_pretrained(folder)(texts, truncation=True, max_length=256)
    assert [[101, *one.pieces, 102] for one in reader.read(texts)] == theirs["input_ids"]
    assert [one.unknown for one in reader.read(texts)] == [0, 1, 0, 1]


def clip_like(folder: Path, words: Iterable[str]) -> Path:
    """A checkpoint's tokeniser and configuration; its weights are not looked at."""
    vocabulary = {word: n for n, word in enumerate(["<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    made.save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 6}}))
    return folder


def test_a_checkpoint_with_few_words_is_told_before_anything_starts(tmp_path: Path) -> None:
    pairs = tuple(Example(f"/{n}.png", f"a {c} circle") for n, c in enumerate(["red", "blue"]))
    task = Task("r", "Find it.", {}, pairs, pairs, kind="retrieval", modality="image")
    knows = BackboneConfig(name="clip", path=str(clip_like(tmp_path / "1", ["a", "circle"])))
    check_candidates(candidate_reader(knows), [task])
    lacks = BackboneConfig(name="clip", path=str(clip_like(tmp_path / "2", ["a", "dog"])))
    with pytest.raises(VocabularyError, match=r"captions.* 4 of 6 word pieces"):
        check_candidates(candidate_reader(lacks), [task])
    long = replace(TASK, labels={"a": "a circle a circle red", "b": "a circle a circle blue"})
    with pytest.raises(TextsAlikeError):  # four places are left beside the marks
        check_candidates(candidate_reader(knows), [long])


def test_the_cameras_own_clip_cannot_describe() -> None:
    """It knows captions and few other words: MiniLM reads the owners' sentences."""
    small = ("family=cameras", "family.experts=8", "family.clients_per_split=2")
    sizes = ("family.train_per_client=2", "family.test_per_client=2")
    config = compose([*small, *sizes, "backbone=cameras"])
    check_words(config.family, config.backbone)
    with pytest.raises(VocabularyError, match=r"SGL-304.*descriptions"):
        check_words(config.family, replace(config.backbone, describer="clip"))


def test_older_tokenisers_are_read_too(tmp_path: Path) -> None:
    folder = resolve_minilm(None, None, None)
    for name in ("vocab.txt", "tokenizer_config.json", "config.json"):
        shutil.copy(folder / name, tmp_path / name)
    texts = ["Sort my mail!", "\U0001f600 caf\u00e9"]
    assert TextReader(tmp_path, 256).read(texts) == TextReader(folder, 256).read(texts)


@pytest.mark.parametrize("data", [b"", b"{", b'{"model": 3}', b"\xff"])
def test_a_damaged_tokeniser_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(BackboneFileError, match=r"SGL-303.*tokenizer\.json"):
        TextReader(tmp_path, 256)

"""Hub data sets, without a network: a small fixture in their format on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sglora_fed.config import compose
from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskFileError
from sglora_fed.tasks import load_family
from sglora_fed.tasks.hub import DATASETS, hub_family
from sglora_fed.tasks.topics import (
    PlainTopic,
    TopicTable,
    Utterance,
    parse_table,
    plain_topics,
    shipped_table,
)

datasets = pytest.importorskip("datasets")

TRAIN, TEST = 6, 4
SMALL = {"rule_experts": 6, "style_experts": 12, "clients_per_split": 3, "train_per_client": 24}


def rows(names: list[str], per_intent: int, part: str) -> dict[str, list[Any]]:
    pairs = [
        (f"{part} {n} says {name}", i) for i, name in enumerate(names) for n in range(per_intent)
    ]
    return {"text": [text for text, _ in pairs], "label": [label for _, label in pairs]}


def save(folder: Path, field: str, names: list[str], **parts: dict[str, list[Any]]) -> str:
    features = datasets.Features(
        {"text": datasets.Value("string"), field: datasets.ClassLabel(names=names)}
    )
    tables = {
        part: datasets.Dataset.from_dict(
            {"text": values["text"], field: values["label"]}, features=features
        )
        for part, values in parts.items()
    }
    datasets.DatasetDict(tables).save_to_disk(str(folder))
    return str(folder)


@pytest.fixture(params=["clinc_oos", "banking77"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> FamilyConfig:
    names = [*shipped_table(request.param).topic_of, "oos"]
    path = save(
        tmp_path / "data",
        DATASETS[request.param].label,
        names,
        train=rows(names, TRAIN, "train"),
        test=rows(names, TEST, "test"),
    )
    return FamilyConfig(name="hub", dataset=request.param, path=path, **SMALL)


def test_a_saved_data_set_becomes_rules_and_styles(saved: FamilyConfig) -> None:
    family = load_family(saved)
    assert {t.split for t in family.tasks} == {
        "expert", "new_rule", "new_topic", "combo", "new_domain",
    }  # fmt: skip
    rules = [t for t in family.tasks if t.id.startswith(("rule-", "new_rule", "new_topic"))]
    texts = [e.item for task in rules for e in task.train + task.test]
    assert texts
    assert not any("oos" in text for text in texts), "out of scope belongs to no topic"
    assert all(e.item.startswith("train ") for task in rules for e in task.train)
    assert all(e.item.startswith("test ") for task in rules for e in task.test)


def test_the_default_sizes_fit_ten_topics(saved: FamilyConfig) -> None:
    overrides = ["family=hub", f"family.dataset={saved.dataset}", f"family.path={saved.path}"]
    family = load_family(compose(overrides).family)
    assert len(family.of_role("client")) == 4 * 16


def test_without_a_path_the_hub_is_asked_for_the_pinned_revision(
    saved: FamilyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``save_to_disk`` and the hub give the same family; only the way to the data differs."""
    asked: list[Any] = []
    on_disk = datasets.load_from_disk(saved.path)

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, kwargs))
        return on_disk

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = FamilyConfig(name="hub", dataset=saved.dataset, **SMALL)
    assert hub_family(config) == hub_family(saved)
    ((args, kwargs),) = asked
    source = DATASETS[saved.dataset]
    assert args == (source.id, source.config)
    assert kwargs == {"revision": source.revision}
    assert len(source.revision) == 40


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no network"),
        FileNotFoundError("no such data set"),
        ValueError("unknown configuration"),
        RuntimeError("loading scripts are refused"),
    ],
)
def test_a_hub_that_does_not_answer(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(TaskFileError, match=r"clinc/clinc_oos at revision 155b9c7.*family\.path"):
        hub_family(FamilyConfig(name="hub"))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TaskFileError, match=r"pip install 'sglora-fed\[hub\]'"):
        hub_family(FamilyConfig(name="hub"))


def test_the_extra_is_imported_only_when_needed() -> None:
    code = "import sys, sglora_fed.tasks; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def config_of(path: str) -> FamilyConfig:
    return FamilyConfig(name="hub", path=path, **SMALL)


def test_wrong_data_is_named(tmp_path: Path) -> None:
    names = list(shipped_table("clinc_oos").topic_of)
    train = rows(names, TRAIN, "train")
    with pytest.raises(TaskFileError, match=r"missing cannot be loaded"):
        hub_family(config_of(str(tmp_path / "missing")))
    with pytest.raises(TaskFileError, match=r"\['train'\]; need the parts \['train', 'test'\]"):
        hub_family(config_of(save(tmp_path / "a", "intent", names, train=train)))
    with pytest.raises(TaskFileError, match=r"lacks the fields \['intent'\]; has"):
        hub_family(config_of(save(tmp_path / "b", "topic", names, train=train, test=train)))
    foreign = [f"foreign_{n}" for n in range(8)]
    texts = rows(foreign, 2, "train")
    with pytest.raises(TaskFileError, match="none of the intents of clinc_oos"):
        hub_family(config_of(save(tmp_path / "c", "intent", foreign, train=texts, test=texts)))
    plain = datasets.Dataset.from_dict({"text": ["x"], "intent": ["transfer"]})
    plain.save_to_disk(str(tmp_path / "d"))
    with pytest.raises(TaskFileError, match="has one table; need the parts"):
        hub_family(config_of(str(tmp_path / "d")))
    datasets.DatasetDict({"train": plain, "test": plain}).save_to_disk(str(tmp_path / "e"))
    with pytest.raises(TaskFileError, match=r"field 'intent' of train .* need a ClassLabel"):
        hub_family(config_of(str(tmp_path / "e")))


# Tables and grouping


@pytest.mark.parametrize(("name", "intents"), [("clinc_oos", 150), ("banking77", 77)])
def test_shipped_tables_are_whole(name: str, intents: int) -> None:
    table = shipped_table(name)
    assert len(table.topic_of) == intents
    assert len(table.names) == 10
    assert all(len(set(names)) >= 3 for names in table.names.values())
    sizes = [list(table.topic_of.values()).count(topic) for topic in table.names]
    assert min(sizes) >= 4
    if name == "clinc_oos":
        assert sizes == [15] * 10, "Larson et al. 2019: ten domains of fifteen intents"


TABLE = TopicTable({"one": ("first",), "two": ("second",)}, {"a": "one", "b": "one", "c": "two"})


def grouped(*given: tuple[str, str, str]) -> list[PlainTopic]:
    return plain_topics([Utterance(i, text, part) for i, text, part in given], TABLE)  # type: ignore[arg-type]


def test_no_test_text_is_known_from_training() -> None:
    (topic,) = grouped(
        ("a", "Where is it?", "test"),
        ("a", "where is it", "train"),
        ("a", "other", "test"),
        ("b", "WHERE is it!", "train"),
        ("b", "b train", "train"),
        ("b", "b test", "test"),
        ("b", "b  test", "test"),
        ("b", "?!", "test"),
        ("c", "c train", "train"),
        ("c", "c test", "test"),
        ("oos", "nothing", "train"),
    )
    assert (topic.key, topic.names) == ("one", ("first",)), "topics of one intent are left out"
    first, second = topic.intents
    assert (first.train, first.test) == (("where is it",), ("other",))
    assert (second.train, second.test) == (("b train",), ("b test",))


def test_an_intent_without_test_texts_is_left_out() -> None:
    assert grouped(("a", "x", "train"), ("a", "y", "test"), ("b", "z", "train")) == []


def test_names_of_intents_are_spoken() -> None:
    table = parse_table("t: {names: [topic], intents: [Refund_not_showing_up, 'reverted_x?']}")
    given = [
        Utterance(intent, f"{intent} {part}", part)
        for intent in table.topic_of
        for part in ("train", "test")
    ]
    (topic,) = plain_topics(given, table)  # type: ignore[arg-type]
    assert [i.name for i in topic.intents] == ["refund not showing up", "reverted x"]

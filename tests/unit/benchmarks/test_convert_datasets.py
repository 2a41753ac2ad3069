"""The converter, on small files in the data sets' own format."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sglora_fed.tasks.local import local_family
from sglora_fed.tasks.topics import shipped_table
from sglora_fed.tasks.types import TaskFamily

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def converter() -> ModuleType:
    path = BENCHMARKS / "convert_datasets.py"
    spec = importlib.util.spec_from_file_location("convert_datasets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_source(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "examples.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def clinc_rows() -> list[dict[str, Any]]:
    rows = [
        {
            "text": f"{split} {n} {intent}",
            "intent": intent,
            "domain": domain,
            "split": split,
            "oos": False,
        }
        for intent, domain in shipped_table("clinc_oos").topic_of.items()
        for split in ("train", "val", "test")
        for n in range(3)
    ]
    oos = {"intent": "oos", "domain": None, "oos": True}
    return rows + [{**oos, "text": f"oos {split}", "split": split} for split in ("train", "test")]


def hwu_rows(converter: ModuleType) -> list[dict[str, Any]]:
    return [
        {
            "answerid": 1,
            "scenario": intent.split("_")[0],
            "intent": intent,
            "text": f"{part} {n} {intent}",
            "annotated": "",
            "raw": "",
            "test_folds": [1],
            "fold1": part,
        }
        for intent in converter.hwu64_table().topic_of
        for part in ("train", "test")
        for n in range(4)
    ]


def run(converter: ModuleType, name: str, rows: list[Any], folder: Path, kind: str) -> TaskFamily:
    source = write_source(folder / "source", rows)
    arguments = [name, "--source", str(source), "--out", str(folder / "out"), "--as", kind]
    assert converter.main(arguments) == 0
    return local_family(folder / "out", seed=0)


def sizes(family: TaskFamily) -> dict[str, int]:
    splits = [task.split for task in family.tasks]
    return {split: splits.count(split) for split in splits}


def test_clinc150_as_rules(
    converter: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = run(converter, "clinc150", clinc_rows(), tmp_path, "rules")
    assert sizes(family) == {"expert": 64, "new_rule": 20, "new_topic": 20}
    texts = {e.item for task in family.tasks for e in task.train + task.test}
    assert not [t for t in texts if t.startswith(("val", "oos"))]
    assert all(e.item.startswith("test") for task in family.tasks for e in task.test)
    out = capsys.readouterr().out
    assert "64 expert, 20 new_rule, 20 new_topic" in out
    assert out.strip().endswith(str(tmp_path / "out"))


def test_hwu64_as_styles_merges_scenarios_of_one_intent(
    converter: ModuleType, tmp_path: Path
) -> None:
    table = converter.hwu64_table()
    assert len(table.topic_of) == 64
    assert len(table.names) == 16
    counts = {topic: list(table.topic_of.values()).count(topic) for topic in table.names}
    assert min(counts.values()) >= 2
    merged = {i for i, t in table.topic_of.items() if t == "daily_facts"}
    assert merged == {"cooking_recipe", "news_query", "weather_query"}
    family = run(converter, "hwu64", hwu_rows(converter), tmp_path, "styles")
    assert sizes(family) == {"expert": 40, "combo": 20, "new_domain": 20}
    assert all(2 <= len(task.labels) <= 10 for task in family.tasks)


def test_the_same_call_gives_the_same_bytes(converter: ModuleType, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(converter, "hwu64", hwu_rows(converter), tmp_path / name, "rules")
    for name in ("tasks.jsonl", "examples.jsonl.gz"):
        one, two = ((tmp_path / n / "out" / name).read_bytes() for n in ("one", "two"))
        assert one == two


BAD_ROWS = [
    ({"text": "x", "intent": "transfer", "split": "dev"}, "examples.jsonl.gz:1: split is 'dev'"),
    ({"text": "", "intent": "transfer", "split": "train"}, "examples.jsonl.gz:1: text is ''"),
    ({"text": "x", "split": "train"}, "examples.jsonl.gz:1: intent is None"),
    ({"text": "x", "intent": "foreign", "split": "train"}, "none of the intents of clinc150"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS, ids=[m for _, m in BAD_ROWS])
def test_a_wrong_source_ends_with_its_place(
    converter: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    row: dict[str, Any],
    message: str,
) -> None:
    source = write_source(tmp_path / "source", [row])
    out = tmp_path / "out"
    arguments = ["clinc150", "--source", str(source), "--out", str(out), "--as", "rules"]
    assert converter.main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [("--experts=500", "too few"), ("--clients=0", "clients_per_split=0: must be")],
)
def test_impossible_sizes(
    converter: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    message: str,
) -> None:
    source = write_source(tmp_path / "source", clinc_rows())
    paths = ["--source", str(source), "--out", str(tmp_path / "out")]
    assert converter.main(["clinc150", *paths, "--as", "rules", option]) == 1
    assert message in capsys.readouterr().err

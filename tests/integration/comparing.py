"""What a finished run holds, and in what two runs may differ."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import yaml

from sglora_fed.config import compose
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.tasks import load_family
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo, read_store


def values_of(rows: list[dict[str, str]]) -> dict[tuple[str, ...], float]:
    """(client, seed, method, metric) -> value; each combination once."""
    found = {(r["client"], r["seed"], r["method"], r["metric"]): float(r["value"]) for r in rows}
    assert len(found) == len(rows)
    return found


def means_of(rows: list[dict[str, str]]) -> dict[tuple[str, str, str], float]:
    """(split, method, metric) -> mean over clients, a client's value being its mean over seeds."""
    clients: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(dict)
    for row in rows:
        cell = clients[row["split"], row["method"], row["metric"]]
        cell.setdefault(row["client"], []).append(float(row["value"]))
    return {key: fmean(map(fmean, cell.values())) for key, cell in clients.items()}


def home_of(loop: Any) -> Path:
    return Path(loop.output).parent / "home"


def zoo_folder(home: Path, seed: int = 0) -> Path:
    (folder,) = (home / "zoos").glob(f"*-seed{seed}")
    return folder


def zoo_in(home: Path, seed: int = 0) -> Zoo:
    return read_store(zoo_folder(home, seed)).load()


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder and the hash of what is in it."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def written(loop: Any) -> dict[str, Any]:
    """The configuration beside the results."""
    found: dict[str, Any] = yaml.safe_load(loop.path("config.yaml").read_text())
    return found


def tasks_of(loop: Any) -> tuple[Task, ...]:
    """All tasks of a finished run, from its own record of its configuration."""
    family = written(loop)["family"]
    told = [f"family.{name}={value}" for name, value in family.items() if value is not None]
    return load_family(compose(told).family).tasks


def unseen(loop: Any) -> tuple[Task, ...]:
    return tuple(task for task in tasks_of(loop) if task.role == "client")


def elsewhere(first: Any, loop: Any) -> Any:
    """A run in the home of the first one, whatever home the test is in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(home_of(first)))
        return loop.run()


def assert_equal_where_settings_are(run: Any, first: Any) -> None:
    """The policy alone depends on which generator is adopted, and on what there is besides."""
    expected, found = values_of(first.rows), values_of(run.rows)
    same = {key: value for key, value in found.items() if key[2] != "policy"}
    assert same == {key: expected[key] for key in same}


def assert_same_but_for_rounding(one: Zoo, other: Zoo) -> None:
    """Experts that share a batch with others differ by single precision, which training spreads."""
    assert one.ids == other.ids
    np.testing.assert_allclose(one.wordings, other.wordings, atol=1e-5)
    apart = np.linalg.norm(one.means - other.means, axis=1)
    learnt = np.linalg.norm(other.means - other.means.mean(axis=0), axis=1)
    assert (apart < 1e-3 * learnt).all()


def assert_same_accuracies(one: Any, other: Any) -> None:
    """A client's score at a tie may turn one of its 6 or 8 examples; it is not to happen often."""
    expected = values_of(other.rows)
    differences = [abs(value - expected[key]) for key, value in values_of(one.rows).items()]
    assert max(differences) < 1.5 / 6
    assert sum(difference > 0 for difference in differences) <= 1


def assert_same_confidence(one: Any, other: Any) -> None:
    """An expert's tie may be turned by rounding too, and with it a little of the probability."""
    expected, found = other.summary["confidence"], one.summary["confidence"]
    assert found.keys() == expected.keys()
    differences = np.abs([np.subtract(found[name], expected[name]) for name in expected])
    assert differences[:, :2].max() < 1e-4
    assert differences[:, 2:].max(initial=0.0) < 0.1


def private_texts(tasks: tuple[Task, ...]) -> set[str]:
    """Whatever a user wrote: descriptions, own words for labels, examples; no single words."""
    texts = {text for t in tasks for text in (t.description, *t.paraphrases)}
    hints = [words for t in tasks for words in t.hints.values()]
    texts |= {words if isinstance(words, str) else words[0] for words in hints}
    texts |= {example.item for t in tasks for example in (*t.train, *t.test)}
    return {text for text in texts if " " in text}


def requests_of(run: Any) -> dict[str, np.ndarray]:
    """Client -> the embedding that it sent."""
    return {
        name: row
        for exchange in run.of_kind(DESCRIBE)
        if len(exchange.array("embeddings"))  # who has many clients names them first
        for name, row in zip(exchange.fields()["ids"], exchange.array("embeddings"), strict=True)
    }


class InterruptionError(Exception):
    """What ends a server in the middle of its work."""


def ending_at(number: int, kind: str) -> Callable[[Any], Any]:
    """End with the given message of a kind; the node has answered, the server never hears it."""
    seen: list[Any] = []

    def between(exchange: Any) -> Any:
        seen.extend([exchange] if exchange.kind == kind else [])
        if len(seen) == number:
            raise InterruptionError
        return exchange.reply

    return between

"""Nodes of one's own with real processes: a SuperLink with TLS and node keys, two SuperNodes.

The commands are those of docs/how-to/deploy.md; the nodes are started by the lines that
``sglora-fed client init`` prints.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator

import numpy as np
import pytest

from sglora_fed.adapters.peft_io import read_peft
from small_zoo import random_zoo
from trial import Trial

OFFERED = ("generator=ridge", "privacy=privunit", "privacy.epsilon=8")
NODES = {"hall": "My camera hangs upside down.", "yard": "Red and blue are exchanged."}
LIMIT = 150.0
"""Seconds; a busy machine takes several times as long as a quiet one."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Two nodes that have their adapters, and a third whose key nobody has registered."""
    folder = tmp_path_factory.mktemp("edge") / "a trial"
    with Trial(folder, [*NODES, "stranger"]) as trial:
        random_zoo(folder / "zoo", list(OFFERED))
        trial.start_superlink()
        for name in NODES:
            trial.register(name)
        trial.serve(*OFFERED, f"zoo.path='{folder / 'zoo'}'")
        for name, words in {**NODES, "stranger": "Let me in."}.items():
            trial.connect(name, trial.make_node(name, words))
        for name in NODES:
            trial.wait(lambda name=name: trial.adopted(name), LIMIT, f"{name} has no adapter")
        trial.wait(lambda: counters(trial)["served"] == len(NODES), LIMIT, "not all are served")
        yield trial


def counters(trial: Trial) -> dict[str, int]:
    return dict(json.loads((trial.output / "counters.json").read_text()))


def test_each_node_has_an_adapter_of_its_own(served: Trial) -> None:
    adapters = {name: read_peft(served.node(name) / "adapter")[0] for name in NODES}
    assert np.abs(adapters["hall"] - adapters["yard"]).max() > 0
    told = [served.adopted(name) for name in NODES]
    assert len({one["generator_sha256"] for one in told if one}) == 1
    assert "8 of 24 spent" in served.command(
        "sglora-fed", "client", "status", str(served.node("hall"))
    )


def test_whom_nobody_registered_gets_nothing(served: Trial) -> None:
    served.wait(lambda: served.processes["stranger"].poll() is not None, LIMIT, "it stays")
    assert served.processes["stranger"].returncode != 0
    assert served.adopted("stranger") is None


def test_files_are_their_owners_alone(served: Trial) -> None:
    private = [served.folder / "state.db", served.output / "nodes.sqlite", served.output]
    private += [served.node(name) for name in NODES]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private} == {0}


def test_what_a_description_says_is_in_no_file_of_the_server(served: Trial) -> None:
    files = [path for path in served.output.rglob("*") if path.is_file()]
    files += list(served.folder.glob("state.db*"))
    words = [text.encode() for text in NODES.values()]
    assert not [path for path in files if any(text in path.read_bytes() for text in words)]


def test_a_service_that_is_stopped_says_so(served: Trial) -> None:
    assert served.stop("service") != 0
    path = served.output / "error.json"
    served.wait(path.exists, 60, "no reason was left")
    assert json.loads(path.read_text())["code"] == 803

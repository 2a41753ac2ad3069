"""The service alone: descriptions in, adapters out that clients keep, and nothing is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.errors import ConfigError, RepliesError, ResultsError
from sglora_fed.federation.adopt import ADOPT
from sglora_fed.federation.compare import COMPARE
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.federation.enrol import ENROL

MakeLoop = Callable[..., Any]


def folders(tmp_path: Path) -> list[dict[str, str]]:
    return [{"adapters": str(tmp_path / f"node {number}")} for number in range(2)]


def test_every_client_keeps_the_adapter_that_the_experiment_would_measure(
    make_fast: MakeLoop, home: Path, tmp_path: Path
) -> None:
    served = make_fast(goal="adopt", node_configs=folders(tmp_path)).run()
    assert {exchange.kind for exchange in served.exchanges} == {ENROL, DESCRIBE, ADOPT}
    told = json.loads(served.path("adopted.json").read_text())
    assert told["clients"] == told["adopted"] == 6
    measured = make_fast("experiment.methods=[ridge]", output="measured").run()
    for exchange in measured.of_kind(COMPARE):
        body: Any = exchange.request.content
        place = list(body["fields"]["made"]).index("ridge")
        adapters = body["arrays"]["adapters"].numpy()[:, place].astype(np.float32)
        for own, wanted in zip(body["fields"]["ids"], adapters, strict=True):
            (folder,) = tmp_path.glob(f"node */{own}")
            np.testing.assert_allclose(read_peft(folder)[0], wanted, atol=1e-6)


def test_a_node_without_a_folder_keeps_nothing_and_says_so(make_fast: MakeLoop, home: Path) -> None:
    with pytest.raises(RepliesError, match=f"0 usable.*code {ResultsError.code}"):
        make_fast(goal="adopt").run()


def test_a_node_that_is_away_costs_the_others_nothing(
    make_fast: MakeLoop, home: Path, tmp_path: Path
) -> None:
    def between(exchange: Any) -> Any:
        gone = exchange.kind == ADOPT and exchange.partition == 1
        return None if gone else exchange.reply

    told = {"goal": "adopt", "node_configs": folders(tmp_path), "between": between}
    served = make_fast("federation.timeout=3", **told).run()
    assert json.loads(served.path("adopted.json").read_text()) == {"clients": 6, "adopted": 3}


def test_an_unknown_goal_is_refused_by_its_name(make_fast: MakeLoop, home: Path) -> None:
    with pytest.raises(ConfigError, match="goal='stay': must be one of run, zoo, adopt, serve"):
        make_fast(goal="stay").run()

"""Help and refusals import none of the large libraries, and a node none that it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from sglora_fed.cli import main
try:
    main()
finally:
    print(*sys.modules, sep="\\n")
"""


def loaded(program: str, *arguments: str) -> set[str]:
    """Names of the modules that a program has loaded at its end."""
    command = [sys.executable, "-c", program, *arguments]
    return set(subprocess.run(command, capture_output=True, text=True).stdout.splitlines())


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "simulate --help",
        "generate --help",
        "simulate generator=nonsense",
        "simulate no.such=1",
        "simulate family=local family.path=/nonexistent",
        "sweep adapter.rank=2,0",
        "report /nonexistent",
        "zoo build adapter.rank=0",
        "zoo list /nonexistent",
        "audit nonsense",
        "audit --json /nonexistent/file",
        "zoo verify /nonexistent --key /nonexistent",
        "zoo remove /nonexistent somebody",
        "zoo export /nonexistent --zoo /nonexistent",
        "serve /nonexistent --insecure",
        "generate words --zoo /nonexistent --out /nonexistent",
    ],
)
def test_what_is_refused_costs_little(command: str) -> None:
    found = loaded(PROGRAM, *command.split())
    assert "sglora_fed.cli" in found
    heavy = {"torch", "flwr", "transformers", "matplotlib", "scipy", "peft", "dp_accounting"}
    assert not found & heavy


NOT_ON_A_NODE = {"matplotlib", "scipy.stats", "scipy.cluster", "sglora_fed.report"}
"""The server draws and tests hypotheses when all is done."""


@pytest.mark.parametrize(("app", "besides"), [("client.app", NOT_ON_A_NODE), ("server.app", set())])
def test_an_app_does_not_load_what_its_run_does_not_use(app: str, besides: set[str]) -> None:
    found = loaded(f"import sys, {app}; print(*sys.modules, sep='\\n')")
    assert app in found
    assert not found & ({"sglora_fed.backbones.clip", "dp_accounting", "mlflow"} | besides)


EXCHANGES = """
import sys
import numpy as np
import client.app
from sglora_fed.config import compose
from sglora_fed.edge.answering import OwnersNode
from sglora_fed.edge.measuring import measured
from sglora_fed.privacy.floor import UNTOLD
from sglora_fed.tasks import load_family
config = compose([f"experiment={sys.argv[1]}"])
task = load_family(config.family).of_role("client")[0]
node = OwnersNode(config, 0, 1, None, UNTOLD, task)
node.embed([task.description])
measured(node, task, np.zeros(node.layout.size, np.float32))
print(*sys.modules, sep="\\n")
"""


@pytest.mark.parametrize("experiment", ["assistant", "cameras"])
def test_a_node_of_ones_own_describes_and_measures_without_torch(experiment: str) -> None:
    found = loaded(EXCHANGES, experiment)
    assert "sglora_fed.backbones.arithmetic" in found
    heavy = {"torch", "transformers", "scipy", "peft", "sglora_fed.generators", "sglora_fed.zoo"}
    assert not found & (NOT_ON_A_NODE | heavy)

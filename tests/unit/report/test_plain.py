"""Figures come out the same whatever the user's environment asks of matplotlib."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from sglora_fed.report.figures import draw_figures

DRAW = """
from sglora_fed.report.plain import plain_matplotlib
with plain_matplotlib():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.suptitle("some words")
    figure.savefig("figure.png")
import os, matplotlib
print(os.environ.get("MPLBACKEND"), matplotlib.rcParams["text.usetex"])
"""


def test_a_user_who_wants_latex_gets_the_same_figures(run) -> None:
    plain = draw_figures(*run)
    with matplotlib.rc_context({"text.usetex": True, "font.size": 30}):
        assert draw_figures(*run) == plain
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("backend", ["module://nowhere.backend_inline", "inline", "nonsense"])
def test_a_notebooks_backend_and_a_matplotlibrc_for_latex_are_left_alone(
    backend: str, tmp_path: Path
) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    env = os.environ | {"MPLBACKEND": backend, "PATH": ""}
    told = subprocess.run(
        [sys.executable, "-c", DRAW], cwd=tmp_path, env=env, capture_output=True, check=False
    )
    assert told.returncode == 0, told.stderr.decode()
    assert told.stdout.decode().split() == [backend, "True"]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_line_starts_in_a_notebook() -> None:
    env = os.environ | {"MPLBACKEND": "nonsense"}
    code = "from sglora_fed.cli import main; main()"
    command = [sys.executable, "-c", code, "--help"]
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "simulate" in told.stdout

"""A user's own module is known in every process that composes a configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sglora_fed.config import compose
from sglora_fed.config.plugins import PLUGINS
from sglora_fed.errors import ConfigError

PLUGIN = """
from sglora_fed.generators import register_generator
from sglora_fed.generators.merges import Merge

register_generator("mine", lambda config: Merge("soup", config))
"""

PROGRAM = """
from sglora_fed.config import compose
from sglora_fed.generators import make_generator

for _ in range(2):
    config = compose(["generator.name=mine", "experiment.methods=[zero_shot,mine]"])
print(make_generator(config.generator).name)
"""


def test_another_process_knows_the_generator_of_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(PLUGIN)
    env = os.environ | {PLUGINS: f"own.py{os.pathsep}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout == "soup\n", done.stderr
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert "must be one of" in done.stderr


def test_a_plugin_that_is_not_there_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLUGINS, str(tmp_path / "gone.py"))
    with pytest.raises(ConfigError, match=r"gone\.py"):
        compose([])

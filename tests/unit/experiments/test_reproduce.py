"""The printed command gives the same configuration again."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.config import compose
from sglora_fed.config.plugins import PLUGINS
from sglora_fed.experiments.reproduce import command


def again(config):
    """What the shell and the command line make of the printed command."""
    program, action, *overrides = shlex.split(command(config))
    assert (program, action) == ("sglora-fed", "simulate")
    return compose(overrides)


def test_the_default_needs_no_overrides():
    assert command(compose()) == "sglora-fed simulate"


@pytest.mark.parametrize(
    "overrides",
    [
        ["generator=sglora", "seeds=[0,1,2]"],
        ["experiment=quick", "adapter.layers=[]"],
        ["privacy=gaussian", "privacy.epsilon=4", "privacy.delta=1e-6"],
        ["family=local", "family.path='/data/my tasks'", "zoo.path=zoos/a"],
    ],
)
def test_any_configuration_comes_back(overrides):
    config = compose(overrides)
    assert config != compose()
    assert again(config) == config


DEFAULT = compose()


@settings(max_examples=12, deadline=None)
@given(st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="$"), min_size=1))
def test_any_name_comes_back(name):
    assert again(replace(DEFAULT, name=name)).name == name


def test_plugins_come_back_from_any_folder(tmp_path, monkeypatch):
    folder = tmp_path / "my own; $HOME 'code'"
    folder.mkdir()
    for name in ("one.py", "two.py"):
        (folder / name).write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.setenv(PLUGINS, os.pathsep.join(["one.py", str(folder / "two.py")]))
    told = command(compose(["seeds=[5]"]))
    assert told.endswith(" sglora-fed simulate 'seeds=[5]'")
    asked = told.replace("sglora-fed simulate 'seeds=[5]'", f"printenv {PLUGINS}")
    heard = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, cwd="/", check=True)
    assert heard.stdout.strip().split(os.pathsep) == [
        str(folder / name) for name in ("one.py", "two.py")
    ]


@pytest.mark.parametrize("name", ["null", "true", "12", "1e3", "a b", "it's", "back\\", "a\\'b"])
def test_names_that_look_like_something_else_come_back(name):
    assert again(replace(DEFAULT, name=name)).name == name

"""A key is a digest of all that went in: of what it was, never of where it lay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout
from sglora_fed.config import compose
from sglora_fed.federation.layouts import run_layout
from sglora_fed.kept.adapters import keep_shared, kept_shared
from sglora_fed.kept.facts import confidence_facts, generator_facts, shared_facts
from sglora_fed.kept.store import digest, kept_path, kept_versions
from sglora_fed.kept.zoos import zoo_identity, zoo_path
from sglora_fed.tasks import load_family
from sglora_fed.tasks.export import write_family
from sglora_fed.zoo import Zoo

MakeZoo = Callable[..., Zoo]

SMALL = (
    "experiment=assistant",
    *("family.rule_experts=3", "family.style_experts=0", "family.clients_per_split=1"),
    *("family.train_per_client=4", "family.test_per_client=2"),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def layout() -> Layout:
    return run_layout(compose(SMALL))


def key_of(layout: Layout, *overrides: str) -> tuple[str, str]:
    """The folder of a zoo, and what it must have been made for."""
    config = compose(overrides)
    identity = zoo_identity(config, layout, 0)
    return zoo_path(config, layout, 0).name, identity.config_sha256 + identity.tasks_sha256


def test_one_folder_has_one_zoo_however_its_path_is_written(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(load_family(compose(SMALL).family), tmp_path / "tasks")
    (tmp_path / "link").symlink_to(tmp_path / "tasks")
    shutil.copytree(tmp_path / "tasks", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    spelt = [
        str(tmp_path / "tasks"),
        f"{tmp_path}/tasks/",
        f"{tmp_path}//tasks",
        f"{tmp_path}/link/../tasks",
        f"{tmp_path}/link",
        f"{tmp_path}/moved",
        "tasks",
    ]
    keys = {key_of(layout, "family=local", f"family.path={path}") for path in spelt}
    assert len(keys) == 1


def test_changed_examples_are_another_zoo(tmp_path: Path, layout: Layout) -> None:
    family = load_family(compose(SMALL).family)
    for name, tasks in (("one", family.tasks), ("other", family.tasks[1:])):
        write_family(replace(family, tasks=tasks), tmp_path / name)
    keys = {key_of(layout, "family=local", f"family.path={tmp_path / n}") for n in ("one", "other")}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("family.clients_per_split=2", True),
        ("experiment.controls=false", True),
        ("generator=ridge", True),
        ("backbone.device=auto", True),
        ("family.seed=1", False),
        ("adapter.train.lr=0.001", False),
        ("adapter.hints=none", False),
        ("backbone.scale=7", False),
        ("family.train_per_client=6", False),
    ],
)
def test_a_zoo_depends_on_what_experts_learn_from_alone(
    layout: Layout, override: str, same: bool
) -> None:
    assert (key_of(layout, *SMALL) == key_of(layout, *SMALL, override)) is same


def test_a_plugin_that_changed_makes_everything_anew(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for number, text in enumerate(("A = 1", "A = 2", "A = 1")):
        plugin = tmp_path / f"plugin_{number}.py"
        plugin.write_text(text)
        monkeypatch.setenv("SGLORA_FED_PLUGINS", str(plugin))
        keys.append(key_of(layout, *SMALL))
    assert keys[0] == keys[2] != keys[1]


Facts = Callable[[object, Layout, Zoo], dict[str, object]]


@pytest.mark.parametrize("setting", ["neighbours=2", "temperature=0.5", "smoothing=0.9"])
def test_a_kept_generator_is_one_of_its_own_settings(
    make_zoo: MakeZoo, layout: Layout, setting: str
) -> None:
    """Its similarity and entropy depend on these too, and with them the policy."""
    zoo, (one, other) = make_zoo(), (compose(SMALL), compose([*SMALL, f"generator.{setting}"]))
    facts = [generator_facts(config, "functional", layout, zoo, 0) for config in (one, other)]
    assert digest(facts[0]) != digest(facts[1])
    sure = [confidence_facts(config, layout, zoo, 0) for config in (one, other)]
    assert digest(sure[0]) != digest(sure[1])
    shared = [shared_facts(config, layout, zoo, 0) for config in (one, other)]
    assert shared[0] == shared[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda zoo: replace(zoo, means=zoo.means + 1),
        lambda zoo: replace(zoo, task_digests=("1",) * len(zoo.ids)),
        lambda zoo: replace(zoo, owners=("a",) * len(zoo.ids)),
        lambda zoo: zoo.select(np.arange(len(zoo.ids) - 1)),
    ],
)
def test_what_experts_train_is_theirs(
    make_zoo: MakeZoo, layout: Layout, change: Callable[[Zoo], Zoo]
) -> None:
    config, zoo = compose(SMALL), make_zoo()
    assert shared_facts(config, layout, zoo, 0) != shared_facts(config, layout, change(zoo), 0)


def test_what_was_made_without_somebody_does_not_stand_in_for_the_whole(
    layout: Layout, make_zoo: MakeZoo
) -> None:
    config = compose(SMALL)
    facts = shared_facts(config, layout, make_zoo(), 0)
    partial, whole = (np.full(layout.size, value, np.float32) for value in (1.0, 2.0))
    keep_shared(partial, layout, config, facts, ["e001"])
    assert kept_shared(facts, layout) is None
    keep_shared(whole, layout, config, facts, [])
    kept = kept_shared(facts, layout)
    assert kept is not None
    np.testing.assert_array_equal(kept, whole)


def test_the_whole_comes_first_and_then_the_newest(home: Path) -> None:
    facts = {"a": 1}
    paths = [kept_path("thing", facts, ".x", absent) for absent in (["p"], ["q", "r"], [])]
    assert len(set(paths)) == 3
    for age, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (100 + age, 100 + age))
    other = kept_path("thing", {"a": 2}, ".x")
    other.write_text("")
    assert kept_versions("thing", facts, ".x") == [paths[2], paths[1], paths[0]]
    assert kept_path("thing", facts, ".x", ["r", "q"]) == paths[1]


def test_the_order_of_names_is_no_fact() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [2, 1]}) != digest({"b": [1, 2], "a": 1})

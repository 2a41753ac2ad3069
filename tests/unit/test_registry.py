"""Names of one kind: ours are imported when asked for, others are added."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sglora_fed.config.schema import BACKBONES, FAMILIES, GENERATORS, ITEMS, MECHANISMS
from sglora_fed.errors import TaskError
from sglora_fed.registry import Registry


@pytest.mark.parametrize("ours", [FAMILIES, BACKBONES, GENERATORS, MECHANISMS])
def test_all_that_is_ours_is_where_it_is_said_to_be(ours: Registry) -> None:
    assert ours
    assert all(callable(ours.get(name)) for name in ours)


def test_every_backbone_says_what_its_items_are() -> None:
    assert set(ITEMS) == set(BACKBONES)
    for name in BACKBONES:
        module = sys.modules[BACKBONES.get(name).__module__]
        modalities = {kind.modality for kind in vars(module).values() if hasattr(kind, "modality")}
        assert modalities == {ITEMS[name]}


def test_names_cost_no_import() -> None:
    program = (
        "import sys; from sglora_fed.config.schema import GENERATORS;"
        "print(list(GENERATORS), 'sglora_fed.generators' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{list(GENERATORS)} False\n", done.stderr


class TestOwn:
    @pytest.fixture
    def kinds(self) -> Registry:
        return Registry("kind", TaskError, {"ours": "math:sqrt"})

    def test_what_is_added_is_found(self, kinds: Registry) -> None:
        kinds.add("mine", str.upper)
        assert list(kinds) == ["ours", "mine"]
        assert len(kinds) == 2
        assert kinds.get("mine")("a") == "A"
        assert kinds.get("ours")(9) == 3

    def test_a_name_is_taken_once(self, kinds: Registry) -> None:
        with pytest.raises(TaskError, match=r"'ours' is taken; there are \['ours'\]"):
            kinds.add("ours", str.upper)

    def test_an_unknown_name_lists_the_known(self, kinds: Registry) -> None:
        assert "mine" not in kinds
        with pytest.raises(TaskError, match=r"unknown kind 'mine'; there are \['ours'\]"):
            kinds.get("mine")

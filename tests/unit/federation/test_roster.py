"""What a node may say of itself, and what it cannot take back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sglora_fed.config.schema import FederationConfig
from sglora_fed.errors import MessageError
from sglora_fed.federation.roster import Part, Roster, another_name
from sglora_fed.tasks.types import IDENTIFIER

CONFIG = FederationConfig(experts_per_node=3, clients_per_node=2)
Say = Callable[[Part, int, tuple[str, ...]], Any]


@pytest.mark.parametrize(("about", "most"), [("experts", 3), ("clients", 2)])
def test_a_node_owns_so_many_and_no_more(said: Say, about: Part, most: int) -> None:
    Roster(CONFIG).admit(7, said(about, 0, tuple("abcdef"[:most])))
    with pytest.raises(MessageError, match=f"{most + 1} {about}; a node has at most {most}"):
        Roster(CONFIG).admit(7, said(about, 0, tuple("abcdef"[: most + 1])))


def test_what_a_node_says_first_binds_it(said: Say) -> None:
    roster = Roster(CONFIG)
    roster.admit(7, said("experts", 4, ("a", "b")))
    roster.admit(7, said("experts", 4, ("b",)))
    roster.admit(7, said("clients", 4, ("x",)))
    with pytest.raises(MessageError, match="1 experts that the node did not name"):
        roster.admit(7, said("experts", 4, ("b", "c")))
    with pytest.raises(MessageError, match="partition 3; it was 4"):
        roster.admit(7, said("experts", 3, ("a",)))


def test_a_refused_reply_binds_nobody(said: Say) -> None:
    roster = Roster(CONFIG)
    with pytest.raises(MessageError):
        roster.admit(7, said("experts", 4, tuple("abcd")))
    roster.admit(7, said("experts", 5, ("e",)))


def test_nodes_may_use_the_same_ids(said: Say) -> None:
    roster = Roster(CONFIG)
    for node in (7, 8):
        roster.admit(node, said("experts", 0, ("a",)))
    roster.enlist(7, "a", "a")
    roster.enlist(8, "a", "a.1f")
    assert roster.own_ids(["a", "a.1f"]) == ("a", "a")
    assert roster.by_node(["a.1f", "a"]) == {7: ["a"], 8: ["a.1f"]}
    assert roster.names(8, ["a"]) == ["a.1f"]
    assert roster.present(["gone", "a.1f"]) == ["a.1f"]


def test_equal_partitions_are_ordered_by_node_whoever_answers_first(said: Say) -> None:
    """On edge nodes all claim 0: the order of arrival must not decide sums."""
    roster = Roster(CONFIG)
    for node in (9, 3, 5):
        roster.admit(node, said("experts", 0, (f"e{node}",)))
        roster.enlist(node, f"e{node}", f"e{node}")
    assert list(roster.by_node(["e9", "e5", "e3"])) == [3, 5, 9]


def test_what_a_node_said_binds_it_for_all_seeds(said: Say) -> None:
    """A zoo is another for each seed, who owns what is not."""
    roster = Roster(CONFIG)
    roster.admit(7, said("experts", 4, ("a", "b")))
    roster.enlist(7, "a", "a")
    again = roster.of_another_zoo()
    assert again.owners == {}
    again.admit(7, said("experts", 4, ("a", "b")))
    with pytest.raises(MessageError, match="partition 0; it was 4"):
        again.admit(7, said("experts", 0, ("a", "b")))
    with pytest.raises(MessageError, match="1 experts that the node did not name"):
        again.admit(7, said("experts", 4, ("c",)))


def test_a_clients_name_is_its_own_for_the_whole_run() -> None:
    """Who comes first in a later seed takes nobody's name."""
    roster = Roster(CONFIG)
    assert [roster.client_name(7, "a"), roster.client_name(8, "a")] == ["a", "a.2"]
    again = roster.of_another_zoo()
    names = [again.client_name(*who) for who in ((9, "a"), (8, "a"), (9, "a.2"), (7, "a"))]
    assert names == ["a.3", "a.2", "a.2.2", "a"]
    assert roster.client_name(9, "A") == "A"


def test_a_node_with_many_experts_does_not_take_all_places() -> None:
    roster, rng = Roster(FederationConfig()), np.random.default_rng(0)
    names = [f"e{number:03}" for number in range(120)]
    for number, name in enumerate(names):
        roster._partitions[number % 5] = number % 5
        roster.enlist(number % 5, name, name)
    assert roster.taking_part(names, rng) == names
    many = [f"liar{number:04}" for number in range(1000)]
    for name in many:
        roster.enlist(4, name, name)
    found = roster.taking_part([*names, *many], rng)
    assert [roster.owners[name] for name in found].count(4) == 2 * 24
    assert set(names) - set(found) <= set(names[4::5])
    assert len(set(found)) == len(found) == 4 * 24 + 48
    assert roster.taking_part([], rng) == []


def test_other_names_are_identifiers_however_long_the_own_one_is() -> None:
    for own in ("a", "a" * 64):
        assert IDENTIFIER.fullmatch(another_name(own, "1" * 32))
    assert another_name("a", "1f") == "a.1f"

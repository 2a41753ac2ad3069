"""A node's file: written and read back the same, everything wrong in it refused by name."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.edge.settings import FILE, OwnNode, is_own, node_toml, read_node
from sglora_fed.edge.starting import Connection, make_node, promise, shell_line, supernode_command
from sglora_fed.errors import FloorError, NodeFileError
from sglora_fed.privacy.floor import read_floor

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).map(lambda text: f"a{text}")


def written(folder: Path, text: str) -> Path:
    path = folder / FILE
    path.write_text(text, encoding="utf-8")
    return path


@given(description=TEXT, labels=st.dictionaries(TEXT, TEXT, min_size=2, max_size=4))
def test_any_words_are_read_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, description: str, labels: dict[str, str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    node = OwnNode(folder / FILE, description, "me", labels, (), folder / "data")
    path = written(folder, node_toml(node, {"mechanisms": ["none"]}))
    assert read_node(path) == node
    assert is_own(path)
    assert read_floor(path).mechanisms == ("none",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table"),
        ("[node]\n", "description is empty"),
        ("[node]\ndescription = 3\n", "description=3"),
        ('[node]\ndescription = "\u200b"\n', "empty"),
        ('[node]\ndescription = "x"\nname = "a b"\n', "name='a b'"),
        ('[node]\ndescription = "x"\ncolour = "red"\n', "colour"),
        ('[node]\ndescription = "x"\ncaptions = ["one"]\n', "1 labels or captions"),
        ('[node]\ndescription = "x"\ncaptions = "one"\n', "list of texts"),
        ('[node]\ndescription = "x"\n[node.labels]\na = 1\nb = 2\n', "table of texts"),
        ("[node", "cannot be read"),
        ("x" * 2**20 + "x", "larger"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(NodeFileError, match=words):
        read_node(written(tmp_path, text))


def test_a_file_that_only_promises_is_no_node_of_ones_own(tmp_path: Path) -> None:
    assert not is_own(written(tmp_path, '[privacy]\nmechanisms = ["none"]\n'))
    with pytest.raises(NodeFileError):
        is_own(tmp_path / "missing.toml")


def test_a_new_folder_is_its_owners_alone_and_says_nothing_in_clear(tmp_path: Path) -> None:
    node = OwnNode(tmp_path / "mine" / FILE, "words")
    make_node(node, promise(False, {"epsilon": 2.0}))
    floor = read_floor(node.file)
    assert "none" not in floor.mechanisms
    assert (floor.epsilon, floor.budget and floor.budget.epsilon) == (2.0, 24.0)
    assert floor.opened().spent(node.name) == (0, 0)
    modes = {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in (node.folder, *node.folder.rglob("*"))}
    assert modes == {0}
    with pytest.raises(NodeFileError, match="not empty"):
        make_node(node, promise(True, {}))


def test_a_delta_of_0_is_no_forgotten_one(tmp_path: Path) -> None:
    node = OwnNode(tmp_path / "mine" / FILE, "words")
    assert make_node(node, promise(False, {"delta": 0.0, "epsilon": None})).delta == 0


@pytest.mark.parametrize(
    "given", [{"epsilon": -1.0}, {"epsilon": 0.0}, {"total_epsilon": 0.0}, {"delta": 1.0}]
)
def test_an_impossible_promise_leaves_nothing_behind(
    tmp_path: Path, given: dict[str, float | None]
) -> None:
    node = OwnNode(tmp_path / "mine" / FILE, "words")
    with pytest.raises(FloorError):
        make_node(node, promise(False, given))
    assert not node.folder.exists()


def test_the_command_names_key_and_certificate_or_says_that_it_is_insecure(tmp_path: Path) -> None:
    node = OwnNode(tmp_path / "a b" / FILE, "words")
    for name in ("ca.crt", "node.key"):
        (tmp_path / name).touch()
    safe = shell_line(node, Connection("host:8000", 9094, tmp_path))
    assert f"'node=\"{node.file}\"'" in safe
    assert "--insecure" not in safe
    assert "node.key" in safe
    assert safe.startswith("umask 077;")
    assert "--insecure" in supernode_command(node, Connection("host:8000", 9094, None))
    odd = OwnNode(tmp_path / "it's" / FILE, "words")
    with pytest.raises(NodeFileError, match="quote"):
        supernode_command(odd, Connection("host:8000", 9094, None))

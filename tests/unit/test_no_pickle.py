"""Nothing of ours can read a pickle: no module imports what does, none calls what may.

Other people's libraries are not looked into: torch and others can read pickles, if somebody asks
them to.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"torch": {"load"}, "np": {"load"}, "numpy": {"load"}, "pd": {"read_pickle"}}
"""Module, by the name that it has in a file -> functions of it that read pickles."""

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("sglora_fed", "server", "client")
    for path in (ROOT / package).rglob("*.py")
}


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def named(path: Path) -> Iterator[str]:
    """All modules that a file imports, wherever it does, and what of ours they may be."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(path: Path) -> Iterator[str]:
    """Functions of ``CALLS`` that a file names, and arguments that let NumPy read pickles."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in CALLS.get(node.value.id, ()):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield node.arg


def reachable(root: str) -> set[str]:
    """Modules of ours that a module imports, or whose functions import, directly or not."""
    found, waiting = set[str](), [root]
    while waiting:
        name = waiting.pop()
        if name in MODULES and name not in found:
            found.add(name)
            parents = [name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)]
            waiting += [*named(MODULES[name]), *parents]
    return found


@pytest.mark.parametrize(
    "root",
    ["server.app", "client.app", "sglora_fed.serving.run", "sglora_fed.serving.client"],
)
def test_no_pickle_is_reachable(root: str) -> None:
    modules = reachable(root)
    assert len(modules) > 20
    for module in modules:
        tops = {name.partition(".")[0] for name in named(MODULES[module])}
        assert not tops & FORBIDDEN, module


def test_nothing_of_ours_reads_one() -> None:
    assert len(MODULES) > 100
    for path in MODULES.values():
        assert not {name.partition(".")[0] for name in named(path)} & FORBIDDEN, path
        assert not list(called(path)), path


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    lines = ("import pickle as p", "torch.load(x)", "g(x, allow_pickle=1)")
    file.write_text("def f(x):\n" + "".join(f"    {line}\n" for line in lines))
    assert list(named(file)) == ["pickle"]
    assert list(called(file)) == ["torch.load", "allow_pickle"]

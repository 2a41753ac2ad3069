"""Imports point one way, those for types alone and those within functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sglora_fed

ROOT = Path(sglora_fed.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}
BELOW = {"results": {"report", "experiments"}, "report": {"experiments"}}
"""Package -> packages that it must not know of."""


def imported(path: Path) -> Iterator[str]:
    """Modules of this package that a file names anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in within if name in MODULES]
            yield from found
            if len(found) < len(within):
                yield node.module


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: set(imported(path)) for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(("package", "above"), BELOW.items())
def test_lower_packages_do_not_know_of_those_above(package: str, above: set[str]) -> None:
    inside = [path for name, path in MODULES.items() if name.startswith(f"sglora_fed.{package}.")]
    known = {name.split(".")[1] for path in inside for name in imported(path) if "." in name}
    assert inside
    assert not known & above

"""Every script stands in the README, and none imports itself by way of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SCRIPTS = {path.stem: path for path in BENCHMARKS.glob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """Other scripts that a file names anywhere, for types alone too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from {node.module} & set(SCRIPTS)
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & set(SCRIPTS)


def test_no_script_imports_itself_by_way_of_others() -> None:
    graph = {name: set(imported(path)) for name, path in SCRIPTS.items()}
    assert graph["study"] >= {"machine", "study_replies", "study_tables"}
    TopologicalSorter(graph).prepare()


def test_the_readme_has_each_command_and_each_results_file() -> None:
    readme = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    commands = {name for name, path in SCRIPTS.items() if '"__main__"' in path.read_text("utf-8")}
    assert not {name for name in commands if f"benchmarks/{name}.py" not in readme}
    named = {word.strip("`(),;|") for word in readme.split() if "benchmarks/" in word}
    assert not {name for name in named if name.endswith(".py") and Path(name).stem not in SCRIPTS}
    kept = {path.name for path in (BENCHMARKS / "results").iterdir()}
    assert not {name for name in kept if name not in readme}

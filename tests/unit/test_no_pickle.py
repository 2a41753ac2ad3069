"""Nothing of ours unpickles: what a message or a file holds can run no code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    path for part in ("sglora_fed", "server", "client") for path in (ROOT / part).rglob("*.py")
]
UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 200


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & UNPICKLES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in UNPICKLES
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            # Their own readers of files, which unpickle or may be told to.
            assert (node.value.id, node.attr) not in {("torch", "load"), ("np", "load")}
        elif isinstance(node, ast.keyword):
            assert node.arg not in {"allow_pickle", "weights_only"}

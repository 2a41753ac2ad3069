"""Every test that the threat model names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/explanation/threats.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`((?:unit|integration|e2e)/[\w/]+\.py)(?:::([\w:]+))?`")


def defined(body: list[ast.stmt], before: str = "") -> set[str]:
    """Tests of a module as pytest names them."""
    found = set()
    for part in body:
        if isinstance(part, ast.ClassDef):
            found |= defined(part.body, f"{part.name}::")
        elif isinstance(part, ast.FunctionDef) and part.name.startswith("test_"):
            found.add(before + part.name)
    return found


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for path, name in NAMED.findall(PAGE):
        file = ROOT / "tests" / path
        tests = defined(ast.parse(file.read_text(encoding="utf-8")).body) if file.exists() else []
        if not tests or (name and name not in tests):
            missing.append(f"{path}::{name}")
    assert not missing


def test_every_threat_has_its_test() -> None:
    """A row of a table names one; a plug-in is code, and no test can keep it from anything."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
    rows = [line for line in lines if line.count(" | ") == 2]  # figures have more columns
    for row in rows:
        last = row.rstrip("| ").rsplit("|", 1)[1].strip()
        assert NAMED.search(last) or last in ("test", "none"), row
    assert len(NAMED.findall(PAGE)) > 40

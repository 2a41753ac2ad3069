"""What the guided fuzzing checks of each body, without the fuzzer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from sglora_fed.serving import wire


@pytest.mark.parametrize("name", ["request", "reply"])
def test_honest_bodies_are_taken_and_cut_ones_refused(
    script: Callable[[str], ModuleType], results: Path, name: str
) -> None:
    target, honest = script("fuzz_atheris").TARGETS[name]
    bodies = honest(wire)
    assert [target(wire, body) for body in bodies] == ["taken"] * len(bodies)
    assert {target(wire, body[:-1]) for body in bodies} == {"refused"}
    assert target(wire, b"") == "refused"

"""Benchmarks are scripts: they are loaded by path, and find their neighbours as when they run."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="session")
def script() -> Iterator[Callable[[str], ModuleType]]:
    """A function from the name of a benchmark to its module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture(scope="session")
def by_path() -> Callable[[str], ModuleType]:
    """A function from a path below ``benchmarks`` to a module whose name is nobody else's."""

    def load(path: str) -> ModuleType:
        name = "benchmark_" + path.removesuffix(".py").replace("/", "_")
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def results(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where benchmarks write in a test."""
    monkeypatch.setattr(script("machine"), "RESULTS", tmp_path)
    return tmp_path

"""The reference pages say what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from sglora_fed import errors
from sglora_fed.config import compose
from sglora_fed.config.building import option_types
from sglora_fed.config.schema import RunConfig

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "reference" / "configuration.md").read_text()


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_reference", DOCS / "generate_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_up_to_date(generator: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_noticed(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "REFERENCE", tmp_path)
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    (tmp_path / "errors.md").write_text("old")
    assert generator.main(["--check"]) == 1


def test_documented_options_can_be_set_to_their_documented_defaults() -> None:
    options = re.findall(r"^\| `([a-z_.]+)` \| [^|]+ \| `([^`]*)` \|", PAGE, re.MULTILINE)
    assert len(options) > 50
    told = [f"{name}={value}" for name, value in options]
    assert compose(["experiment=assistant", *told]) == RunConfig()


def test_every_error_has_its_own_code_and_a_way_out() -> None:
    text = (DOCS / "reference" / "errors.md").read_text()
    known = [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, errors.SgloraError)
    ]
    codes = [item.code for item in known]
    assert len(set(codes)) == len(codes)
    for kind in set(known) - {errors.SgloraError}:
        assert "resolve" in vars(kind), kind
        assert f"## SGL-{kind.code}\n\n`{kind.__name__}`" in text


def test_errors_that_are_resolved_by_an_option_name_a_real_one() -> None:
    options = option_types()
    groups = "|".join(("family", "backbone", "adapter", "zoo", "generator", "federation"))
    text = (DOCS / "reference" / "errors.md").read_text()
    named = re.findall(rf"\b((?:{groups})\.[a-z_.]*[a-z])\b", text)
    assert len(named) > 5
    assert set(named) <= set(options)

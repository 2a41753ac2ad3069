"""``sglora-fed family``, from the command line to the folder."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from sglora_fed.cli import app
from sglora_fed.config import compose
from sglora_fed.privacy.catalogue import read_catalogue
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.tasks import load_family

SMALL = ["family=cameras", "family.experts=6", "family.clients_per_split=1"]
FEW = ["family.train_per_client=3", "family.test_per_client=4"]


def test_what_is_exported_is_read_as_own_data(tmp_path: Path) -> None:
    folder = tmp_path / "cameras"
    result = CliRunner().invoke(app, ["family", "export", str(folder), *SMALL, *FEW])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == ["6 experts and 3 clients of cameras", str(folder)]
    read = load_family(compose(["family=local", f"family.path='{folder}'"]).family)
    mine = load_family(compose([*SMALL, *FEW]).family)
    assert [(t.id, t.description, t.split, t.role) for t in read.tasks] == [
        (t.id, t.description, t.split, t.role) for t in mine.tasks
    ]
    listed = read_catalogue(folder / "catalogue.json")
    assert listed.sha256 == catalogue_of("cameras").sha256
    # Those of `new_words` have the pictures of `new_combination`.
    assert len(list((folder / "images").glob("*.png"))) == 6 * 3 + 2 * (3 + 4)


def test_text_families_too(tmp_path: Path) -> None:
    few = ["family.rule_experts=4", "family.style_experts=0", "family.clients_per_split=2"]
    command = ["family", "export", str(tmp_path), "family=assistant", *few]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    read = load_family(compose(["family=local", f"family.path='{tmp_path}'"]).family)
    assert len(read.of_role("expert")) == 4

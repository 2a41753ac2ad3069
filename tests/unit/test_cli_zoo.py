"""A zoo in operation, by the command line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.config import compose
from sglora_fed.errors import ZooSignatureError
from sglora_fed.experiments.run import enrolled
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.node import run_layout
from sglora_fed.federation.roster import Roster
from sglora_fed.generators.export import read_export
from sglora_fed.kept.zoos import zoo_identity
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.zoo import Zoo, open_zoo, read_store

Run = Callable[..., tuple[int, str, str]]
RIDGE = "generator=ridge"
ENTRIES = ("It is dark.", "It hangs upside down.", "It is blurred.")
"""In place of the family's own catalogue, which takes an encoder some seconds."""


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, ...]:
    write_catalogue(Catalogue("own", 1, ENTRIES), tmp_path / "list.json")
    told = f"privacy.catalogue={tmp_path / 'list.json'}"
    return (RIDGE, "privacy=krr", "privacy.epsilon=4", told)


@pytest.fixture
def zoo(tmp_path: Path, make_zoo: Callable[..., Zoo], monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of a zoo of five cameras' experts, in a home of its own."""
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    config = compose()
    layout = run_layout(config)
    store = open_zoo(tmp_path / "home" / "zoos" / "its", zoo_identity(config, layout, 0))
    store.add(make_zoo(5, dim=384, size=layout.size))
    return str(store.path)


def test_who_signed_is_checked_and_every_change_noticed(
    run: Run, zoo: str, key_pair: tuple[Path, Path]
) -> None:
    private, public = map(str, key_pair)
    assert "SGL-503" in run("zoo", "verify", zoo, "--key", public)[2]
    assert run("zoo", "sign", zoo, "--key", private)[0] == 0
    assert "5 experts" in run("zoo", "verify", zoo, "--key", public)[1]
    assert run("zoo", "remove", zoo, "e001")[0] == 0
    assert "SGL-503" in run("zoo", "verify", zoo, "--key", public)[2]
    assert "4 experts" in run("zoo", "verify", zoo)[1]


def test_a_withdrawal_can_be_shown_and_is_not_taken_back(
    run: Run, zoo: str, own: tuple[str, ...], key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = map(str, key_pair)
    folders = (zoo, str(tmp_path / "export"))
    before = [f"{folder}-before" for folder in folders]
    assert run("zoo", "export", folders[1], "--zoo", zoo, *own)[0] == 0
    assert "serial" in run("zoo", "sign", *folders, "--key", private)[1]
    for folder, copy in zip(folders, before, strict=True):
        shutil.copytree(folder, copy)
    _, printed, errors = run("zoo", "remove", zoo, "e001", "--export", folders[1])
    assert not errors
    (gone,) = re.findall("withdrawn e001, fingerprint ([0-9a-f]{64})", printed)
    assert run("zoo", "export", folders[1], "--zoo", zoo, *own)[0] == 0
    assert run("zoo", "sign", *folders, "--key", private)[0] == 0
    for folder, copy in zip(folders, before, strict=True):
        code, told, _ = run("zoo", "verify", folder, "--key", public, "--without", gone)
        assert (code, "4 experts" in told, ", signed 2" in told) == (0, True, True)
        assert "SGL-508" in run("zoo", "verify", copy, "--without", gone)[2]
        assert "SGL-507" in run("zoo", "verify", copy, "--key", public)[2]
    key = f"zoo.key={public}"
    wish = ("generate", "it is upside down", "--out", str(tmp_path / "out"), key, RIDGE)
    assert "SGL-507" in run(*wish, "--zoo", before[0])[2]
    assert "SGL-507" in run(*wish, "--export", before[1])[2]
    assert "SGL-507" in run("serve", before[1], "--insecure", "--signer", public)[2]
    assert run("zoo", "verify", folders[1], "--key", public)[0] == 0


def test_a_run_with_a_key_uses_no_other_zoo(
    run: Run, zoo: str, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    config = compose([f"zoo.path={zoo}", f"zoo.key={key_pair[1]}"])
    nobody, layout = None, run_layout(config)
    roster = Roster(config.federation)
    federation = Federation(nobody, (), config, layout, 384, 0, lambda _: print, roster)
    with pytest.raises(ZooSignatureError):
        enrolled(federation)
    out = ("--out", str(tmp_path / "out"), "--zoo", zoo, RIDGE, f"zoo.key={key_pair[1]}")
    assert "SGL-503" in run("generate", "it is upside down", *out)[2]
    assert run("zoo", "sign", zoo, "--key", str(key_pair[0]))[0] == 0
    assert run("generate", "it is upside down", *out)[0] == 0


def test_a_withdrawn_expert_is_named_and_what_was_made_with_it(
    run: Run, zoo: str, own: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "export"
    assert run("zoo", "export", str(out), *own)[0] == 0
    tuned = Path(zoo).parents[1] / "kept" / "tuned"
    tuned.mkdir(parents=True)
    for name in "ab":
        (tuned / f"{name * 64}.safetensors").write_bytes(b"")
    code, printed, _ = run("zoo", "remove", zoo, "e003", "e001", "--export", str(out))
    assert code == 0
    assert f"deleted 2 files in {tuned}" in printed.splitlines()
    assert f"deleted {out}" in printed.splitlines()
    assert [line.partition(",")[0] for line in printed.splitlines()[-3:-1]] == [
        "withdrawn e003",
        "withdrawn e001",
    ]
    assert printed.splitlines()[-1:] == [
        f"2 experts withdrawn from {zoo}; 3 are left",
    ]
    assert read_store(Path(zoo)).ids() == ("e000", "e002", "e004")
    assert "SGL-502" in run("zoo", "remove", zoo, "e003")[2]


def test_an_export_is_of_the_zoo_and_can_be_signed(
    run: Run, zoo: str, own: tuple[str, ...], tmp_path: Path, key_pair: tuple[Path, Path]
) -> None:
    out = tmp_path / "export"
    code, printed, errors = run("zoo", "export", str(out), "--zoo", zoo, *own)
    assert code == 0, errors
    assert printed.splitlines() == [f"ridge of 5 experts, zoo {zoo}", str(out)]
    found = read_export(out)
    assert found.about.base == "package:cameras"
    assert found.snap is not None
    assert found.snap.embeddings.shape == (3, 384)
    assert "SGL-503" in run("zoo", "verify", str(out), "--key", str(key_pair[1]))[2]
    assert run("zoo", "sign", str(out), "--key", str(key_pair[0]))[0] == 0
    told = run("zoo", "verify", str(out), "--key", str(key_pair[1]))[1]
    assert told.startswith(f"generator of 5 experts, all files as written: {out}, signed 2")
    (out / "generator.safetensors").write_bytes(b"")
    assert run("zoo", "verify", str(out))[0] == 1


def test_an_export_makes_what_the_zoo_makes(
    run: Run, zoo: str, own: tuple[str, ...], tmp_path: Path, key_pair: tuple[Path, Path]
) -> None:
    export, wish = tmp_path / "export", "it is upside down"
    assert run("zoo", "export", str(export), "--zoo", zoo, *own)[0] == 0
    told = {}
    for name, source in (("zoo", zoo), ("export", str(export))):
        out = tmp_path / f"by-{name}"
        code, told[name], errors = run(
            "generate", wish, "--out", str(out), f"--{name}", source, RIDGE
        )
        assert code == 0, errors
    assert told["zoo"].splitlines()[0] == told["export"].splitlines()[0]
    np.testing.assert_array_equal(*(read_peft(tmp_path / f"by-{n}")[0] for n in told))
    key = f"zoo.key={key_pair[1]}"
    signed = ("generate", wish, "--out", str(tmp_path / "out"), "--export", str(export), key)
    assert "SGL-503" in run(*signed)[2]
    assert run("zoo", "sign", str(export), "--key", str(key_pair[0]))[0] == 0
    assert run(*signed)[0] == 0


def test_what_no_run_has_trained_is_not_exported(run: Run, zoo: str, tmp_path: Path) -> None:
    code, _, errors = run("zoo", "export", str(tmp_path / "out"), "--zoo", zoo)
    assert (code, "SGL-600" in errors) == (1, True)
    assert not (tmp_path / "out").exists()

"""The command line without Flower: what it prints, writes and exits with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftConfig
from safetensors.torch import load_file, save_file

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones import load_describer
from sglora_fed.backbones.weights import MINILM_ID, MINILM_SHA256, WEIGHTS_FILE, resolve_minilm
from sglora_fed.config import compose, home
from sglora_fed.config.overrides import quoted
from sglora_fed.errors import LaunchError
from sglora_fed.experiments.run import fitted
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.roster import Roster
from sglora_fed.generators.confidence import Confidence
from sglora_fed.kept.adapters import keep_shared
from sglora_fed.kept.facts import confidence_facts, shared_facts
from sglora_fed.kept.generators import generator_for, keep_confidence
from sglora_fed.kept.zoos import zoo_identity
from sglora_fed.launching import run as launching
from sglora_fed.zoo import Zoo, ZooIdentity, open_zoo, read_store

WISH = "tell me at once about anything from my bank"
PLANTED = 3

NEAREST, ASSISTANT = "generator=nearest", "experiment=assistant"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def planted(make_zoo: Callable[..., Zoo]) -> Zoo:
    """A zoo in which one expert has the very description that is asked for."""
    zoo = make_zoo(experts=6, dim=384)
    wordings = zoo.wordings.copy()
    wordings[PLANTED] = load_describer(compose(["experiment=assistant"]).backbone).encode([WISH])[0]
    return dataclasses.replace(zoo, wordings=wordings)


@pytest.fixture
def folder(tmp_path: Path, planted: Zoo, identity: ZooIdentity) -> Path:
    # Brackets, because Rich takes [red] for a colour.
    encoder = load_describer(compose(["experiment=assistant"]).backbone).fingerprint
    path = tmp_path / "zoo [red]"
    identity = dataclasses.replace(identity, encoder=encoder, weights_sha256=MINILM_SHA256)
    open_zoo(path, identity).add(planted)
    return path


def test_generate_writes_the_adapter_of_the_planted_expert(
    run: Run, folder: Path, planted: Zoo, tmp_path: Path
) -> None:
    out = tmp_path / "adapter"
    arguments = ("generate", WISH, "--zoo", str(folder), "--out", str(out), NEAREST, ASSISTANT)
    code, printed, _ = run(*arguments)
    assert code == 0
    assert printed.splitlines()[-1] == str(out)
    assert "similarity 1.000" in printed
    np.testing.assert_allclose(read_peft(out)[0], planted.means[PLANTED], rtol=1e-6)
    assert PeftConfig.from_pretrained(out).base_model_name_or_path == MINILM_ID


def test_generate_refuses_a_description_of_unknown_words(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapter"
    code, _, errors = run(
        "generate", "\U0001f600 \U0001f389", "--zoo", str(folder), "--out", str(out)
    )
    assert code == 1
    assert "SGL-304" in errors
    assert not out.exists()


def test_generate_fits_the_generator_that_a_run_fits(folder: Path) -> None:
    config, store = compose(["generator=sglora", "generator.steps=5"]), read_store(folder)
    mine = generator_for(config, store).state()
    layout, seed = Layout.from_dict(store.identity.layout), store.identity.seed
    nobody: Any = None
    roster = Roster(config.federation)
    federation = Federation(nobody, (), config, layout, 384, seed, nobody, roster)
    theirs = fitted(federation, store.load(), np.empty(0), "sglora").state()
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, theirs[name])


def test_generate_refuses_a_zoo_of_another_encoder(
    run: Run, planted: Zoo, identity: ZooIdentity, tmp_path: Path
) -> None:
    open_zoo(tmp_path / "zoo", dataclasses.replace(identity, encoder="other")).add(planted)
    out = tmp_path / "adapter"
    code, _, errors = run("generate", WISH, "--zoo", str(tmp_path / "zoo"), "--out", str(out))
    assert code == 1
    assert "SGL-501" in errors
    assert not out.exists()


def test_generate_refuses_a_description_that_says_nothing(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    for nothing in ("", "  ", "\u200b"):
        code, _, errors = run("generate", nothing, "--zoo", str(folder), "--out", str(tmp_path))
        assert code == 1
        assert "the description is empty" in errors


def test_generate_refuses_a_zoo_of_another_minilm(run: Run, folder: Path, tmp_path: Path) -> None:
    weights = resolve_minilm(None, None, None)
    other = shutil.copytree(weights, tmp_path / "other")
    tensors = load_file(other / WEIGHTS_FILE)
    tensors["encoder.layer.0.output.dense.weight"] *= 1.5
    save_file(tensors, other / WEIGHTS_FILE, {"format": "pt"})
    digest = hashlib.sha256((other / WEIGHTS_FILE).read_bytes()).hexdigest()
    out = tmp_path / "adapter"
    own = (ASSISTANT, f"backbone.path={other}", f"backbone.sha256={digest}")
    code, _, errors = run("generate", WISH, "--zoo", str(folder), "--out", str(out), NEAREST, *own)
    assert code == 1
    assert "SGL-501" in errors
    assert digest in errors
    assert not out.exists()


class TestWithoutAZoo:
    @pytest.fixture
    def zoos(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path))
        return tmp_path / "zoos"

    @pytest.fixture
    def make(self, zoos: Path, make_zoo: Callable[..., Zoo]) -> Callable[..., None]:
        """A function of (name, age, overrides...) that leaves a zoo of such a run."""

        def make(name: str, age: int, *overrides: str) -> None:
            config = compose(overrides)
            layout = run_layout(config)
            store = open_zoo(zoos / name, zoo_identity(config, layout, age))
            store.add(make_zoo(dim=384, size=layout.size, seed=age))
            written = time.time_ns() - age * 10**9
            os.utime(zoos / name / "manifest.json", ns=(written, written))

        return make

    def test_the_newest_that_fits_is_taken(
        self, run: Run, zoos: Path, make: Callable[..., None], tmp_path: Path
    ) -> None:
        make("older", 30)
        make("newer", 20)
        make("of_another_rank", 10, "adapter.rank=2")
        (zoos / "damaged").mkdir()
        (zoos / "damaged" / "manifest.json").write_text("{")
        code, printed, errors = run("generate", WISH, "--out", str(tmp_path / "out"), NEAREST)
        assert code == 0, errors
        assert printed.splitlines()[0] == f"zoo {zoos / 'newer'}"
        _, printed, _ = run(
            "generate", WISH, "--out", str(tmp_path / "out"), "adapter.rank=2", NEAREST
        )
        assert printed.splitlines()[0] == f"zoo {zoos / 'of_another_rank'}"

    def test_none_that_fits_is_told(
        self, run: Run, make: Callable[..., None], tmp_path: Path
    ) -> None:
        make("of_another_rank", 10, "adapter.rank=2")
        code, _, errors = run("generate", WISH, "--out", str(tmp_path / "out"))
        assert code == 1
        assert "none of 1 zoos" in errors
        assert "run sglora-fed simulate" in errors
        assert "--zoo" in errors

    def test_the_configured_one_comes_first(
        self, run: Run, folder: Path, make: Callable[..., None], tmp_path: Path
    ) -> None:
        make("fits", 10)
        own = f"zoo.path={quoted(str(folder))}"
        _, printed, _ = run("generate", WISH, "--out", str(tmp_path / "out"), NEAREST, own)
        assert "similarity 1.000" in printed


def test_what_a_stranger_wrote_does_not_command_the_terminal(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    manifest = folder / "manifest.json"
    values = json.loads(manifest.read_text())
    values["identity"]["backbone"] = evil = "a\x1b[2J\u009b1m[red][link=x]\u202e"
    manifest.write_text(json.dumps(values))
    code, shown, _ = run("zoo", "show", str(folder))
    assert (code, json.loads(shown)["backbone"]) == (0, evil)
    _, _, errors = run("zoo", "list", str(tmp_path / evil))
    assert "SGL-500" in errors
    for text in (shown, errors):
        assert "[red][link=x]" in text
        assert all(letter.isprintable() or letter == "\n" for letter in text)


@pytest.mark.skipif(version("click") >= "8.5", reason="pyproject.toml allows an older one only")
@pytest.mark.parametrize("command", ["simulate", "sweep", "report", "generate", "zoo list"])
def test_help_says_what_positional_arguments_are(run: Run, command: str) -> None:
    shown = run(*command.split(), "--help")[1]
    said = ("Hydra overrides", "As for simulate", "Folder of a", "What the adapter should")
    assert any(words in shown.partition("Options")[0] for words in said)


@pytest.fixture
def keep_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function of (confidence, overrides...) that leaves what a run leaves."""
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))

    def keep(found: Confidence, *overrides: str) -> None:
        store, config = read_store(folder), compose(overrides)
        layout, seed = Layout.from_dict(store.identity.layout), store.identity.seed
        zoo = store.load()
        shared = np.zeros(layout.size, np.float32)
        keep_shared(shared, layout, config, shared_facts(config, layout, zoo, seed), ())
        keep_confidence(found, confidence_facts(config, layout, zoo, seed))

    return keep


def expecting(intercept: float, slope: float) -> Confidence:
    """A gain that depends on the similarity, without doubt about how."""
    return Confidence(np.array([intercept, slope, 0, 0]), np.zeros((4, 4)))


def test_generate_tells_what_the_policy_would_do(
    run: Run, folder: Path, tmp_path: Path, keep_told: Callable[..., None]
) -> None:
    command = ("generate", WISH, "--zoo", str(folder), "--out", str(tmp_path / "out"))
    assert "confidence" not in run(*command, NEAREST)[1]
    # An expected gain of 1.128 standard deviations at a similarity of 1.
    keep_told(expecting(-1.0, 2.128), NEAREST)
    printed = run(*command, NEAREST)[1].splitlines()
    assert "similarity 1.000" in printed[0]
    assert printed[1] == "confidence 0.87 (adopt; the default policy falls back below 0.5)"
    assert printed[2:] == [str(tmp_path / "out")]
    # Of other settings, or for another fall-back, nothing is known.
    rounds = ("shared_rounds=2", "shared_momentum=0", "respelt=0.5")
    others = ("generator=topk", *(f"federation.{change}" for change in rounds))
    for other in (*others, "experiment.methods=[soup]"):
        assert "confidence" not in run(*command, NEAREST, other)[1]
    keep_told(expecting(-5.0, 3.773), NEAREST, "experiment.methods=[soup]")
    printed = run(*command, NEAREST, "experiment.methods=[soup]")[1].splitlines()
    assert printed[1].startswith("confidence 0.11 (fall back; ")


def test_generate_refuses_a_damaged_confidence_and_writes_nothing(
    run: Run, folder: Path, tmp_path: Path, keep_told: Callable[..., None]
) -> None:
    keep_told(expecting(0.0, 0.0), NEAREST)
    (path,) = (home() / "kept" / "confidence").iterdir()
    path.write_text("{")
    out = tmp_path / "out"
    code, _, errors = run("generate", WISH, "--zoo", str(folder), "--out", str(out), NEAREST)
    assert code == 1
    assert "SGL-601" in errors
    assert path.name in errors
    assert not out.exists()


def test_a_zoo_can_be_listed_shown_and_verified(run: Run, folder: Path, planted: Zoo) -> None:
    listed = run("zoo", "list", str(folder))[1]
    assert all(name in listed for name in planted.ids)
    shown = json.loads(run("zoo", "show", str(folder))[1])
    assert shown["experts"] == 6
    assert shown["adapter_numbers"] == planted.means.shape[1]
    code, verified, _ = run("zoo", "verify", str(folder))
    assert (code, verified) == (0, f"6 experts, all files as written: {folder}\n")


def test_verify_names_the_damaged_file(run: Run, folder: Path) -> None:
    shard = next(folder.glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    code, _, errors = run("zoo", "verify", str(folder))
    assert code == 1
    assert "SGL-500" in errors
    assert shard.name in errors


def test_zoo_build_hands_over_the_overrides_and_checks_what_was_built(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fake(_config: object, overrides: list[str], output: Path, _console: object, goal: str):
        asked.append((overrides, goal))
        output.mkdir(parents=True, exist_ok=True)
        (output / "zoos.json").write_text(json.dumps([str(folder)]))

    monkeypatch.setattr(launching, "run_flower", fake)
    code, printed, _ = run("zoo", "build", "adapter.rank=2")
    assert code == 0
    assert asked == [(["adapter.rank=2"], "zoo")]
    assert str(folder) in printed


def test_all_mistakes_are_told_at_once_and_nothing_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "run_flower", lambda *_: pytest.fail("started"))
    output = tmp_path / "out"
    code, _, errors = run("simulate", "--output", str(output), "seeds=[red]", "no.such=1")
    assert code == 2
    assert "SGL-100" in errors
    assert "[red]" in errors or "'red'" in errors
    assert "no.such=1" in errors
    assert "Traceback" not in errors
    assert not output.exists()


def test_a_sweep_tells_all_mistakes_before_anything_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "run_flower", lambda *_: pytest.fail("started"))
    output = tmp_path / "out"
    command = ("sweep", "--output", str(output))
    code, _, errors = run(*command, "generator=topk,ridge", "adapter.rank=2,0", "no.such=1,2")
    assert code == 2
    assert "adapter.rank=0" in errors
    assert "no.such=1" in errors
    assert not output.exists()


def test_version_and_help(run: Run) -> None:
    code, printed, _ = run("--version")
    assert code == 0
    assert printed == f"sglora-fed {version('sglora-fed')}, flwr {version('flwr')}\n"
    code, printed, _ = run("--help")
    assert code == 0
    assert printed.index(" simulate ") < printed.index(" generate ") < printed.index(" predict ")


@pytest.mark.parametrize("command", [("simulate",), ("sweep", "generator=topk,ridge")])
def test_who_stops_a_run_hears_how_it_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launching, "run_flower", stopped)
    code, _, errors = run(*command, "--output", str(tmp_path / "out"))
    assert code == 130
    assert f"--output {tmp_path / 'out'} goes on where it was" in errors


def test_a_sweep_that_stops_says_where_and_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def fail(_config: object, overrides: tuple[str, ...], output: Path, _console: object) -> None:
        started.append((overrides, output))
        raise LaunchError("no [red] memory")

    monkeypatch.setattr(launching, "run_flower", fail)
    output = tmp_path / "out"
    code, printed, errors = run("sweep", "--output", str(output), "generator=topk,ridge")
    assert code == 1
    assert started == [(("generator=topk",), output / "01-topk")]
    assert "1 of 2: generator=topk" in printed
    assert "SGL-804" in errors
    assert "run 01-topk: [SGL-803] no [red] memory" in errors
    assert f"--output {output}" in errors


@pytest.mark.parametrize("command", [("report",), ("zoo", "show"), ("zoo", "list")])
def test_a_folder_that_holds_nothing_is_one_line(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    code, printed, errors = run(*command, str(tmp_path / "none"))
    assert code == 1
    assert printed == ""
    assert len(errors.splitlines()) == 1
    assert "SGL-" in errors


def test_a_family_that_cannot_be_read_is_told_before_anything_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "run_flower", lambda *_: pytest.fail("started"))
    missing = tmp_path / "tasks"
    code, _, errors = run("simulate", "family=local", f"family.path={missing}")
    assert code == 1
    assert "SGL-201" in errors
    assert str(missing) in errors

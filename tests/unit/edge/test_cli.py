"""``client``, ``certs`` and ``predict`` as an owner types them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from typer.main import get_command

from server.app import WORK
from sglora_fed import cli
from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.backbones import weights
from sglora_fed.backbones.weights import BaseModel
from sglora_fed.edge.settings import FILE, read_node
from sglora_fed.edge.shelf import put

Run = Callable[..., tuple[int, str, str]]
INIT = ("--description", "My camera hangs upside down.")


def test_a_node_is_set_up_with_its_certificates(run: Run, tmp_path: Path) -> None:
    assert run("certs", "init", tmp_path / "certs", "--node", "hall")[0] == 0
    certs = tmp_path / "certs" / "nodes" / "hall"
    code, out, err = run("client", "init", tmp_path / "hall", *INIT, "--certs", certs)
    assert (code, err) == (0, "")
    line = out.strip().splitlines()[-1]
    assert f"{certs}/node.key" in line
    assert "--insecure" not in line
    code, out, _ = run("client", "status", tmp_path / "hall")
    assert code == 0
    assert "adapter: none yet" in out
    assert "0 of 24 spent, 24 left" in out


def test_plaintext_and_clear_words_are_asked_for_and_warned_of(run: Run, tmp_path: Path) -> None:
    told = ("client", "init", tmp_path / "hall", *INIT)
    code, _, err = run(*told)
    assert (code, "--insecure" in err) == (1, True)
    code, out, err = run(*told, "--insecure", "--clear")
    assert code == 0
    assert "without noise" in err
    assert "plaintext" in err
    assert "--insecure" in out


def test_a_missing_encoder_is_told_before_any_exchange(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights, "OFFLINE_PACKAGE", "a_package_that_is_not_there")
    code, out, err = run("client", "init", tmp_path / "hall", *INIT, "--insecure")
    assert (code, "flower-supernode" in out) == (0, True)
    assert "[SGL-300]" in err
    assert "pip install 'sglora-fed[offline]'" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--label", "one"), "KEY=TEXT"),
        (("--label", "a=x"), "two or more"),
        (("--caption", "x", "--caption", "y", "--label", "a=b"), "one of them"),
        (("--name", "a b"), "a b"),
        (("--epsilon", "-1"), "epsilon"),
        (("--epsilon", "0"), "epsilon=0"),
        (("--total-epsilon", "0"), "epsilon=0"),
        (("--clear", "--epsilon", "8"), "clear promises nothing"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    run: Run, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    code, _, err = run("client", "init", tmp_path / "hall", *INIT, "--insecure", *options)
    assert code == 1
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "hall").exists()


def test_a_folder_without_the_nodes_key_is_refused(run: Run, tmp_path: Path) -> None:
    code, _, err = run("client", "init", tmp_path / "hall", *INIT, "--certs", tmp_path)
    assert code == 1
    assert "node.key" in err


def test_status_says_for_which_words_the_adapter_was_made(run: Run, tmp_path: Path) -> None:
    run("client", "init", tmp_path / "hall", *INIT, "--insecure", "--clear")
    node = read_node(tmp_path / "hall" / FILE)
    layout = Layout((ModuleShape("query", 4, 4),), 2, 4.0)
    told = {
        "description_sha256": node.description_sha256,
        "generator_sha256": None,
        "confidence": 0.75,
        "measured": {"without": {"accuracy": 0.5}, "with": {"accuracy": 0.75}},
    }
    put(node, np.ones(layout.size, np.float32), layout, BaseModel("m", None), told)
    out = run("client", "status", node.folder)[1]
    assert "confidence 0.75" in out
    assert "made for the description in its file" in out
    assert "0.500 without it, 0.750 with it" in out
    text = node.file.read_text()
    node.file.write_text(text.replace("upside down", "on a wall"))
    assert "an earlier description" in run("client", "status", node.folder)[1]


def test_predict_needs_an_adapter_and_one_item(run: Run, tmp_path: Path) -> None:
    run("client", "init", tmp_path / "hall", *INIT, "--insecure", "--clear")
    assert "one of both" in run("predict", tmp_path / "hall")[2]
    assert "SGL-822" in run("predict", tmp_path / "hall", "--text", "hi")[2]


@pytest.mark.parametrize(
    ("backbone", "option", "words"),
    [
        ("minilm", ("--image", "x.png"), "reads texts, not images: give --text"),
        ("clip", ("--text", "hi"), "reads images, not texts: give --image"),
        ("clip", ("--image", "nowhere.png"), "nowhere.png is not there"),
    ],
)
def test_predict_refuses_an_item_before_it_loads_a_model(
    run: Run, tmp_path: Path, backbone: str, option: tuple[str, str], words: str
) -> None:
    captions = ("--caption", "a circle", "--caption", "a square")
    run("client", "init", tmp_path / "hall", *INIT, *captions, "--insecure", "--clear")
    node = read_node(tmp_path / "hall" / FILE)
    layout = Layout((ModuleShape("query", 4, 4),), 2, 4.0)
    # A path at which nothing lies: loading would fail, with another code.
    told = {"backbone": {"name": backbone, "path": str(tmp_path / "no-model")}}
    put(node, np.ones(layout.size, np.float32), layout, BaseModel("m", None), told)
    code, _, err = run("predict", node.folder, *option)
    assert code == 1
    assert "SGL-820" in err
    assert words in err


def test_a_node_without_a_folder_or_a_port_is_told_what_to_do(run: Run, tmp_path: Path) -> None:
    assert "client init makes it" in run("client", "status", tmp_path / "nowhere")[2]
    init = ("client", "init", tmp_path / "hall", *INIT, "--insecure")
    for address in ("server", "server:", ":8000", "https://server:8000"):
        code, _, err = run(*init, "--superlink", address)
        assert code == 1
        assert "need HOST:PORT" in err
    assert not (tmp_path / "hall").exists()
    assert run(*init, "--superlink", "[2001:db8::7]:8000")[0] == 0


def test_a_goal_that_nobody_knows_is_refused_before_anything_starts(
    run: Run, tmp_path: Path
) -> None:
    code, _, err = run("run", "trial", "--output", tmp_path, "--goal", "serv")
    assert code == 2
    assert "serve" in err
    told = next(p for p in get_command(cli.app).commands["run"].params if p.name == "goal")
    assert list(told.type.choices) == list(WORK)

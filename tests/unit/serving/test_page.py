"""The page: what it shows is what the model says, and a browser shows it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.config import compose
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import EndpointError, RequestError, VocabularyError
from sglora_fed.federation.node import run_layout
from sglora_fed.generators import fit_generator
from sglora_fed.generators.export import About, Export, read_export, write_export
from sglora_fed.kept.zoos import zoo_identity
from sglora_fed.serving.app import Service, make_app
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.page import JUDGED, SHOWN, Viewer, Wish, add_page, policy
from sglora_fed.serving.run import Where, server_of
from sglora_fed.tasks.cameras.captions import CAPTIONS
from sglora_fed.tasks.cameras.conditions import PLAIN, Condition
from sglora_fed.zoo import Zoo

WISH = {
    "sentence": "The camera hangs upside down.",
    "geometry": "upside_down",
    "colour": "true",
    "optics": "clean",
}
TURNED = Condition("upside_down", "true", "clean")


@pytest.fixture(scope="module")
def cameras(make_zoo: Callable[..., Zoo], tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Of experts that change nothing: B is zero."""
    config = compose()
    layout = run_layout(config)
    zoo = make_zoo(4, dim=384, size=layout.size)
    zoo.means[:] = 0
    folder = tmp_path_factory.mktemp("cameras")
    about = About("cameras", "package:cameras", None, zoo_identity(config, layout, 0), ())
    generator = fit_generator(GeneratorConfig(), "soup", zoo, 0)
    write_export(folder, generator, GeneratorConfig(), about, None)
    return read_export(folder)


@pytest.fixture(scope="module")
def port(cameras: Export) -> Iterator[int]:
    service = Service(cameras, None, Limits(rate=1000, burst=1000))
    app = make_app(service)
    add_page(app, service)
    server, listening = server_of(app, None), Where("127.0.0.1", 0, None).listening()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()
    service.close()


def asked(port: int, body: Any, content: str = "application/json") -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    data = body if isinstance(body, bytes) else json.dumps(body)
    connection.request("POST", "/look", data, {"content-type": content})
    reply = connection.getresponse()
    found = reply.status, json.loads(reply.read())
    connection.close()
    return found


def test_what_is_shown_is_what_there_is(port: int) -> None:
    status, found = asked(port, WISH)
    assert status == 200
    assert len(found["pictures"]) == SHOWN
    for one in found["pictures"]:
        scene, seen = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(one[name]))))
            for name in ("scene", "seen")
        )
        np.testing.assert_array_equal(seen, scene[::-1, ::-1])
        assert one["right"] in CAPTIONS
        # These experts change nothing.
        assert one["before"] == one["after"]
        assert len(set(one["before"])) == 3
    assert 0 <= found["before"] == found["after"] < 0.5


def test_an_upright_camera_needs_no_adapter(cameras: Export) -> None:
    found = Viewer(cameras).look(Wish("It hangs upright.", PLAIN))
    assert found["before"] > 0.8
    assert sum(one["right"] == one["before"][0] for one in found["pictures"]) >= SHOWN / 2
    assert JUDGED * found["before"] == pytest.approx(round(JUDGED * found["before"]))


def test_an_adapter_changes_what_is_read(cameras: Export, make_zoo: Callable[..., Zoo]) -> None:
    zoo = make_zoo(4, dim=384, size=cameras.layout.size)
    zoo.means[:] = np.random.default_rng(0).normal(size=zoo.size).astype(np.float32) * 0.1
    changed = fit_generator(GeneratorConfig(), "soup", zoo, 0)
    viewer = Viewer(Export(cameras.about, changed, cameras.layout, None, "x", cameras.folder))
    found = viewer.look(Wish("It hangs upright.", PLAIN))
    assert found["after"] < found["before"]


@pytest.mark.parametrize(
    "change",
    [
        {"sentence": ""},
        {"sentence": "   "},
        {"sentence": "x" * 301},
        {"sentence": 5},
        {"geometry": "sideways"},
        {"optics": None},
        {"more": "x"},
    ],
)
def test_other_wishes_are_refused(port: int, change: dict[str, Any]) -> None:
    assert asked(port, WISH | change) == (400, {"error": "SGL-830"})


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 4000, b"x" * 5000])
def test_what_is_no_wish_is_refused(port: int, body: bytes) -> None:
    assert asked(port, body)[0] in (400, 413)
    with pytest.raises(RequestError):
        Wish.parse(body)


def test_other_content_and_unknown_words_are_refused(port: int) -> None:
    assert asked(port, WISH, "text/plain") == (400, {"error": "SGL-830"})
    emoji = WISH | {"sentence": "\U0001f600 \U0001f389"}
    assert asked(port, emoji) == (400, {"error": f"SGL-{VocabularyError.code}"})


def test_it_is_self_contained_and_runs_nothing_else(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/")
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    assert reply.headers["content-security-policy"] == policy(text)
    assert "default-src 'none'" in policy(text)
    assert not re.findall(r"https?://|@import|url\(|innerHTML|eval\(", text)
    assert set(re.findall(r'(?:src|href)="([^"]*)', text)) == {"data:,"}


def test_only_cameras_have_a_page(cameras: Export, export: Export) -> None:
    other = Service(export, None)
    with pytest.raises(EndpointError, match="another backbone"):
        add_page(make_app(other), other)
    other.close()


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_it(port: int, tmp_path: Path) -> None:
    """The page's own script is run; a line more than it has presses the button."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    told = [f"--user-data-dir={tmp_path}", "--virtual-time-budget=15000", "--timeout=20000"]
    address = f"http://127.0.0.1:{port}/#look"
    environment = os.environ | {"HOME": str(tmp_path)}
    found = subprocess.run(
        [*command, *told, address], capture_output=True, text=True, timeout=60, env=environment
    )
    rows = re.findall(r"<tr><td>.*?</tr>", found.stdout)
    assert len(rows) == SHOWN, found.stderr[-2000:]
    assert all(row.count("<li") == 6 and row.count("data:image/png") == 2 for row in rows)
    assert re.search(r'id="before">\d+ %', found.stdout)


def test_models_are_those_of_the_configuration(cameras: Export) -> None:
    config = Viewer(cameras).config
    encoder = load_backbone(config.backbone, config.adapter)
    assert cameras.about.identity.weights_sha256 == encoder.weights_sha256
    assert cameras.about.identity.encoder == load_describer(config.backbone).fingerprint

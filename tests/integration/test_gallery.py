"""The gallery of a run on cameras: true to the family, and to what the nodes measured."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sglora_fed.config import compose
from sglora_fed.results.gallery import Exhibit, read_gallery
from sglora_fed.tasks import load_family
from sglora_fed.tasks.cameras.conditions import CONDITIONS, seen_by
from sglora_fed.tasks.types import Task
from tests.integration.conftest import TINY, Loop

CAMERAS = (
    *("family=cameras", "backbone=cameras", "adapter=cameras", "family.experts=14"),
    *("family.clients_per_split=3", "family.train_per_client=8", "family.test_per_client=8"),
    *("adapter.targets=[q_proj,k_proj,v_proj]", "adapter.layers=[]"),
    *("adapter.train.steps=2", "adapter.train.batch_size=8", "adapter.train.checkpoints=1"),
    *("generator=ridge", "experiment.methods=[zero_shot,topk,shared_lora,oracle]"),
    *("federation.shared_rounds=1", "experiment.tuning.oracle.steps=3"),
)
METHODS = ["zero_shot", "shared_lora", "ridge", "oracle"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("cameras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(folder / "home"))
        yield Loop(folder / "out", CAMERAS).run()


@pytest.fixture(scope="module")
def gallery(run: Any) -> list[Exhibit]:
    return read_gallery(run.output)


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    return {t.id: t for t in load_family(compose([*TINY, *CAMERAS]).family).tasks}


def pixels(picture: bytes | None) -> np.ndarray:
    assert picture is not None
    return np.asarray(Image.open(io.BytesIO(picture)))


def test_two_clients_of_each_split_are_shown(gallery: list[Exhibit]) -> None:
    shown = sorted((one.split, one.client) for one in gallery)
    assert shown == [
        (split, f"{split}-{number:03d}")
        for split in ("new_combination", "new_element", "new_words")
        for number in range(2)
    ]


def test_shares_are_those_that_the_nodes_measured(run: Any, gallery: list[Exhibit]) -> None:
    rows = {(row["client"], row["method"], row["metric"]): row["value"] for row in run.rows}
    for one in gallery:
        assert list(one.shares) == METHODS
        for method, share in one.shares.items():
            # Another batch rounds otherwise, which may turn one of eight.
            measured = float(rows[one.client, method, "i2t_r1"])
            assert share == pytest.approx(measured, abs=1 / 8 + 1e-9)
    differing = [
        one.shares[method] != float(rows[one.client, method, "i2t_r1"])
        for one in gallery
        for method in METHODS
    ]
    assert sum(differing) <= 1


def test_pictures_and_words_are_the_clients_own(
    gallery: list[Exhibit], tasks: dict[str, Task]
) -> None:
    for one in gallery:
        task = tasks[one.client]
        assert one.sentence in (task.description, *task.paraphrases)
        np.testing.assert_array_equal(pixels(one.picture), task.test[0].item)
        assert one.right == (task.test[0].label,)
        captions = {example.label for example in task.test}
        assert all(len(set(best) & captions) == 3 for best in one.best.values())


def test_a_camera_makes_the_picture_of_the_scene(gallery: list[Exhibit]) -> None:
    """One of all 144 does: both are of the same scene, background and all."""
    for one in gallery:
        scene, picture = pixels(one.scene), pixels(one.picture)
        assert any((seen_by(c, scene[None])[0] == picture).all() for c in CONDITIONS)


def test_no_message_has_a_word_of_it(run: Any, gallery: list[Exhibit]) -> None:
    private = {one.sentence for one in gallery} | {one.right[0] for one in gallery}
    assert run.exchanges
    for exchange in run.exchanges:
        sent = str(exchange.request.content) + str(exchange.reply.content)
        assert not [text for text in private if text in sent]


def test_the_page_and_a_figure_show_it(run: Any, gallery: list[Exhibit]) -> None:
    page = run.path("report.html").read_text()
    assert page.count('<section class="client">') == len(gallery)
    assert run.path("figures").joinpath("gallery.png").exists()

"""The SG-LoRA paper's protocol through the unmodified apps, small."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.federation.describe import DESCRIBE

datasets = pytest.importorskip("datasets")

SMALL = (
    "experiment=paper",
    "family.experts=8",
    "family.clients_per_split=2",
    "family.train_per_client=16",
    "family.test_per_client=12",
    "generator=sglora",
    "adapter.targets=[q_proj,k_proj,v_proj]",
    "adapter.layers=[]",
    "adapter.train.steps=6",
    "adapter.train.checkpoints=4",
    "experiment.methods=[zero_shot,soup,adapter_soup,topk,sglora,oracle]",
)


@pytest.fixture
def loop(make_loop: Callable[..., Any], cold_home: Path) -> Any:
    return make_loop(*SMALL).run()


def test_every_method_has_recall_in_both_directions(loop: Any) -> None:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in loop.rows:
        values[row["method"], row["metric"]].append(float(row["value"]))
    for method in compose(["experiment=paper"]).experiment.methods:
        for way in ("i2t", "t2i"):
            first, fifth, tenth = (values[method, f"{way}_r{k}"] for k in (1, 5, 10))
            assert len(first) == 3 * 2, "two clients on each of three splits"
            assert all(a <= b <= c <= 1 for a, b, c in zip(first, fifth, tenth, strict=True))
            assert sum(tenth) > 0
    splits = {row["split"] for row in loop.rows}
    assert splits == {"new_combination", "new_element", "new_words"}


def test_pictures_of_the_hub_described_by_clip(
    make_loop: Callable[..., Any], cold_home: Path, tmp_path: Path
) -> None:
    """One class a task, descriptions through the text tower of the backbone."""
    pictures = save_pets(tmp_path / "pets", classes=8, each=16)
    hub = ("family=hub", "family.dataset=oxford_pets", f"family.path='{pictures}'")
    loop = make_loop(*SMALL, *hub, "backbone.describer=clip").run()
    assert {row["split"] for row in loop.rows} == {"new_class"}
    assert {row["metric"] for row in loop.rows} >= {"accuracy"}
    assert len({row["client"] for row in loop.rows}) == 2
    (reply, *_) = loop.of_kind(DESCRIBE)
    tower = load_describer(compose(["backbone=cameras", "backbone.describer=clip"]).backbone)
    sent, names = reply.array("embeddings"), reply.fields()["ids"]
    said = [f"a photo of a {name}" for name in names]
    assert said
    assert np.abs(sent - tower.encode(said)).max() < 2e-3, "half precision"


def save_pets(folder: Path, classes: int, each: int) -> Path:
    """Pictures of plain colours, in the format of OxfordPets."""
    labels = [n % classes for n in range(classes * each)]
    colours = [(30 * label, 255 - 30 * label, n % 256) for n, label in enumerate(labels)]
    names = [f"breed{label}" for label in range(classes)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    rows = {"image": [Image.new("RGB", (16, 12), colour) for colour in colours], "label": labels}
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table}).save_to_disk(str(folder))
    return folder

"""What ``sglora-fed generate`` makes where descriptions are read in several ways."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones import load_describer
from sglora_fed.backbones.weights import MINILM_SHA256
from sglora_fed.config import compose
from sglora_fed.privacy.catalogue import read_catalogue
from sglora_fed.privacy.snapping import snap_to
from sglora_fed.zoo import Zoo, ZooIdentity, open_zoo

WISH = "the lens looks at the room from below"
ENTRIES = {
    "The picture is upside down.": ["Everything stands on its head.", "The image is flipped."],
    "The colours are swapped.": ["Red looks blue here.", "Blue and red are exchanged."],
    "The picture is blurred.": ["Nothing is sharp.", "The lens is out of focus."],
}

Run = Callable[..., tuple[int, str, str]]
"""Arguments -> exit code, standard output, standard error."""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A public list of one's own."""
    path = tmp_path / "list.json"
    told = {"schema": 1, "name": "lens", "version": 1, "descriptions": list(ENTRIES)}
    path.write_text(json.dumps(told | {"paraphrases": list(ENTRIES.values())}))
    return path


def test_an_adapter_is_for_the_nearest_entry(
    run: Run,
    listed: Path,
    make_zoo: Callable[..., Zoo],
    identity: ZooIdentity,
    tmp_path: Path,
) -> None:
    """One expert has the very words, another the entry that they are nearest to."""
    describer = load_describer(compose(["experiment=assistant"]).backbone)
    own = describer.encode([WISH])[0]
    snap = snap_to([describer.encode(list(said)) for said in read_catalogue(listed).wordings])
    place = int(snap.nearest(own, 1)[0])
    zoo = make_zoo(experts=6, dim=384)
    wordings = zoo.wordings.copy()
    wordings[1], wordings[4] = own, snap.embeddings[place]
    identity = dataclasses.replace(
        identity, encoder=describer.fingerprint, weights_sha256=MINILM_SHA256
    )
    open_zoo(tmp_path / "zoo", identity).add(dataclasses.replace(zoo, wordings=wordings))
    told = ("--zoo", str(tmp_path / "zoo"), "generator=nearest", "experiment=assistant")
    read = (f"privacy.catalogue={listed}", "generator.readings=2")
    for name, expert, more in (("plain", 1, ()), ("read", 4, read)):
        code, printed, errors = run("generate", WISH, "--out", str(tmp_path / name), *told, *more)
        assert code == 0, errors
        np.testing.assert_allclose(read_peft(tmp_path / name)[0], zoo.means[expert], rtol=1e-6)
        assert (f"read as: {list(ENTRIES)[place]}\n" in printed) == bool(more)
        # How strange the words are is told of themselves.
        assert "similarity 1.000" in printed

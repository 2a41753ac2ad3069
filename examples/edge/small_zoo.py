"""Something to serve in a minute: a small zoo that is trained in this process, or a random one.

``python examples/edge/small_zoo.py FOLDER OVERRIDES...`` trains one.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from sglora_fed.backbones import light_describer
from sglora_fed.backbones.weights import MINILM_SHA256, PACKAGED
from sglora_fed.config import compose
from sglora_fed.federation.layouts import run_layout
from sglora_fed.zoo import Zoo, ZooIdentity, open_zoo

EXPERTS, WORDINGS = 6, 8


def make_zoo(folder: Path, overrides: list[str]) -> None:
    """Train the experts of a configuration into a zoo.

    Args:
        folder: of the zoo, new.
        overrides: of the configuration; family, backbone and adapter of the service.
    """
    import client.app
    from sglora_fed.experiments.run import build_zoos
    from sglora_fed.federation.inprocess import InProcessGrid

    told = [*overrides, f"zoo.path={folder}", "federation.nodes=1"]
    grid = InProcessGrid(client.app.app, 1, {"overrides": shlex.join(told)})
    build_zoos(compose(told), grid, folder.with_name(f"{folder.name}-log"))


def random_zoo(folder: Path, overrides: list[str]) -> None:
    """Six experts whose numbers mean nothing: enough for the plumbing, and made at once.

    Args:
        folder: of the zoo, new.
        overrides: of the configuration whose adapters it holds.
    """
    config, rng = compose(overrides), np.random.default_rng(0)
    layout, describer = run_layout(config), light_describer(config.backbone)
    shape, texts = (EXPERTS, layout.size), (EXPERTS, WORDINGS, describer.dim)
    wordings = rng.normal(size=(EXPERTS, 1, describer.dim)) + 0.1 * rng.normal(size=texts)
    wordings /= np.linalg.norm(wordings, axis=-1, keepdims=True)
    clip = config.backbone.name == "clip"
    identity = ZooIdentity(
        backbone="clip-vit-patch8-32" if clip else "all-MiniLM-L6-v2",
        weights_sha256=PACKAGED["cameras"] if clip else MINILM_SHA256,
        encoder=describer.fingerprint,
        layout=layout.to_dict(),
        seed=0,
        config_sha256="0" * 64,
        tasks_sha256="0" * 64,
        versions={},
    )
    zoo = Zoo(
        ids=tuple(f"e{number}" for number in range(EXPERTS)),
        wordings=wordings.astype(np.float32),
        means=rng.normal(scale=0.05, size=shape).astype(np.float32),
        variances=np.full(shape, 1e-4, np.float32),
        examples=np.full(EXPERTS, 9, np.int64),
    )
    open_zoo(folder, identity).add(zoo)


if __name__ == "__main__":
    make_zoo(Path(sys.argv[1]), sys.argv[2:])

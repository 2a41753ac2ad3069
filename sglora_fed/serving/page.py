"""A page to look at: a sentence about a camera, and what the camera's pictures are taken for.

It is a demonstration: the sentence goes to the endpoint, which embeds it here. A client never sends
one; it sends what its mechanism has released.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.backbones import description_reader, load_backbone, load_describer
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.config import compose
from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import EndpointError, RequestError, SgloraError, VocabularyError
from sglora_fed.experiments.gallery import best_texts, png
from sglora_fed.experiments.words import check_known
from sglora_fed.generators.export import Export
from sglora_fed.serving.app import Service, read_body, refusal
from sglora_fed.serving.wire import JSON
from sglora_fed.tasks.cameras.captions import CAPTIONS
from sglora_fed.tasks.cameras.conditions import COLOUR, GEOMETRY, OPTICS, Condition, seen_by
from sglora_fed.tasks.cameras.scenes import hard_groups, render
from sglora_fed.tasks.types import Example, Task

SHOWN, JUDGED = 4, 96
"""Pictures that are shown, and over which the share of right first captions is taken."""

LONGEST = 300
"""Letters of a sentence."""

AXES = {"geometry": GEOMETRY, "colour": COLOUR, "optics": OPTICS}


@dataclass(frozen=True)
class Wish:
    """What somebody asks to see.

    Attributes:
        sentence: about the camera.
        condition: what really is wrong with it.
    """

    sentence: str
    condition: Condition

    @classmethod
    def parse(cls, body: bytes) -> Wish:
        """Check and read a body.

        Raises:
            RequestError: for anything else than a sentence and the three keys of a condition.
        """
        try:
            values = json.loads(body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise RequestError("the body is no JSON") from error
        if not isinstance(values, dict) or set(values) != {"sentence", *AXES}:
            raise RequestError(f"need a sentence and {', '.join(AXES)}")
        if not all(isinstance(text, str) for text in values.values()):
            raise RequestError("all values are texts")
        sentence = " ".join(values.pop("sentence").split())
        if not 0 < len(sentence) <= LONGEST:
            raise RequestError(f"a sentence has 1 to {LONGEST} letters")
        if any(values[axis] not in known for axis, known in AXES.items()):
            raise RequestError("no camera is mounted so")
        return cls(sentence, Condition(**values))


@dataclass
class Viewer:
    """Sees what a camera sees, before and after it has got an adapter.

    Args:
        export: whose generator makes the adapters.

    Raises:
        EndpointError: when the generator is not of the cameras, or of another backbone than the
            installed one.
    """

    export: Export
    config: RunConfig = field(init=False)

    def __post_init__(self) -> None:
        self.config = compose(["experiment=cameras"])
        identity, backbone = self.export.about.identity, self.config.backbone
        encoder = load_backbone(backbone, self.config.adapter)
        found = (encoder.weights_sha256, load_describer(backbone).fingerprint)
        if (identity.weights_sha256, identity.encoder) != found:
            raise EndpointError("--page shows cameras; the export is of another backbone")

    def look(self, wish: Wish) -> dict[str, Any]:
        """Pictures as files and their best captions, without and with the adapter.

        Raises:
            VocabularyError: when the model knows too few of the words.
        """
        numbers, scenes = _scenes()
        seen = seen_by(wish.condition, scenes)
        task = _task(wish, seen, numbers)
        adapter, similarity = self._adapter(wish.sentence)
        encoder = load_backbone(self.config.backbone, self.config.adapter)
        prepared = prepare(encoder, task, task.test, "none")
        before = score_tasks(encoder, [prepared])[0]
        after = score_tasks(encoder, [prepared], self.export.layout, adapter)[0]
        return {
            "similarity": similarity,
            "before": _share(prepared, before),
            "after": _share(prepared, after),
            "pictures": [
                {
                    "scene": _file(scenes[i]),
                    "seen": _file(seen[i]),
                    "right": task.test[i].label,
                    "before": best_texts(task, before[i]),
                    "after": best_texts(task, after[i]),
                }
                for i in range(SHOWN)
            ],
        }

    def _adapter(self, sentence: str) -> tuple[np.ndarray, float]:
        """[1, D] float32, and the cosine of the nearest expert's description."""
        backbone = self.config.backbone
        check_known("the sentence", description_reader(backbone).read([sentence]))
        embedding = np.asarray(load_describer(backbone).encode([sentence]))
        made = self.export.generator.generate(embedding, 1, self.export.about.identity.seed)
        return made.adapters[:, 0], float(made.similarity[0])


def _scenes() -> tuple[np.ndarray, np.ndarray]:
    """Numbers of new scenes, and what an upright camera shows of them."""
    rng = np.random.default_rng()
    numbers = rng.permutation(hard_groups(rng).ravel()[:JUDGED])
    return numbers, render(numbers, rng)


def _task(wish: Wish, seen: np.ndarray, numbers: np.ndarray) -> Task:
    examples = tuple(
        Example(picture, CAPTIONS[number]) for picture, number in zip(seen, numbers, strict=True)
    )
    return Task(
        id="page",
        description=wish.sentence,
        labels={},
        train=examples,
        test=examples,
        role="client",
        split="page",
        kind="retrieval",
        modality="image",
    )


def _share(prepared: Prepared, scores: Any) -> float:
    """Of the pictures whose first caption is right."""
    return task_metrics("retrieval", scores, prepared.targets)["i2t_r1"]


def _file(picture: np.ndarray) -> str:
    return base64.b64encode(png(picture)).decode()


def add_page(app: FastAPI, service: Service) -> None:
    """Add the page, and the one address that it asks.

    Raises:
        EndpointError: when the export is not of the cameras.
    """
    if service.export.about.family != "cameras":
        raise EndpointError(f"--page shows cameras; the export is of {service.export.about.family}")
    viewer, worker = Viewer(service.export), ThreadPoolExecutor(1, "look")
    text = files("sglora_fed.serving").joinpath("templates/page.html").read_text(encoding="utf-8")
    headers = {"content-security-policy": policy(text), "x-content-type-options": "nosniff"}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(text, headers=headers, media_type="text/html; charset=utf-8")

    @app.post("/look", include_in_schema=False)
    async def look(request: Request) -> Response:
        try:
            with service.gate.admitted(service.name_of(request.scope)):
                if request.headers.get("content-type") != JSON:
                    raise RequestError("need JSON")
                wish = Wish.parse(await read_body(request))
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(worker, viewer.look, wish)
        except VocabularyError as error:
            return refusal(RequestError(str(error)), error.code)
        except SgloraError as error:
            return service.refused(service.answerable(error))
        return Response(json.dumps(found), media_type=JSON)


def policy(text: str) -> str:
    """What a browser lets the page do: run its own script and style, and ask this endpoint."""
    hashed = {
        name: base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        for name in ("script", "style")
        if (found := re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL))
    }
    own = "; ".join(f"{name}-src 'sha256-{digest}'" for name, digest in hashed.items())
    rest = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'none'; connect-src 'self'; img-src data:; {own}; {rest}"

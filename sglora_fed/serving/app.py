"""The endpoint's addresses: what is refused, in which order, and what is told of it.

A request is let in (rate), read (size and time), proven (signature, nonce, time) and parsed, in
this order, so that what costs least comes first. Every refusal has a body of the same size, which
holds a code alone; nothing of a request is in an answer or in the log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from sglora_fed import __version__
from sglora_fed.errors import (
    AudienceError,
    BodyError,
    GenerationError,
    ProofError,
    RateError,
    RequestError,
    RouteError,
    SgloraError,
    SpentError,
)
from sglora_fed.federation.readings import Readings
from sglora_fed.generators.export import Export
from sglora_fed.privacy.shadow import Shadow
from sglora_fed.serving.batching import Batcher
from sglora_fed.serving.guard import LOG, Admitting, Guard, InTurn, log_failure
from sglora_fed.serving.limits import Budget, Gate, Limits
from sglora_fed.serving.metrics import CONTENT, Metrics
from sglora_fed.serving.openapi import DESCRIPTION, REPLY, REQUEST, TAKEN
from sglora_fed.serving.proof import Doorkeeper, Meaning
from sglora_fed.serving.tls import PEER, Peer
from sglora_fed.serving.wire import (
    JSON,
    LONGEST_BODY,
    SAFETENSORS,
    Accepted,
    AdapterRequest,
    pack_reply,
    parse_request,
)

ADDRESS = "/v1/adapters"

BODY_SECONDS = 5.0
"""For a request's body to come to its end."""

HELD = 1.0
"""Seconds before a client is told that it asks too often, and up to as many more: who asks at once
again waits with it, and those who were refused in one moment do not come again in one."""

STATUS: dict[type[SgloraError], int] = {
    RequestError: 400,
    ProofError: 401,
    AudienceError: 401,
    SpentError: 403,
    BodyError: 413,
    RouteError: 404,
    GenerationError: 500,
    RateError: 429,
}

FAILING = 5
"""Faults after one another, without one adapter between them."""

LOOPBACK = "loopback"
"""What every client is called without TLS, where nobody can be told from another."""


class Taken(Response):
    """An answer that counts as being answered until its client has taken it.

    So nobody makes the endpoint hold more answers than it may ask for together.

    Args:
        content: a safetensors file.
        held: what ends then.
    """

    def __init__(self, content: bytes, held: ExitStack) -> None:
        super().__init__(content, media_type=SAFETENSORS)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the server takes the end of a body once there is room for more."""
        parts: list[Message] = [
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
            {"type": "http.response.body", "body": self.body, "more_body": True},
            {"type": "http.response.body", "body": b""},
        ]
        with self._held:
            for part in parts:
                await send(part)


@dataclass
class Service:
    """What answers requests, and what it has counted.

    Attributes:
        export: the generator.
        audience: that requests are signed for (:func:`~sglora_fed.serving.tls.audience_of`); None
            without TLS, where clients have no certificates and nothing is proven.
        limits: of each client's requests for adapters.
        budget: of each client; None: its own ledger alone counts.
        looks: of each client's other requests, which are counted apart: health checks go on
            whatever else their client asks for, and however seldom it may.
    """

    export: Export
    audience: str | None
    limits: Limits = field(default_factory=Limits)
    budget: Budget | None = None
    looks: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    gate: Gate = field(init=False)
    batcher: Batcher = field(init=False)
    doorkeeper: Doorkeeper = field(default_factory=Doorkeeper)

    def __post_init__(self) -> None:
        self.gate, self._looks = Gate(self.limits), Gate(self.looks)
        self.batcher = Batcher(self.export)
        self._shadow = Shadow(self.budget.file, self.budget.total) if self.budget else None
        snap, catalogue = self.export.snap, self.export.about.catalogue_sha256
        places = 0 if snap is None else len(snap.rows)
        self.accepted = Accepted(self.export.dim, places, catalogue if places else "")

    async def answer(self, request: Request) -> Response:
        """Adapters for a request, or what stands in its way."""
        started, client = time.perf_counter(), self._peer(request.scope)
        name, adapters, code = self.name_of(request.scope), 0, 0
        try:
            with ExitStack() as held:
                held.enter_context(self.gate.admitted(name))
                body = await read_body(request)
                content = request.headers.get("content-type", "")
                if client is not None and self.audience is not None:
                    asked = (name, request.method, request.url.path, content, body)
                    meaning = Meaning(self.audience, *asked)
                    self.doorkeeper.check(meaning, request.headers, client.key)
                parsed = parse_request(body, content, self.accepted)
                self._count(name, parsed)
                made = await self._made(name, parsed)
                reply: Response = Taken(pack_reply(made, self.export.sha256), held.pop_all())
            adapters = len(made)
        except Exception as error:  # noqa: BLE001 - no request may end the service
            refused = self.answerable(error)
            code, reply = refused.code, await self.refused_late(refused)
        seconds = time.perf_counter() - started
        if adapters:
            self.metrics.served(adapters, seconds)
        _log(client=name, status=reply.status_code, code=code, adapters=adapters, seconds=seconds)
        return reply

    def name_of(self, scope: Scope) -> str:
        """Whose request it is."""
        client = self._peer(scope)
        return client.name if client else LOOPBACK

    def admitted(self, scope: Scope) -> AbstractContextManager[None]:
        """Let a request in that is not for adapters; one for them is let in where it is read."""
        if (scope["method"], scope["path"]) == ("POST", ADDRESS):
            return nullcontext()
        return self._looks.admitted(self.name_of(scope))

    def _peer(self, scope: Scope) -> Peer | None:
        if self.audience is None:
            return None
        found = scope["state"][PEER]
        assert isinstance(found, Peer)  # the connection has no other way to be made
        return found

    def _count(self, name: str, request: AdapterRequest) -> None:
        """Count what a client has released, whatever becomes of the request."""
        if self.budget is None or self._shadow is None:
            return
        if not self._shadow.admits(name, request.released, self.budget.epsilon):
            raise SpentError(f"epsilon {self.budget.total:g} of all requests is spent")

    def close(self) -> None:
        """Let go of the file of the counts, and of the thread that generates."""
        self.batcher.close()
        if self._shadow is not None:
            self._shadow.close()

    async def _made(self, name: str, request: AdapterRequest) -> np.ndarray:
        """[m, D] float16."""
        snap, places = self.export.snap, request.form.dtype == "uint16"
        embeddings = request.released.astype(np.float32)[None]
        if places and snap is not None:
            embeddings = snap.embeddings[request.released]
        if request.readings > 1 and snap is not None:
            readings = Readings(snap, request.readings)
            embeddings = (readings.of_entries if places else readings.of)(embeddings)[0]
        return await self.batcher.adapters(name, embeddings)

    def answerable(self, error: Exception) -> SgloraError:
        """An error that a client is told; of a fault of this side it is told that there is one.

        A fault is logged, and counted until the next adapter is made.
        """
        if isinstance(error, SgloraError) and type(error) in STATUS:
            return error
        log_failure(error)
        self.metrics.failures += 1
        return GenerationError("the endpoint failed")

    async def refused_late(self, error: SgloraError) -> Response:
        """A refusal; who asks too often is told so late."""
        if isinstance(error, RateError):
            await asyncio.sleep(random.uniform(HELD, 2 * HELD))
        return self.refused(error)

    def refused(self, error: SgloraError, code: int | None = None) -> Response:
        """A refusal that is counted."""
        reply = refusal(error, code)
        self.metrics.answers[reply.status_code, code or error.code] += 1
        return reply

    @property
    def failing(self) -> bool:
        """Whether so many requests in a row met a fault of this side that others would, too."""
        return self.metrics.failures >= FAILING

    def counted(self) -> str:
        """All metrics."""
        self.metrics.batches = self.batcher.batches
        return self.metrics.text(self.gate.active)

    def facts(self) -> dict[str, Any]:
        """What a client must know to ask, and to check what it gets. All of it is public."""
        identity = self.export.about.identity
        return {
            "version": __version__,
            "generator": self.export.sha256,
            "backbone": identity.backbone,
            "weights_sha256": identity.weights_sha256,
            "encoder": identity.encoder,
            "layout": identity.layout,
            "dim": self.accepted.dim,
            "places": self.accepted.places,
            "catalogue": self.accepted.catalogue,
        }


def refusal(error: SgloraError, code: int | None = None) -> Response:
    """An answer that holds an error's code, or another, in as many bytes as any other."""
    status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
    headers = {}
    if isinstance(error, RateError):
        headers["retry-after"] = str(error.seconds)
    if isinstance(error, BodyError):
        headers["connection"] = "close"  # the rest of the body is not read
    body = json.dumps({"error": f"SGL-{code or error.code}"})
    return Response(body, status, headers, JSON)


async def read_body(request: Request) -> bytes:
    """All of a body, unless it is too long or too slow; no more is kept than is allowed."""
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                found += chunk
                if len(found) > LONGEST_BODY:
                    raise BodyError(f"more than {LONGEST_BODY} bytes")
    except (TimeoutError, ClientDisconnect) as error:
        raise BodyError("the body did not come to its end") from error
    return bytes(found)


def _log(**told: object) -> None:
    """One line of JSON: who, how it ended and how long it took; nothing of what was asked."""
    if LOG.isEnabledFor(logging.INFO):
        LOG.info(json.dumps({"time": round(time.time(), 3), **told}))


def make_app(service: Service) -> FastAPI:
    """The endpoint as an ASGI application."""
    app = FastAPI(
        title="sglora-fed",
        version=__version__,
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        responses={429: REPLY[429]},
    )

    @app.post(ADDRESS, responses=REPLY, openapi_extra=REQUEST, response_class=Response)
    async def adapters(request: Request) -> Response:
        """Adapters for what a mechanism has released."""
        return await service.answer(request)

    @app.get("/v1/generator", responses=TAKEN)
    async def generator() -> dict[str, Any]:
        """Which generator this is, and what it takes."""
        return service.facts()

    @app.get("/healthz", responses={503: {"description": "no adapter is made any more"}})
    async def healthz(response: Response) -> dict[str, str]:
        """Whether the endpoint is there, and makes adapters."""
        response.status_code = 503 if service.failing else 200
        return {"status": "failing" if service.failing else "ok"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counts, for Prometheus."""
        return Response(service.counted(), media_type=CONTENT)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return refusal(RouteError("no such address or method"))

    app.add_middleware(Admitting, admitted=service.admitted, refusal=service.refused_late)
    app.add_middleware(Guard, answer=lambda error: service.refused(service.answerable(error)))
    app.add_middleware(InTurn, name_of=service.name_of)

    return app

"""Requests and replies that nobody agreed to: none may crash the endpoint or its client.

    python benchmarks/fuzz_serving.py [--requests 100000] [--replies 20000]

Writes ``benchmarks/results/fuzz-serving.json``: how they ended, and how far memory grew. Requests
go to the application itself, without sockets, as an honest client's that somebody has changed:
bytes of the body, headers, method, path. Hypothesis draws what is changed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import machine
from bench_serving import make_export
from serving_load import unit_requests
from sglora_fed.adapters.start import norm_bound
from sglora_fed.errors import ReplyError
from sglora_fed.serving import app
from sglora_fed.serving.app import ADDRESS, Service, make_app
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.proof import Meaning, proof_of
from sglora_fed.serving.tls import PEER, Peer
from sglora_fed.serving.wire import JSON, SAFETENSORS, as_json, pack_reply, parse_reply

TOGETHER = 20
"""Requests of one drawn example."""

AT_ONCE = 250
"""Examples of one search: Hypothesis remembers all that it has drawn in one."""

AUDIENCE = "a" * 64
"""What requests are signed for."""

GROWTH = 50.0
"""Megabytes."""

Change = tuple[str, int, bytes]
"""What is done to bytes, where (modulo their length), and with which bytes."""

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "cut", "append"]), st.integers(0, 4095), st.binary()
    ),
    max_size=4,
)
WHOLE = st.one_of(
    st.binary(max_size=5000),
    st.text(max_size=500).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=10,
    ).map(lambda value: repr(value).replace("'", '"').encode("utf-8", "surrogatepass")),
)


@dataclass(frozen=True)
class Attempt:
    """One request that is sent."""

    method: str
    path: str
    content: str
    body: bytes
    proven: bool
    headers: tuple[tuple[bytes, bytes], ...]


ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        method=st.sampled_from(["POST"] * 8 + ["GET", "PUT", "OPTIONS", "HEAD"]),
        path=st.sampled_from([ADDRESS] * 12 + ["/", "/metrics", "/v1/generator", "/v1/adapters/"]),
        content=st.sampled_from([JSON, SAFETENSORS]) | st.text(max_size=20),
        body=WHOLE | st.tuples(st.integers(0, 511), CHANGES).map(lambda drawn: altered(*drawn)),
        proven=st.sampled_from([True, True, True, False]),
        headers=st.lists(
            st.tuples(
                st.sampled_from(
                    [
                        b"sglora-audience",
                        b"sglora-nonce",
                        b"sglora-time",
                        b"sglora-proof",
                        b"x",
                        b"cookie",
                    ]
                ),
                st.binary(max_size=200),
            ),
            max_size=2,
        ).map(tuple),
    ),
    min_size=1,
    max_size=TOGETHER,
)


def _honest() -> list[bytes]:
    some = unit_requests(256, 384, 3)
    return [body for one in some for body in (one.pack(), as_json(one))]


HONEST = _honest()


def altered(number: int, changes: Sequence[Change]) -> bytes:
    """An honest body with a few changes."""
    body = bytearray(HONEST[number])
    for kind, where, data in changes:
        place = where % (len(body) + 1)
        if kind == "set":
            body[place : place + len(data)] = data
        elif kind == "insert":
            body[place:place] = data
        elif kind == "cut":
            del body[place : place + 1 + len(data)]
        else:
            body += data
    return bytes(body[:5000])


@dataclass
class Target:
    """The application, a client that it knows, and what has come of requests so far."""

    service: Service
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    statuses: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._app: Any = make_app(self.service)
        self._peer = Peer("fuzzer", self.key.public_key(), 1)

    async def send(self, attempt: Attempt) -> tuple[int, bytes]:
        """Status and body of the answer."""
        headers = [(b"content-type", attempt.content.encode("utf-8", "surrogatepass"))]
        if attempt.proven:
            meaning = Meaning(
                AUDIENCE,
                "fuzzer",
                attempt.method,
                attempt.path,
                headers[0][1].decode("latin-1"),
                attempt.body,
            )
            headers += [(k.encode(), v.encode()) for k, v in proof_of(meaning, self.key).items()]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": attempt.method,
            "path": attempt.path,
            "query_string": b"",
            "headers": [*headers, *attempt.headers],
            "state": {PEER: self._peer},
        }
        return await self._answer(scope, attempt.body)

    async def _answer(self, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
        found: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            found.append(message)

        await self._app(scope, receive, send)
        status = int(found[0]["status"])
        self.statuses[status] += 1
        return status, b"".join(part.get("body", b"") for part in found[1:])


def requests(target: Target, count: int) -> None:
    """Send so many; whatever raises, or is answered as a failure of the endpoint, ends it."""

    async def every(attempts: Sequence[Attempt]) -> None:
        for status, body in await asyncio.gather(*map(target.send, attempts)):
            if status >= 500 or (status >= 400 and len(body) not in (0, 20)):
                raise AssertionError(f"status {status} with {len(body)} bytes")

    with asyncio.Runner() as runner:
        while (left := count - target.statuses.total()) > 0:

            @drawn(min(AT_ONCE, max(10, left // (TOGETHER // 2))))
            @given(ATTEMPTS)
            def some(attempts: list[Attempt]) -> None:
                if target.statuses.total() < count:
                    runner.run(every(attempts))

            some()


def drawn(examples: int) -> settings:
    """So many new examples, however long they take."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def replies(count: int, size: int, layout: Any) -> Counter[str]:
    """Read so many replies that somebody has changed."""
    made = np.linspace(-0.1, 0.1, size, dtype=np.float32)[None]
    honest, seen, bound = pack_reply(made, "g" * 64), Counter[str](), norm_bound(layout)

    while (left := count - seen.total()) > 0:

        @drawn(min(AT_ONCE, left))
        @given(st.binary(max_size=300) | CHANGES.map(lambda changes: changed(honest, changes)))
        def one(body: bytes) -> None:
            try:
                parse_reply(body, 1, layout, bound)
                seen["taken"] += 1
            except ReplyError:
                seen["refused"] += 1

        one()
    return seen


def changed(honest: bytes, changes: Sequence[Change]) -> bytes:
    """A reply with a few changes, most of them in its header."""
    body = bytearray(honest)
    for kind, where, data in changes:
        place = where % 200
        if kind == "cut":
            del body[place : place + 1 + len(data)]
        else:
            body[place : place + (len(data) if kind == "set" else 0)] = data
    return bytes(body)


def memory() -> float:
    """Megabytes of this process, without what nobody holds any more."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def guided() -> dict[str, Any]:
    """What ``fuzz_atheris.py`` has found, which stays in the file."""
    path = machine.RESULTS / "fuzz-serving.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    return {"guided": before["guided"]} if "guided" in before else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Send and read, and write how it ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--replies", type=int, default=20_000)
    given = parser.parse_args(arguments)
    app.HELD = 0.0
    with tempfile.TemporaryDirectory() as folder:
        export = make_export(Path(folder))
    lenient = Limits(1e9, 10**9, 10**6, 10**6)
    target = Target(Service(export, AUDIENCE, lenient, looks=lenient))
    requests(target, max(20, given.requests // 20))  # what is imported and cached at first
    before = memory()
    requests(target, given.requests)
    read = replies(given.replies, export.layout.size, export.layout)
    after = memory()
    target.service.close()
    machine.write(
        "fuzz-serving",
        guided()
        | machine.facts("hypothesis", "fastapi", "starlette", "safetensors")
        | {
            "requests": target.statuses.total(),
            "statuses": {str(status): n for status, n in sorted(target.statuses.items())},
            "replies": dict(read),
            "megabytes": {"before": round(before, 1), "after": round(after, 1)},
            "reached": after - before < GROWTH and max(target.statuses) < 500,
        },
    )


if __name__ == "__main__":
    main()

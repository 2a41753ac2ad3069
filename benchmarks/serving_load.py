"""Many clients of the endpoint in one process: certificates, connections, paces."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sglora_fed.serving.app import ADDRESS
from sglora_fed.serving.proof import Meaning, proof_of
from sglora_fed.serving.tls import Files, client_context, digest_of
from sglora_fed.serving.wire import SAFETENSORS, AdapterRequest

HOST = "127.0.0.1"


class Authority:
    """A private one in a folder, whose certificates hold for a day."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, Ed25519PrivateKey.generate()
        self._file = folder / "ca.pem"
        self._file.write_bytes(self._pem(self._signed("authority", self._key, True)))

    @staticmethod
    def _pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(Encoding.PEM)

    def _signed(self, name: str, key: Ed25519PrivateKey, authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        names = [
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
            for text in (name, "authority")
        ]
        return (
            x509.CertificateBuilder(names[1], names[0], key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, 0 if authority else None), True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), False)
            .sign(self._key, None)
        )

    def issue(self, name: str) -> Files:
        """Files of a client, or of the endpoint."""
        key = Ed25519PrivateKey.generate()
        files = Files(self._folder / f"{name}.pem", self._folder / f"{name}.key", self._file)
        files.certificate.write_bytes(self._pem(self._signed(name, key, False)))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files


@dataclass
class Endpoint:
    """One that runs as a process of its own."""

    port: int
    process: psutil.Process

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> float:
        """Megabytes of physical memory."""
        return float(self.process.memory_info().rss) / 1e6


@contextmanager
def running(export: Path, files: Files, *arguments: str) -> Iterator[Endpoint]:
    """``sglora-fed serve`` as its users start it."""
    command = [sys.executable, "-c", "from sglora_fed.cli import main; main()", "serve"]
    told = {"--cert": files.certificate, "--key": files.key, "--ca": files.authority, "--port": 0}
    words = [str(part) for pair in told.items() for part in pair]
    with (export.parent / "endpoint.log").open("w") as log:
        process = subprocess.Popen([*command, str(export), *words, *arguments], stderr=log)
    try:
        yield Endpoint(_port(export.parent / "endpoint.log", process), psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    while process.poll() is None:
        first = log.read_text().partition("\n")
        if first[1]:
            return int(first[0].partition('"listening": "')[2].partition('"')[0].split(":")[1])
        time.sleep(0.02)
    raise RuntimeError(f"the endpoint has ended: {log.read_text()}")


@dataclass
class Seen:
    """What clients have met.

    Attributes:
        seconds: of each answer with an adapter.
        statuses: status -> answers.
        without_retry: answers 429 that did not say when to come again.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry: int = 0

    def milliseconds(self) -> dict[str, float]:
        """Of answers with an adapter: median and tail."""
        found = np.array(self.seconds) * 1000
        shares = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
        return {name: round(float(np.percentile(found, p)), 2) for name, p in shares.items()}


class Client:
    """One connection, kept open, and opened again when the endpoint closes it."""

    def __init__(self, name: str, files: Files, port: int) -> None:
        self._name, self._port, self._context = name, port, client_context(files)
        self._key = _private(files)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: AdapterRequest, seen: Seen) -> None:
        """Send one request and note what comes; a lost connection is status 0."""
        started, body = time.perf_counter(), request.pack()
        try:
            status, headers = await self._exchange(body)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            await self.close()
            status, headers = 0, b""
        seen.statuses[status] += 1
        if status == 200:
            seen.seconds.append(time.perf_counter() - started)
        elif status == 429:
            seen.without_retry += b"retry-after:" not in headers

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._port, ssl=self._context)
        reader, writer = self._streams
        audience = digest_of(writer.get_extra_info("ssl_object").getpeercert(True))
        meaning = Meaning(audience, self._name, "POST", ADDRESS, SAFETENSORS, body)
        told = {"host": HOST, "content-type": SAFETENSORS, "content-length": str(len(body))}
        lines = [f"{k}: {v}\r\n" for k, v in (told | proof_of(meaning, self._key)).items()]
        writer.write(f"POST {ADDRESS} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body)
        headers = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(headers.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        return int(headers.split(b" ", 2)[1]), headers

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _private(files: Files) -> Any:
    from sglora_fed.serving.client import own_key

    return own_key(files)[1]


def unit_requests(count: int, dim: int, seed: int) -> list[AdapterRequest]:
    """Random directions, as a mechanism would release them."""
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return [AdapterRequest(row.astype(np.float16)) for row in rows]


async def paced(
    clients: Sequence[Client], requests: Sequence[AdapterRequest], rate: float, count: int
) -> Seen:
    """So many requests at a rate, clients in turns, whether answers come or not.

    A client that still waits for its last answer sends the next one after it; that wait counts.
    """
    seen, started = Seen(), time.perf_counter()

    async def one(place: int) -> None:
        for number in range(place, count, len(clients)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            before = len(seen.seconds)
            await clients[place].ask(requests[number % len(requests)], seen)
            if len(seen.seconds) > before:
                seen.seconds[-1] = time.perf_counter() - due

    await asyncio.gather(*(one(place) for place in range(len(clients))))
    return seen


async def pressing(
    clients: Sequence[Client], requests: Sequence[AdapterRequest], seconds: float
) -> Seen:
    """Each client asks again as soon as it has its answer, for so long."""
    seen, end = Seen(), time.perf_counter() + seconds

    async def one(place: int) -> None:
        number = place
        while time.perf_counter() < end:
            await clients[place].ask(requests[number % len(requests)], seen)
            number += len(clients)

    await asyncio.gather(*(one(place) for place in range(len(clients))))
    return seen


async def warm(clients: Sequence[Client], request: AdapterRequest) -> None:
    """Open all connections: a handshake is no part of a request."""
    for first in range(0, len(clients), 10):
        some = clients[first : first + 10]
        await asyncio.gather(*(client.ask(request, Seen()) for client in some))


async def closed(clients: Sequence[Client]) -> None:
    """Close all connections."""
    await asyncio.gather(*(client.close() for client in clients))

"""An authority with certificates, an exported generator, an endpoint that answers on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sglora_fed.adapters.layout import Layout
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.generators import fit_generator
from sglora_fed.generators.export import About, Export, read_export, write_export
from sglora_fed.privacy.snapping import snap_to
from sglora_fed.serving.app import Service, make_app
from sglora_fed.serving.client import EndpointClient
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.run import Where, server_of
from sglora_fed.serving.tls import Files, audience_of
from sglora_fed.serving.wire import AdapterRequest
from sglora_fed.zoo import Zoo, ZooIdentity

DIM, PLACES = 384, 20


class Authority:
    """A private one, as an operator has."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.key = Ed25519PrivateKey.generate()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        builder = self._builder(self.name, self.key, 1).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.certificate = builder.sign(self.key, None)
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def _builder(self, name: x509.Name, key: Any, days: float) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        begin = min(now, now + timedelta(days=days)) - timedelta(hours=1)
        return builder.not_valid_before(begin).not_valid_after(now + timedelta(days=days))

    def issue(
        self, name: str, key: Any = None, days: float = 1, revoked: Path | None = None
    ) -> Files:
        """Files of a new client or endpoint; with negative days it has expired."""
        key = key or Ed25519PrivateKey.generate()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        hosts = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
        builder = self._builder(subject, key, days).add_extension(
            x509.SubjectAlternativeName(hosts), critical=False
        )
        # Files of their own for each: two clients may have one name.
        stem = self.folder / f"{name}-{x509.random_serial_number():x}"[:60]
        certificate = builder.sign(self.key, None)
        stem.with_suffix(".pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        stem.with_suffix(".key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return Files(stem.with_suffix(".pem"), stem.with_suffix(".key"), self.file, revoked)

    def revoke(self, *files: Files) -> Path:
        """A list of revoked certificates."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(days=1))
        for one in files:
            serial = x509.load_pem_x509_certificate(one.certificate.read_bytes()).serial_number
            gone = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(gone.build())
        path = self.folder / "revoked.pem"
        path.write_bytes(builder.sign(self.key, None).public_bytes(Encoding.PEM))
        return path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def issue(authority: Authority) -> Callable[..., Files]:
    return authority.issue


def exported(folder: Path, make_zoo: Callable[..., Zoo], layout: Any, places: int) -> Export:
    """A ridge regression over eight experts, and a catalogue of so many descriptions."""
    size = Layout.from_dict(layout).size
    identity = ZooIdentity("some-clip", "5" * 64, "minilm", layout, 7, "c" * 64, "", {})
    config, zoo = GeneratorConfig(), make_zoo(8, dim=DIM, size=size)
    snap = snap_to(list(make_zoo(places, dim=DIM, seed=3).wordings))
    about = About("cameras", None, None, identity, tuple(zoo.fingerprints().values()), "c" * 64)
    write_export(folder, fit_generator(config, "ridge", zoo, 0), config, about, snap)
    return read_export(folder)


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory, make_zoo: Callable[..., Zoo]) -> Export:
    """One of small adapters."""
    layout = {"modules": [["query", 30, 20], ["value", 30, 30]], "rank": 2, "alpha": 4.0}
    return exported(tmp_path_factory.mktemp("export"), make_zoo, layout, PLACES)


@pytest.fixture(scope="session")
def large_export(tmp_path_factory: pytest.TempPathFactory, make_zoo: Callable[..., Zoo]) -> Export:
    """One whose reply to 64 places is 1.2 MB, as the cameras' is."""
    modules = [[f"m{number}", 64, 64] for number in range(9)]
    layout = {"modules": modules, "rank": 8, "alpha": 16.0}
    return exported(tmp_path_factory.mktemp("large"), make_zoo, layout, 64)


@pytest.fixture(scope="session")
def released() -> AdapterRequest:
    """What a client may have released."""
    numbers = np.random.default_rng(5).normal(size=DIM)
    return AdapterRequest((numbers / np.linalg.norm(numbers)).astype(np.float16))


class Running:
    """An endpoint that answers in a thread of this process."""

    def __init__(self, service: Service, files: Files | None) -> None:
        self.service = service
        self._socket = Where("127.0.0.1", 0, files).listening()
        self.port: int = self._socket.getsockname()[1]
        self._server = server_of(make_app(service), files)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def __enter__(self) -> Running:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self.service.close()

    def unread(self, name: str) -> list[int]:
        """Bytes that wait for a client, of each of its connections."""
        found: list[Any] = list(self._server.server_state.connections)
        mine = [one for one in found if one.peer is not None and one.peer.name == name]
        return [one.transport.get_write_buffer_size() for one in mine]

    def client(self, files: Files | None) -> EndpointClient:
        return EndpointClient("127.0.0.1", self.port, self.service.export.layout, files)


@pytest.fixture(scope="session")
def running_of() -> type[Running]:
    """What runs a service."""
    return Running


LENIENT = Limits(rate=10_000, burst=10_000, concurrent=100)


@pytest.fixture(scope="module")
def running(export: Export, authority: Authority) -> Iterator[Running]:
    """An endpoint with TLS that lets everybody ask as often as it likes."""
    own = authority.issue("endpoint")
    with Running(Service(export, audience_of(own), LENIENT, looks=LENIENT), own) as found:
        yield found


@pytest.fixture
def serve(export: Export) -> Iterator[Callable[..., Running]]:
    """A function of (limits, files, looks) that starts an endpoint for one test."""
    started: list[Running] = []

    def start(limits: Limits, files: Files | None, looks: Limits = LENIENT) -> Running:
        service = Service(export, audience_of(files) if files else None, limits, looks=looks)
        started.append(Running(service, files).__enter__())
        return started[-1]

    yield start
    for one in started:
        one.__exit__()

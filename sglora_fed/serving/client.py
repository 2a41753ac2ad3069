"""A typed client of the endpoint, for programs that are no Flower nodes.

It sends what a mechanism has released and nothing else, and checks what comes before anything is
made of it.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import norm_bound
from sglora_fed.errors import CertificateError, EndpointError, ReplyError
from sglora_fed.serving.proof import Meaning, PrivateKey, proof_of
from sglora_fed.serving.tls import Files, client_context, digest_of, peer_of
from sglora_fed.serving.wire import SAFETENSORS, AdapterRequest, parse_reply, reply_bytes

ADDRESS = "/v1/adapters"
PATIENCE = 10.0
"""Seconds to wait for the endpoint."""

CUT_OFF = (
    (ssl.SSLCertVerificationError, "its certificate is of another authority, or for another name"),
    (ssl.SSLError, "it speaks plain HTTP, or its authority has not signed our certificate"),
    (ConnectionRefusedError, "nobody listens there; is the endpoint up, at this port?"),
    (ConnectionError, "it closed the connection; is it one with TLS, asked without?"),
    (TimeoutError, "no answer; is the address right, and its port open?"),
    (socket.gaierror, "no such host"),
)
"""Kind of error -> what is likely behind it; the first that fits."""

LONGEST_REFUSAL = 64
REFUSAL = re.compile(rb'\{"error": ?"SGL-([0-9]{3})"\}')


@dataclass(frozen=True)
class Answer:
    """What the endpoint has made.

    Attributes:
        adapters: [m, D] float32, in the order of the places that were asked for.
        generator: sha256 of the generator's manifest.
    """

    adapters: np.ndarray
    generator: str


@dataclass
class EndpointClient:
    """Keeps one connection, and opens it again when it was closed.

    Args:
        host: of the endpoint, as in its certificate.
        port: of the endpoint.
        layout: that adapters must have.
        files: certificates; None for plain HTTP to an endpoint that was started so.
        patience: seconds to wait for each answer.

    Raises:
        CertificateError: when a file cannot be used.
    """

    host: str
    port: int
    layout: Layout
    files: Files | None
    patience: float = PATIENCE
    _context: ssl.SSLContext | None = field(init=False, default=None)
    _connection: http.client.HTTPConnection | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.files is not None:
            self._context = client_context(self.files)
            self._name, self._key = own_key(self.files)

    def adapters(self, request: AdapterRequest) -> Answer:
        """Ask for adapters, one for each place or reading.

        Raises:
            EndpointError: when the endpoint cannot be reached or refuses; with its code.
            ReplyError: when what comes is not what was asked for.
        """
        body, count = request.pack(), request.adapters
        most = reply_bytes(count, self.layout.size)
        status, data = self._sent(body, most)
        if status != http.client.OK:
            raise EndpointError(f"{self.host}:{self.port} refused: {_refused(status, data)}")
        adapters, generator = parse_reply(data, count, self.layout, norm_bound(self.layout))
        return Answer(adapters, generator)

    def _sent(self, body: bytes, most: int) -> tuple[int, bytes]:
        """Status and body of the answer, of which no more is read than there may be."""
        try:
            with self._reply(body) as reply:
                data = reply.read(most + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise EndpointError(f"{self.host}:{self.port}: {_cut_off(error)}") from error
        if len(data) > most:
            self.close()
            raise ReplyError(f"the reply is longer than {most} bytes")
        return reply.status, data

    def _reply(self, body: bytes) -> http.client.HTTPResponse:
        """The answer to a request; once more, proven anew, where an idle connection was closed."""
        reused = self._connection is not None
        try:
            connection = self._connected()
            headers = {"content-type": SAFETENSORS, **self._proof(connection, body)}
            connection.request("POST", ADDRESS, body, headers)
            return connection.getresponse()
        except (ConnectionError, ssl.SSLError):
            self.close()
            if not reused:
                raise
        return self._reply(body)

    def _proof(self, connection: http.client.HTTPConnection, body: bytes) -> Mapping[str, str]:
        """For the endpoint that is at the other end, whoever else it may be passed on to."""
        if not isinstance(connection.sock, ssl.SSLSocket):
            return {}
        audience = digest_of(connection.sock.getpeercert(binary_form=True) or b"")
        meaning = Meaning(audience, self._name, "POST", ADDRESS, SAFETENSORS, body)
        return proof_of(meaning, self._key)

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = self._unconnected()
            self._connection.connect()
        return self._connection

    def _unconnected(self) -> http.client.HTTPConnection:
        where = (self.host, self.port)
        if self._context is None:
            return http.client.HTTPConnection(*where, timeout=self.patience)
        return http.client.HTTPSConnection(*where, timeout=self.patience, context=self._context)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of HOST:PORT.

    Raises:
        EndpointError: when it is not of this form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise EndpointError(f"{address!r}: need HOST:PORT")
    return host.strip("[]"), int(port)


def _cut_off(error: OSError | http.client.HTTPException) -> str:
    """How a connection failed, and what to look at."""
    found = (words for kind, words in CUT_OFF if isinstance(error, kind))
    return f"{type(error).__name__}: {next(found, 'no answer that is one')}"


def _refused(status: int, data: bytes) -> str:
    """The endpoint's own code, where it has told one."""
    found = REFUSAL.fullmatch(data[:LONGEST_REFUSAL])
    return f"code {found[1].decode()}" if found else f"status {status}"


def own_key(files: Files) -> tuple[str, PrivateKey]:
    """This client's name in its certificate, and its private key."""
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = load_pem_private_key(files.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise CertificateError(f"{files.certificate} or {files.key} cannot be read") from error
    if not isinstance(key, (Ed25519PrivateKey, EllipticCurvePrivateKey)):
        raise CertificateError(f"{files.key}: need Ed25519 or an elliptic curve")
    return peer_of(certificate.public_bytes(Encoding.DER)).name, key

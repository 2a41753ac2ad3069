"""Certificates: TLS 1.3 with both sides known to one private authority."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sglora_fed.errors import CertificateError, EndpointError
from sglora_fed.serving.proof import PublicKey
from sglora_fed.tasks.types import IDENTIFIER

PEER = "sglora_peer"
"""Where a request's scope holds its :class:`Peer`."""


@dataclass(frozen=True)
class Files:
    """PEM files of one side of a connection.

    Attributes:
        certificate: its own, with those between it and its authority.
        key: private key of the certificate, without password.
        authority: that must have signed the other side's certificate.
        revoked: list of certificates that the authority has revoked, or None.
    """

    certificate: Path
    key: Path
    authority: Path
    revoked: Path | None = None


def files_of(
    certificate: Path | None,
    key: Path | None,
    authority: Path | None,
    revoked: Path | None,
    *,
    insecure: bool,
) -> Files | None:
    """Of the files that somebody named; None where nobody wants any.

    Raises:
        EndpointError: unless all are given, or none and that is said.
    """
    if certificate and key and authority and not insecure:
        return Files(certificate, key, authority, revoked)
    if not insecure or certificate or key or authority:
        raise EndpointError("give --cert, --key and --ca, or --insecure and none of them")
    return None


@dataclass(frozen=True)
class Peer:
    """The client at the other end.

    Attributes:
        name: the certificate's common name; an identifier.
        key: the certificate's public key.
        serial: the certificate's number, under which it may be revoked.
    """

    name: str
    key: PublicKey
    serial: int


def server_context(files: Files) -> ssl.SSLContext:
    """TLS 1.3 alone, with a certificate of every client.

    Raises:
        CertificateError: when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _prepared(context, files)


def client_context(files: Files) -> ssl.SSLContext:
    """TLS 1.3 alone; the endpoint's certificate must be of the host that was asked for.

    Raises:
        CertificateError: when a file cannot be used.
    """
    return _prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def _prepared(context: ssl.SSLContext, files: Files) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    named = [files.certificate, files.key, files.authority, files.revoked]
    if missing := [str(path) for path in named if path is not None and not path.is_file()]:
        raise CertificateError(f"{', '.join(missing)}: no such file; certs init makes a trial's")
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        context.load_verify_locations(files.authority)
        if files.revoked is not None:
            context.load_verify_locations(files.revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except OSError as error:  # an error of TLS is one, too
        told = ", ".join(str(path) for path in named if path is not None)
        raise CertificateError(f"{told}: {error.strerror or error}") from error
    return context


def _no_password() -> str:
    """Instead of a question on the terminal."""
    return ""


@lru_cache(maxsize=4096)
def peer_of(certificate: bytes) -> Peer:
    """The client that a certificate, in DER, is of.

    Raises:
        CertificateError: without exactly one common name that is an identifier, or with another
            kind of key than Ed25519 and elliptic curves.
    """
    try:
        read = x509.load_der_x509_certificate(certificate)
        names = read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key = read.public_key()
    except ValueError as error:
        raise CertificateError("the client's certificate cannot be read") from error
    name = names[0].value if len(names) == 1 else ""
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name):
        raise CertificateError("the client's certificate needs one common name, an identifier")
    if not isinstance(key, (Ed25519PublicKey, EllipticCurvePublicKey)):
        raise CertificateError("the client's key must be Ed25519 or of an elliptic curve")
    return Peer(name, key, read.serial_number)


def audience_of(files: Files) -> str:
    """What requests to an endpoint are signed for: sha256 of its certificate, in hexadecimal.

    Raises:
        CertificateError: when the certificate cannot be read.
    """
    try:
        own = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateError(f"{files.certificate} cannot be read") from error
    return digest_of(own.public_bytes(Encoding.DER))


def digest_of(certificate: bytes) -> str:
    """sha256 of a certificate in DER, in hexadecimal."""
    return hashlib.sha256(certificate).hexdigest()

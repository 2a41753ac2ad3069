"""Certificates for a trial: an authority of one's own, the server's certificate, the nodes' keys.

Elliptic curves throughout (P-256 for TLS, P-384 for nodes, as ``ssh-keygen -t ecdsa -b 384`` makes
them for Flower). A node gets a certificate as well, which the HTTPS endpoint asks for. An
organisation with an authority of its own uses that one instead.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sglora_fed.errors import AuthorityError
from sglora_fed.tasks.types import IDENTIFIER

AUTHORITY, CERTIFICATE = "ca.crt", "server.pem"
AUTHORITY_KEY, SERVER_KEY, NODE_KEY, NODE_PUBLIC = "ca.key", "server.key", "node.key", "node.pub"
CLIENT, CLIENT_KEY = "client.pem", "client.key"
SERVER, NODES, OPERATOR = "server", "nodes", "operator"
NAME = "trial"
"""What Flower's configuration of the operator calls the SuperLink."""

LOOPBACK = ("localhost", "127.0.0.1")

EARLY = timedelta(minutes=5)
"""A node whose clock is behind must not find the certificate of the future."""


@dataclass(frozen=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(
    folder: Path, names: Sequence[str], nodes: Sequence[str], port: int, days: int = 365
) -> None:
    """Make all that a trial needs.

    ``folder/ca.key`` and ``ca.crt`` are the authority; ``server/`` goes to the server, each of
    ``nodes/NAME/`` to its node; ``operator/`` is a home of Flower's command line that knows the
    SuperLink. Private keys are readable by their owner alone.

    Args:
        folder: new.
        names: host names and addresses by which nodes call the server; loopback is always added.
        nodes: names of the nodes.
        port: of the SuperLink.
        days: that the certificates are valid.

    Raises:
        AuthorityError: when the folder exists or cannot be written, or a name is none.
    """
    alternatives = [_alternative(name) for name in dict.fromkeys([*names, *LOOPBACK])]
    _check_nodes(nodes)
    authority = _authority(days)
    server = _server(authority, [*names, *LOOPBACK][0], alternatives, days)
    try:
        folder.mkdir(mode=0o700, parents=True)
        _write(folder / AUTHORITY_KEY, _private(authority.key), 0o600)
        _write(folder / AUTHORITY, _pem(authority), 0o644)
        _write(folder / SERVER / AUTHORITY, _pem(authority), 0o644)
        _write(folder / SERVER / CERTIFICATE, _pem(server), 0o644)
        _write(folder / SERVER / SERVER_KEY, _private(server.key), 0o600)
        config = _flower_config(folder.absolute(), [*names, *LOOPBACK][0], port)
        _write(folder / OPERATOR / "config.toml", config.encode(), 0o600)
        for name in nodes:
            _write_node(folder / NODES / name, authority, _client(authority, name, days))
    except FileExistsError as error:
        raise AuthorityError(f"{folder} exists already; choose a new folder") from error
    except OSError as error:
        raise AuthorityError(f"{folder} cannot be made: {error.strerror}") from error


def add_nodes(folder: Path, nodes: Sequence[str], days: int = 365) -> None:
    """Make the keys of further nodes, by the authority of a trial.

    Args:
        folder: as :func:`make_certificates` made it, with the authority's key.
        nodes: names of the nodes, none of which has a folder yet.
        days: that their certificates are valid.

    Raises:
        AuthorityError: when the authority cannot be read, a folder exists or a name is none.
    """
    _check_nodes(nodes)
    authority = _read_authority(folder)
    if taken := [name for name in nodes if (folder / NODES / name).exists()]:
        raise AuthorityError(f"{folder / NODES} has {taken} already; choose other names")
    try:
        for name in nodes:
            _write_node(folder / NODES / name, authority, _client(authority, name, days))
    except OSError as error:
        raise AuthorityError(f"{folder} cannot be written: {error.strerror}") from error


def _check_nodes(nodes: Sequence[str]) -> None:
    if wrong := [name for name in nodes if not IDENTIFIER.fullmatch(name)]:
        raise AuthorityError(f"nodes {wrong}; need 1 to 64 letters, digits and ._- each")
    if not nodes or len(set(nodes)) < len(nodes):
        raise AuthorityError(f"nodes {list(nodes)}; at least one, each once")


def _read_authority(folder: Path) -> _Pair:
    try:
        certificate = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
        key = load_pem_private_key((folder / AUTHORITY_KEY).read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        need = f"need {AUTHORITY} and {AUTHORITY_KEY} of certs init"
        raise AuthorityError(f"{folder} holds no authority; {need}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(f"{folder / AUTHORITY_KEY}: need an elliptic curve")
    return _Pair(certificate, key)


def _flower_config(folder: Path, host: str, port: int) -> str:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = ["[superlink]", f'default = "{NAME}"', f"[superlink.{NAME}]"]
    lines += [f"address = {json.dumps(address)}"]
    lines += [f"root-certificates = {json.dumps(str(folder / AUTHORITY))}"]
    return "\n".join([*lines, ""])


def _write_node(folder: Path, authority: _Pair, client: _Pair) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    _write(folder / NODE_KEY, secret, 0o600)
    _write(folder / NODE_PUBLIC, public + b"\n", 0o644)
    _write(folder / CLIENT_KEY, _private(client.key), 0o600)
    _write(folder / CLIENT, _pem(client), 0o644)
    _write(folder / AUTHORITY, _pem(authority), 0o644)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.rstrip(".").split(".")
    if not all(label and label.isascii() and _is_label(label) for label in labels):
        raise AuthorityError(f"{name!r} is no host name and no address")
    return x509.DNSName(name)


def _is_label(label: str) -> bool:
    return len(label) < 64 and label.replace("-", "a").isalnum() and label.strip("-") == label


def _authority(days: int) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name("sglora-fed trial authority")
    usage = _key_usage(key_cert_sign=True)
    certificate = (
        _begun(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _server(
    authority: _Pair, name: str, alternatives: Sequence[x509.GeneralName], days: int
) -> _Pair:
    return _issued(authority, name, alternatives, ExtendedKeyUsageOID.SERVER_AUTH, days)


def _client(authority: _Pair, name: str, days: int) -> _Pair:
    return _issued(authority, name, [], ExtendedKeyUsageOID.CLIENT_AUTH, days)


def _issued(
    authority: _Pair,
    name: str,
    alternatives: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    days: int,
) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _begun(_common_name(name), authority.certificate.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(identifier, critical=False)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLY)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    """An authority signs certificates, a server signs a connection's key exchange."""
    return x509.KeyUsage(
        digital_signature=not key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(pair: _Pair) -> bytes:
    return pair.certificate.public_bytes(Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes, mode: int) -> None:
    """A new file, never readable by others before it has its mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)

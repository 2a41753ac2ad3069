"""Ed25519 signatures (RFC 8032) of manifests: who vouches for a zoo, or for an exported generator.

A manifest holds the sha256 of every file beside it, so its signature covers them all. What is
signed is the manifest's content as canonical JSON, so that what is checked is what is used, behind
a serial number and a date. A change makes the signature worthless until somebody with the private
key signs again; that one has a higher serial, and whoever has seen it takes none before it
(:mod:`sglora_fed.zoo.serials`).
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from sglora_fed.errors import SigningKeyError, ZooSignatureError
from sglora_fed.files import write_atomically
from sglora_fed.zoo.serials import Signable, check_newest, newest_of, note_seen

SIGNATURE = "manifest.sig"
PURPOSE = "sglora-fed manifest 2"
"""First line of what is signed: a signature made for anything else is none for a manifest."""

LONGEST_KEY, LONGEST_SIGNATURE = 4096, 512
"""Bytes of a file."""

LARGEST_SERIAL = 2**53
DATE = re.compile(r"[0-9T:+-]{25}")


@dataclass(frozen=True)
class Signature:
    """Which one of its signer's it is.

    Attributes:
        serial: higher than of all before; seconds since 1970, or one more than the last.
        date: when it was made, as ISO 8601.
        signer: fingerprint of the key.
    """

    serial: int
    date: str
    signer: str


def sign(manifests: list[Signable], private: Path) -> Signature:
    """Sign manifests, all with one serial number: none of them supersedes another.

    Args:
        manifests: ``manifest.sig`` is written beside each.
        private: PEM file of an Ed25519 private key without password.

    Raises:
        SigningKeyError: when the key cannot be used.
        ResultsError: when a signature, or its number, cannot be written.
    """
    key = _private_key(private)
    signer = _fingerprint(key.public_key())
    before = [newest_of(signer, one.line) for one in manifests]
    serial = max(int(time.time()), *(found[0] + 1 for found in before if found), 0)
    made = Signature(serial, datetime.now(UTC).isoformat(timespec="seconds"), signer)
    for one in manifests:
        note_seen(signer, one.line, made.serial, made.date)
        signature = key.sign(_signed(one, made.serial, made.date)).hex()
        values = {"serial": made.serial, "date": made.date, "signature": signature}
        write_atomically(one.folder / SIGNATURE, json.dumps(values).encode() + b"\n")
    return made


def check_signature(manifest: Signable, public: Path) -> Signature:
    """Refuse a folder whose manifest nobody with the key has signed as it is, or not as the last.

    A good one is remembered: older ones are refused from now on.

    Args:
        manifest: of the folder.
        public: PEM file of the Ed25519 public key that is trusted.

    Raises:
        SigningKeyError: when the key cannot be used.
        ZooSignatureError: when there is no signature, or it is of another key or content.
        RolledBackError: when a newer one was seen on this machine.
        ResultsError: when it cannot be read or noted which ones were.
    """
    key, path = _public_key(public), manifest.folder / SIGNATURE
    try:
        with path.open("rb") as file:
            found, signature = _read(file.read(LONGEST_SIGNATURE), _fingerprint(key))
        key.verify(signature, _signed(manifest, found.serial, found.date))
    except OSError as error:
        raise ZooSignatureError(
            f"{manifest.folder} is not signed: {path}: {error.strerror}"
        ) from error
    except (ValueError, InvalidSignature) as error:
        raise ZooSignatureError(
            f"{manifest.folder}: {SIGNATURE} is not that of {public}, or the manifest has changed"
            " since"
        ) from error
    check_newest(manifest, found.signer, found.serial)
    note_seen(found.signer, manifest.line, found.serial, found.date)
    return found


def _signed(manifest: Signable, serial: int, date: str) -> bytes:
    """What is signed."""
    return f"{PURPOSE}\n{serial}\n{date}\n".encode() + manifest.content


def _read(data: bytes, signer: str) -> tuple[Signature, bytes]:
    values = json.loads(data)
    if not isinstance(values, dict) or set(values) != {"serial", "date", "signature"}:
        raise ValueError("other fields")
    serial, date = values["serial"], str(values["date"])
    if type(serial) is not int or not 0 <= serial < LARGEST_SERIAL or not DATE.fullmatch(date):
        raise ValueError("no serial number, or no date")
    return Signature(serial, date, signer), bytes.fromhex(str(values["signature"]))


def _fingerprint(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(_pem(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(f"{path} holds no private key without password in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} holds a {type(key).__name__}; need Ed25519")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(_pem(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(f"{path} holds no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SigningKeyError(f"{path} holds a {type(key).__name__}; need Ed25519")
    return key


def _pem(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_KEY)
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be read: {error.strerror}") from error

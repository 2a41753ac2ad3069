"""Ed25519 signatures (RFC 8032) of manifests: who vouches for a zoo, or for an exported generator.

A manifest holds the sha256 of every file beside it, so its signature covers them all. What is
signed is the manifest's content as canonical JSON, so that what is checked is what is used. A
change makes the signature worthless until somebody with the private key signs again.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from sglora_fed.errors import SigningKeyError, ZooSignatureError
from sglora_fed.files import write_atomically

SIGNATURE = "manifest.sig"
PURPOSE = b"sglora-fed manifest\n"
"""Before what is signed: a signature made for anything else is none for a manifest."""

LONGEST_KEY = 4096
"""Bytes of a key file."""


def sign(folder: Path, content: bytes, private: Path) -> Path:
    """Sign a folder's manifest.

    Args:
        folder: of the manifest; ``manifest.sig`` is written into it.
        content: of the manifest, canonical.
        private: PEM file of an Ed25519 private key without password.

    Raises:
        SigningKeyError: when the key cannot be used.
        ResultsError: when the signature cannot be written.
    """
    signature = _private_key(private).sign(PURPOSE + content)
    path = folder / SIGNATURE
    write_atomically(path, signature.hex().encode() + b"\n")
    return path


def check_signature(folder: Path, content: bytes, public: Path) -> None:
    """Refuse a folder whose manifest nobody with the key has signed as it is.

    Args:
        folder: of the manifest.
        content: of the manifest, canonical.
        public: PEM file of the Ed25519 public key that is trusted.

    Raises:
        SigningKeyError: when the key cannot be used.
        ZooSignatureError: when there is no signature, or it is of another key or content.
    """
    key, path = _public_key(public), folder / SIGNATURE
    try:
        with path.open("rb") as file:
            text = file.read(2 * 64 + 2)
        key.verify(bytes.fromhex(text.decode("ascii").strip()), PURPOSE + content)
    except OSError as error:
        raise ZooSignatureError(f"{folder} is not signed: {path}: {error.strerror}") from error
    except (ValueError, InvalidSignature) as error:
        raise ZooSignatureError(
            f"{folder}: {SIGNATURE} is not that of {public}, or the manifest has changed since"
        ) from error


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

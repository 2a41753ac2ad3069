"""A proof that a request is its sender's, unchanged and new.

TLS says who is at the other end of a connection, not that a request was made for it: what a proxy,
a log or a faulty program sends once more looks the same. So each request is signed with the key of
the client's certificate, over all that it means, with a nonce that is taken once and a time.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from sglora_fed.errors import ProofError

NONCE, TIME, PROOF = "sglora-nonce", "sglora-time", "sglora-proof"
"""Headers: 32 hexadecimal digits; milliseconds since 1970; the signature in URL-safe base64."""

WINDOW = 30.0
"""Seconds that a request's time may be off, either way."""

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

_NONCE = re.compile("[0-9a-f]{32}")
_TIME = re.compile("[0-9]{13}")
_PROOF = re.compile("[A-Za-z0-9_=-]{80,160}")


@dataclass(frozen=True)
class Meaning:
    """All that a signature covers besides nonce and time.

    Attributes:
        client: name in the certificate.
        method, path, content: of the request; type of its content.
        body: as it is sent.
    """

    client: str
    method: str
    path: str
    content: str
    body: bytes

    def signed(self, nonce: str, moment: str) -> bytes:
        """What is signed; no field can hold a line's end."""
        digest = hashlib.sha256(self.body).hexdigest()
        fields = (self.client, self.method, self.path, self.content, digest, nonce, moment)
        return "\n".join(("sglora-fed request 1", *fields)).encode()


def proof_of(meaning: Meaning, key: PrivateKey) -> dict[str, str]:
    """The headers that prove a request, made anew for each sending."""
    nonce, moment = secrets.token_hex(16), str(int(time.time() * 1000))
    content = meaning.signed(nonce, moment)
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(content)
    else:
        signature = key.sign(content, ECDSA(SHA256()))
    return {NONCE: nonce, TIME: moment, PROOF: base64.urlsafe_b64encode(signature).decode()}


@dataclass
class Doorkeeper:
    """Takes each proof once.

    Nonces are kept for twice the window. Time goes on from what the clock said at the start: a
    clock that is set back does not make old requests new. What was signed before the start is
    refused, because it may have been taken then.
    """

    _started: float = field(default_factory=time.time)
    _since: float = field(default_factory=time.monotonic)
    _turned: float = 0.0
    _recent: set[str] = field(default_factory=set)
    _older: set[str] = field(default_factory=set)

    def check(self, meaning: Meaning, headers: Mapping[str, str], key: PublicKey) -> None:
        """Take a request's proof.

        Raises:
            ProofError: when it is missing or not this request's and client's, late, early, from
                before the start, or was taken already.
        """
        nonce, moment, proof = (headers.get(name, "") for name in (NONCE, TIME, PROOF))
        if not (_NONCE.fullmatch(nonce) and _TIME.fullmatch(moment) and _PROOF.fullmatch(proof)):
            raise ProofError(f"need the headers {NONCE}, {TIME} and {PROOF}")
        self._check_time(int(moment) / 1000)
        _verify(key, proof, meaning.signed(nonce, moment))
        self._take(f"{meaning.client} {nonce}")

    def _check_time(self, moment: float) -> None:
        now = self._started + time.monotonic() - self._since
        if abs(now - moment) > WINDOW or moment < self._started:
            raise ProofError(f"signed more than {WINDOW:g} s from now, or before the start")

    def _take(self, name: str) -> None:
        elapsed = time.monotonic() - self._since
        if elapsed - self._turned > 2 * WINDOW:
            # After two turns whatever was signed before is out of the window.
            old = self._recent if elapsed - self._turned < 4 * WINDOW else set()
            self._older, self._recent, self._turned = old, set(), elapsed
        if name in self._recent or name in self._older:
            raise ProofError("this proof was taken already")
        self._recent.add(name)


def _verify(key: PublicKey, proof: str, content: bytes) -> None:
    try:
        signature = base64.b64decode(proof, altchars=b"-_", validate=True)
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, content)
        else:
            key.verify(signature, content, ECDSA(SHA256()))
    except (ValueError, InvalidSignature) as error:
        raise ProofError("the signature is not this request's and client's") from error

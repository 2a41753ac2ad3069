"""A proof that a request is its sender's, unchanged and new.

TLS says who is at the other end of a connection, not that a request was made for it: what a proxy,
a log or a faulty program sends once more looks the same. So each request is signed with the key of
the client's certificate, over all that it means, with a nonce that is taken once and a time, and
for one endpoint: the one whose certificate the client has seen.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from sglora_fed.errors import AudienceError, ProofError

NONCE, TIME, PROOF = "sglora-nonce", "sglora-time", "sglora-proof"
"""Headers: 32 hexadecimal digits; milliseconds since 1970; the signature in URL-safe base64."""

AUDIENCE = "sglora-audience"
"""Header: sha256 of the certificate (DER) of the endpoint that a request is for, in hexadecimal."""

VERSION = "sglora-fed request 2"
"""First line of what is signed."""

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
        audience: sha256 of the endpoint's certificate.
        client: name in the certificate.
        method, path, content: of the request; type of its content.
        body: as it is sent.
    """

    audience: str
    client: str
    method: str
    path: str
    content: str
    body: bytes

    def signed(self, nonce: str, moment: str) -> bytes:
        """What is signed; no field can hold a line's end."""
        digest = hashlib.sha256(self.body).hexdigest()
        whose = (self.audience, self.client)
        fields = (*whose, self.method, self.path, self.content, digest, nonce, moment)
        return "\n".join((VERSION, *fields)).encode()


def proof_of(
    meaning: Meaning, key: PrivateKey, clock: Callable[[], float] = time.time
) -> dict[str, str]:
    """The headers that prove a request, made anew for each sending.

    Args:
        meaning: of the request.
        key: of the client's certificate.
        clock: seconds since 1970.
    """
    nonce, moment = secrets.token_hex(16), str(int(clock() * 1000))
    content = meaning.signed(nonce, moment)
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(content)
    else:
        signature = key.sign(content, ECDSA(SHA256()))
    proof = base64.urlsafe_b64encode(signature).decode()
    return {AUDIENCE: meaning.audience, NONCE: nonce, TIME: moment, PROOF: proof}


@dataclass
class Doorkeeper:
    """Takes each proof once, whatever becomes of the clock.

    A proof is remembered for twice the window at least, by a clock that nobody sets. What is as old
    as one that was forgotten is refused, and so is what was signed before the start, because it may
    have been taken then: where the time of day is set back, nothing old is new again, and where it
    is set right, everybody is let in.

    Args:
        clock: the time of day, seconds since 1970.
        running: seconds of a clock that nobody sets.
    """

    clock: Callable[[], float] = time.time
    running: Callable[[], float] = time.monotonic
    _recent: dict[str, float] = field(default_factory=dict)
    _older: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._turned, self._forgotten = self.running(), self.clock()

    def check(self, meaning: Meaning, headers: Mapping[str, str], key: PublicKey) -> None:
        """Take a request's proof.

        Raises:
            AudienceError: when it is for another endpoint.
            ProofError: when it is missing or not this request's and client's, late, early, from
                before the start, or was taken already.
        """
        nonce, told, proof = (headers.get(name, "") for name in (NONCE, TIME, PROOF))
        if not (_NONCE.fullmatch(nonce) and _TIME.fullmatch(told) and _PROOF.fullmatch(proof)):
            raise ProofError(f"need the headers {AUDIENCE}, {NONCE}, {TIME} and {PROOF}")
        if headers.get(AUDIENCE) != meaning.audience:
            raise AudienceError("the request is for another endpoint")
        moment = int(told) / 1000
        if abs(self.clock() - moment) > WINDOW:
            raise ProofError(f"signed more than {WINDOW:g} s from now")
        _verify(key, proof, meaning.signed(nonce, told))
        self._take(f"{meaning.client} {nonce}", moment)

    def _take(self, name: str, moment: float) -> None:
        self._turn()
        if moment <= self._forgotten:
            raise ProofError("signed before the start, or before a proof that was forgotten")
        if name in self._recent or name in self._older:
            raise ProofError("this proof was taken already")
        self._recent[name] = moment

    def _turn(self) -> None:
        """Forget what was taken before the last turn, if it is time."""
        now = self.running()
        while now - self._turned > 2 * WINDOW and (self._recent or self._older):
            self._forgotten = max(self._forgotten, *self._older.values(), -math.inf)
            self._older, self._recent = self._recent, {}
            self._turned += 2 * WINDOW
        if not self._recent and not self._older:
            self._turned = now


def _verify(key: PublicKey, proof: str, content: bytes) -> None:
    try:
        signature = base64.b64decode(proof, altchars=b"-_", validate=True)
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, content)
        else:
            key.verify(signature, content, ECDSA(SHA256()))
    except (ValueError, InvalidSignature) as error:
        raise ProofError("the signature is not this request's and client's") from error

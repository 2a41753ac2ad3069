"""Proofs are taken once, in their time; signatures against another library's."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sglora_fed.errors import AudienceError, ProofError
from sglora_fed.serving.proof import (
    AUDIENCE,
    NONCE,
    PROOF,
    TIME,
    WINDOW,
    Doorkeeper,
    Meaning,
    proof_of,
)

AUDIENCE_A = "a" * 64
MEANING = Meaning(AUDIENCE_A, "node-1", "POST", "/v1/adapters", "application/json", b"{}")
KEY = Ed25519PrivateKey.generate()

Prove = Callable[..., dict[str, str]]
Take = Callable[..., None]


class Clock:
    """Both clocks, as the machine's; the one on the wall may be set."""

    def __init__(self) -> None:
        self.wall, self.run = 1.7e9, 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.run += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def prove(clock: Clock) -> Prove:
    return lambda meaning=MEANING, key=KEY: proof_of(meaning, key, lambda: clock.wall)


def keeper_of(clock: Clock) -> Doorkeeper:
    return Doorkeeper(lambda: clock.wall, lambda: clock.run)


@pytest.fixture
def take(clock: Clock) -> Take:
    keeper = keeper_of(clock)
    clock.pass_(1)
    return lambda proof, meaning=MEANING: keeper.check(meaning, proof, KEY.public_key())


def test_another_library_accepts_what_is_signed() -> None:
    proof = proof_of(MEANING, KEY)
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # The words of openapi.json, by hand.
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    signed = (
        f"sglora-fed request 2\n{AUDIENCE_A}\nnode-1\nPOST\n/v1/adapters\napplication/json\n"
        f"{digest}\n{proof[NONCE]}\n{proof[TIME]}"
    )
    key = ECC.import_key(pem.decode())
    eddsa.new(key, "rfc8032").verify(signed.encode(), base64.urlsafe_b64decode(proof[PROOF]))


def test_a_proof_is_taken_once(prove: Prove, take: Take) -> None:
    proof = prove()
    take(proof)
    for _ in range(3):
        with pytest.raises(ProofError, match="already"):
            take(proof)
    take(prove())


@pytest.mark.parametrize("waited", [0.5, 20, 29, 31, 45, 59, 61, 90, 119, 121, 200, 1000])
@pytest.mark.parametrize("early", [0, 29])
def test_nor_is_it_taken_later(
    prove: Prove,
    take: Take,
    clock: Clock,
    waited: float,
    early: float,
) -> None:
    clock.wall += early
    proof = prove()
    clock.wall -= early
    take(proof)
    clock.pass_(waited / 2)
    take(prove())  # turns the store
    clock.pass_(waited / 2)
    with pytest.raises(ProofError):
        take(proof)


@pytest.mark.parametrize("jump", [-1000, -70, -20, 20, 70, 1000])
@pytest.mark.parametrize("waited", [0, 40, 100, 200])
def test_no_clock_that_is_set_makes_an_old_proof_new(
    prove: Prove, take: Take, clock: Clock, jump: float, waited: float
) -> None:
    old = prove()
    take(old)
    for _ in range(4):
        clock.pass_(waited / 4)
        take(prove())
    clock.wall += jump
    with pytest.raises(ProofError):
        take(old)
    clock.wall -= jump + waited  # to the moment at which it was signed
    with pytest.raises(ProofError):
        take(old)


@pytest.mark.parametrize("wrong", [-1e6, 500])
def test_a_clock_that_is_set_right_lets_everybody_in(
    prove: Prove, take: Take, clock: Clock, wrong: float
) -> None:
    clock.pass_(2000)
    right = clock.wall
    honest = prove()
    clock.wall += wrong
    with pytest.raises(ProofError, match="from now"):
        take(honest)
    clock.wall = right
    take(honest)


def test_a_request_for_another_endpoint_is_refused(prove: Prove, take: Take) -> None:
    other = replace(MEANING, audience="b" * 64)
    with pytest.raises(AudienceError):
        take(prove(other))
    # Nor does it help to say that it were for this one.
    with pytest.raises(ProofError, match="signature"):
        take(prove(other) | {AUDIENCE: AUDIENCE_A})
    take(prove())


def test_what_was_signed_before_the_start_is_refused(prove: Prove, clock: Clock) -> None:
    old = prove()
    clock.pass_(0.5)
    keeper = keeper_of(clock)
    with pytest.raises(ProofError, match="before the start"):
        keeper.check(MEANING, old, KEY.public_key())
    clock.pass_(0.002)  # a request's time has milliseconds
    keeper.check(MEANING, prove(), KEY.public_key())


@pytest.mark.parametrize(("off", "taken"), [(0.0, True), (0.9, True), (1.1, False)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_window(
    prove: Prove,
    take: Take,
    clock: Clock,
    off: float,
    taken: bool,
    sign: int,
) -> None:
    clock.pass_(100)
    clock.wall += sign * off * WINDOW
    proof = prove()
    clock.wall -= sign * off * WINDOW
    if taken:
        take(proof)
    else:
        with pytest.raises(ProofError, match="from now"):
            take(proof)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (NONCE, ""),
        (NONCE, "0" * 31),
        (NONCE, "0" * 32 + "\n"),
        (NONCE, "A" * 32),
        (TIME, ""),
        (TIME, "1e12"),
        (TIME, "-" + "1" * 12),
        (TIME, "\u0661" * 13),
        (PROOF, ""),
        (PROOF, "A" * 88),
        (PROOF, "=" * 88),
        (PROOF, "A" * 85),
    ],
)
def test_other_headers_are_refused(prove: Prove, take: Take, name: str, value: str) -> None:
    with pytest.raises(ProofError):
        take(prove() | {name: value})
    with pytest.raises(ProofError):
        take({k: v for k, v in prove().items() if k != name})


def test_another_key_or_kind_of_key_is_refused(prove: Prove, clock: Clock) -> None:
    keeper, curve = keeper_of(clock), generate_private_key(SECP256R1())
    clock.pass_(1)
    for signer, key in ((KEY, curve), (curve, KEY), (KEY, Ed25519PrivateKey.generate())):
        with pytest.raises(ProofError, match="signature"):
            keeper.check(MEANING, prove(key=signer), key.public_key())
    keeper.check(MEANING, prove(key=curve), curve.public_key())


def test_the_store_does_not_grow_for_ever(prove: Prove, take: Take, clock: Clock) -> None:
    keeper = keeper_of(clock)
    for _ in range(500):
        clock.pass_(1)
        keeper.check(MEANING, prove(), KEY.public_key())
    assert len(keeper._recent) + len(keeper._older) <= 4 * WINDOW

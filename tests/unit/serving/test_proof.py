"""Proofs are taken once, in their time; signatures against another library's."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sglora_fed.errors import ProofError
from sglora_fed.serving.proof import NONCE, PROOF, TIME, WINDOW, Doorkeeper, Meaning, proof_of

MEANING = Meaning("node-1", "POST", "/v1/adapters", "application/json", b"{}")
KEY = Ed25519PrivateKey.generate()


class Clock:
    """Both clocks, as the machine's; the one on the wall may be set."""

    def __init__(self) -> None:
        self.wall, self.run = 1.7e9, 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.run += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("sglora_fed.serving.proof.time.time", lambda: found.wall)
    monkeypatch.setattr("sglora_fed.serving.proof.time.monotonic", lambda: found.run)
    return found


@pytest.fixture
def take(clock: Clock) -> Callable[..., None]:
    keeper = Doorkeeper(clock.wall, clock.run)
    clock.pass_(1)
    return lambda proof, meaning=MEANING: keeper.check(meaning, proof, KEY.public_key())


def test_another_library_accepts_what_is_signed() -> None:
    proof = proof_of(MEANING, KEY)
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # The words of openapi.json, by hand.
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    signed = (
        "sglora-fed request 1\nnode-1\nPOST\n/v1/adapters\napplication/json\n"
        f"{digest}\n{proof[NONCE]}\n{proof[TIME]}"
    )
    key = ECC.import_key(pem.decode())
    eddsa.new(key, "rfc8032").verify(signed.encode(), base64.urlsafe_b64decode(proof[PROOF]))


def test_a_proof_is_taken_once(take: Callable[..., None]) -> None:
    proof = proof_of(MEANING, KEY)
    take(proof)
    for _ in range(3):
        with pytest.raises(ProofError, match="already"):
            take(proof)
    take(proof_of(MEANING, KEY))


@pytest.mark.parametrize("waited", [0.5, 20, 29, 31, 45, 59, 61, 90, 119, 121, 200, 1000])
@pytest.mark.parametrize("early", [0, 29])
def test_nor_is_it_taken_later(
    take: Callable[..., None], clock: Clock, waited: float, early: float
) -> None:
    clock.wall += early
    proof = proof_of(MEANING, KEY)
    clock.wall -= early
    take(proof)
    clock.pass_(waited / 2)
    take(proof_of(MEANING, KEY))  # turns the store
    clock.pass_(waited / 2)
    with pytest.raises(ProofError):
        take(proof)


def test_a_clock_that_is_set_back_makes_nothing_new(
    take: Callable[..., None], clock: Clock
) -> None:
    old = proof_of(MEANING, KEY)
    take(old)
    clock.pass_(1000)
    clock.wall -= 1000
    with pytest.raises(ProofError):
        take(old)


def test_what_was_signed_before_the_start_is_refused(clock: Clock) -> None:
    old = proof_of(MEANING, KEY)
    clock.pass_(0.5)
    keeper = Doorkeeper(clock.wall, clock.run)
    with pytest.raises(ProofError, match="before the start"):
        keeper.check(MEANING, old, KEY.public_key())
    keeper.check(MEANING, proof_of(MEANING, KEY), KEY.public_key())


@pytest.mark.parametrize(("off", "taken"), [(0.0, True), (0.9, True), (1.1, False)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_window(
    take: Callable[..., None], clock: Clock, off: float, taken: bool, sign: int
) -> None:
    clock.pass_(100)
    clock.wall += sign * off * WINDOW
    proof = proof_of(MEANING, KEY)
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
def test_other_headers_are_refused(take: Callable[..., None], name: str, value: str) -> None:
    with pytest.raises(ProofError):
        take(proof_of(MEANING, KEY) | {name: value})
    with pytest.raises(ProofError):
        take({k: v for k, v in proof_of(MEANING, KEY).items() if k != name})


def test_another_key_or_kind_of_key_is_refused(clock: Clock) -> None:
    keeper, curve = Doorkeeper(clock.wall, clock.run), generate_private_key(SECP256R1())
    clock.pass_(1)
    for signer, key in ((KEY, curve), (curve, KEY), (KEY, Ed25519PrivateKey.generate())):
        with pytest.raises(ProofError, match="signature"):
            keeper.check(MEANING, proof_of(MEANING, signer), key.public_key())
    keeper.check(MEANING, proof_of(MEANING, curve), curve.public_key())


def test_the_store_does_not_grow_for_ever(take: Callable[..., None], clock: Clock) -> None:
    keeper = Doorkeeper(clock.wall, clock.run)
    for _ in range(500):
        clock.pass_(1)
        keeper.check(MEANING, proof_of(MEANING, KEY), KEY.public_key())
    assert len(keeper._recent) + len(keeper._older) <= 4 * WINDOW

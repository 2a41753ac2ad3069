"""What tests of several packages share: small zoos, keys, the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sglora_fed import cli
from sglora_fed.zoo import Zoo, ZooIdentity

MakeZoo = Callable[..., Zoo]


def _zoo(
    experts: int = 5,
    dim: int = 6,
    size: int = 11,
    seed: int = 0,
    prefix: str = "e",
    wordings: int = 1,
) -> Zoo:
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(experts, wordings, dim))
    return Zoo(
        tuple(f"{prefix}{number:03d}" for number in range(experts)),
        (texts / np.linalg.norm(texts, axis=2, keepdims=True)).astype(np.float32),
        rng.normal(size=(experts, size)).astype(np.float32),
        rng.uniform(0, 0.1, size=(experts, size)).astype(np.float32),
        rng.integers(1, 200, size=experts),
    )


@pytest.fixture(scope="session")
def make_zoo() -> MakeZoo:
    """A function of (experts, dim, size, seed, prefix, wordings) that gives a random zoo."""
    return _zoo


@pytest.fixture
def identity() -> ZooIdentity:
    """What a zoo of the tests was made for; its adapters have 11 numbers, as make_zoo's."""
    layout = {"modules": [["query", 3, 2], ["value", 3, 3]], "rank": 1, "alpha": 2.0}
    versions = {"torch": "2.13.0"}
    return ZooIdentity(
        "all-MiniLM-L6-v2", "5" * 64, "minilm", layout, 7, "c" * 64, "d" * 64, versions
    )


Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def write_keys() -> Callable[..., Pair]:
    """A function of (private key, stem of the files) that writes PEM files of both keys."""

    def write(key: Any, stem: Path) -> Pair:
        private, public = stem.with_suffix(".pem"), stem.with_suffix(".pub.pem")
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        return private, public

    return write


@pytest.fixture
def key_pair(write_keys: Callable[..., Pair], tmp_path: Path) -> Pair:
    """PEM files of a new Ed25519 private key and of its public key."""
    return write_keys(Ed25519PrivateKey.generate(), tmp_path / "signer")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """``sglora-fed`` as a function of its arguments that gives (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sglora-fed", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call

"""Signatures of a zoo against another library's; whatever is changed makes them worthless."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from sglora_fed.errors import SigningKeyError, ZooSignatureError
from sglora_fed.zoo import Zoo, read_store
from sglora_fed.zoo.signing import PURPOSE, SIGNATURE, check_signature, sign

MakeZoo = Callable[..., Zoo]
Pair = tuple[Path, Path]


@pytest.fixture
def signed(folder: Path, key_pair: Pair) -> Path:
    sign(folder, read_store(folder).signed_part(), key_pair[0])
    return folder


def check(folder: Path, public: Path) -> None:
    check_signature(folder, read_store(folder).signed_part(), public)


def test_another_library_makes_and_accepts_the_same_signature(signed: Path, key_pair: Pair) -> None:
    content = PURPOSE + read_store(signed).signed_part()
    found = bytes.fromhex((signed / SIGNATURE).read_text())
    private, public = (ECC.import_key(path.read_text()) for path in key_pair)
    assert eddsa.new(private, "rfc8032").sign(content) == found
    eddsa.new(public, "rfc8032").verify(content, found)
    check(signed, key_pair[1])


def test_what_is_signed_is_the_content_and_not_how_it_is_written(
    signed: Path, key_pair: Pair
) -> None:
    manifest = signed / "manifest.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(dict(reversed(values.items()))))
    check(signed, key_pair[1])


@pytest.mark.parametrize(
    "where",
    [
        ("identity", "seed"),
        ("identity", "weights_sha256"),
        ("identity", "versions", "torch"),
        ("shards", 0, "sha256"),
        ("shards", 1, "ids", 0),
        ("shards", 0, "task_digests", 2),
        ("shards", 0, "owners", 1),
    ],
)
def test_a_changed_manifest_is_refused(
    signed: Path, key_pair: Pair, where: tuple[str | int, ...]
) -> None:
    values = json.loads((signed / "manifest.json").read_text())
    part = values
    for step in where[:-1]:
        part = part[step]
    before = part[where[-1]]
    part[where[-1]] = before + 1 if isinstance(before, int) else "m000x"
    if where[2:3] == ("owners",):
        part[where[-1]] = "m000"  # the first expert's owner now has two
    (signed / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ZooSignatureError, match="changed since"):
        check(signed, key_pair[1])


def test_owners_may_come_back_under_other_names(signed: Path, key_pair: Pair) -> None:
    store = read_store(signed)
    store.assign({name: f"node-{name}" for name in store.ids()})
    check(signed, key_pair[1])


def test_a_zoo_that_grew_or_shrank_must_be_signed_again(
    signed: Path, key_pair: Pair, make_zoo: MakeZoo
) -> None:
    read_store(signed).add(make_zoo(1, prefix="new"))
    with pytest.raises(ZooSignatureError):
        check(signed, key_pair[1])
    read_store(signed).remove(["new000"])
    check(signed, key_pair[1])
    read_store(signed).remove(["m001"])
    with pytest.raises(ZooSignatureError):
        check(signed, key_pair[1])


@pytest.mark.parametrize("text", ["", "0", "zz", "0" * 128, "0" * 200, "ä"])
def test_what_is_no_signature_is_refused(signed: Path, key_pair: Pair, text: str) -> None:
    (signed / SIGNATURE).write_text(text)
    with pytest.raises(ZooSignatureError):
        check(signed, key_pair[1])


def test_an_unsigned_zoo_is_refused(folder: Path, key_pair: Pair) -> None:
    with pytest.raises(ZooSignatureError, match="is not signed"):
        check(folder, key_pair[1])


def test_a_signature_for_something_else_is_none(signed: Path, key_pair: Pair) -> None:
    private = ECC.import_key(key_pair[0].read_text())
    other = eddsa.new(private, "rfc8032").sign(read_store(signed).signed_part())
    (signed / SIGNATURE).write_text(other.hex())
    with pytest.raises(ZooSignatureError):
        check(signed, key_pair[1])


def test_unfit_keys_are_refused(
    signed: Path, tmp_path: Path, write_keys: Callable[..., Pair], key_pair: Pair
) -> None:
    private, public = write_keys(generate_private_key(SECP256R1()), tmp_path / "curve")
    content = read_store(signed).signed_part()
    with pytest.raises(SigningKeyError, match="need Ed25519"):
        sign(signed, content, private)
    with pytest.raises(SigningKeyError, match="need Ed25519"):
        check(signed, public)
    with pytest.raises(SigningKeyError, match="no private key"):
        sign(signed, content, key_pair[1])
    with pytest.raises(SigningKeyError, match="no public key"):
        check(signed, key_pair[0])
    with pytest.raises(SigningKeyError, match="cannot be read"):
        check(signed, tmp_path / "nowhere.pem")
    check(signed, key_pair[1])

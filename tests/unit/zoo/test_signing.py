"""Signatures of a zoo against another library's; whatever is changed makes them worthless."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sglora_fed.errors import (
    ResultsError,
    RolledBackError,
    SigningKeyError,
    ZooSignatureError,
)
from sglora_fed.zoo import Zoo, read_store
from sglora_fed.zoo.serials import FILE
from sglora_fed.zoo.signing import SIGNATURE, check_signature, sign

MakeZoo = Callable[..., Zoo]
Pair = tuple[Path, Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def signed(folder: Path, key_pair: Pair) -> Path:
    sign([read_store(folder).signable()], key_pair[0])
    return folder


def check(folder: Path, public: Path) -> int:
    """The serial of a good signature."""
    return check_signature(read_store(folder).signable(), public).serial


def told(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / SIGNATURE).read_text()))


def test_another_library_makes_and_accepts_the_same_signature(signed: Path, key_pair: Pair) -> None:
    values = told(signed)
    # The words of docs/how-to/zoo.md, by hand.
    content = f"sglora-fed manifest 2\n{values['serial']}\n{values['date']}\n".encode()
    content += read_store(signed).signed_part()
    found = bytes.fromhex(values["signature"])
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


@pytest.mark.parametrize(
    "change",
    [
        {"serial": 2**60},
        {"serial": -1},
        {"serial": 1.0},
        {"serial": True},
        {"date": "2026-11-26T10:00:00+00:00"},
        {"date": "\x1b[2J"},
        {"signature": "0" * 128},
        {"signature": "zz"},
        {"more": 1},
    ],
)
def test_a_changed_signature_is_refused(
    signed: Path, key_pair: Pair, change: dict[str, Any]
) -> None:
    (signed / SIGNATURE).write_text(json.dumps(told(signed) | change))
    with pytest.raises(ZooSignatureError):
        check(signed, key_pair[1])


@pytest.mark.parametrize("text", ["", "0", "zz", "0" * 128, "[]", "[" * 400, "0" * 2000, "ä"])
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
    (signed / SIGNATURE).write_text(json.dumps(told(signed) | {"signature": other.hex()}))
    with pytest.raises(ZooSignatureError):
        check(signed, key_pair[1])


def test_unfit_keys_are_refused(
    signed: Path, tmp_path: Path, write_keys: Callable[..., Pair], key_pair: Pair
) -> None:
    private, public = write_keys(generate_private_key(SECP256R1()), tmp_path / "curve")
    content = [read_store(signed).signable()]
    with pytest.raises(SigningKeyError, match="need Ed25519"):
        sign(content, private)
    with pytest.raises(SigningKeyError, match="need Ed25519"):
        check(signed, public)
    with pytest.raises(SigningKeyError, match="no private key"):
        sign(content, key_pair[1])
    with pytest.raises(SigningKeyError, match="no public key"):
        check(signed, key_pair[0])
    with pytest.raises(SigningKeyError, match="cannot be read"):
        check(signed, tmp_path / "nowhere.pem")
    check(signed, key_pair[1])


class TestOlderSignatures:
    """What was signed before is as well signed as ever; only who has seen the newer one knows."""

    @pytest.fixture
    def before(self, signed: Path, key_pair: Pair, tmp_path: Path) -> Path:
        """A copy of the zoo from before an expert was withdrawn."""
        check(signed, key_pair[1])
        before = Path(shutil.copytree(signed, tmp_path / "before"))
        read_store(signed).remove(["m001"])
        sign([read_store(signed).signable()], key_pair[0])
        return before

    @pytest.fixture
    def elsewhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: Path) -> None:
        """Where nobody has signed or seen anything."""
        monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "elsewhere"))

    def test_are_refused_once_a_newer_one_was_seen(
        self, signed: Path, before: Path, key_pair: Pair, elsewhere: None, tmp_path: Path
    ) -> None:
        older, newer = check(before, key_pair[1]), check(signed, key_pair[1])
        assert newer > older
        for _ in range(2):
            with pytest.raises(RolledBackError, match=str(newer)) as refused:
                check(before, key_pair[1])
            check(signed, key_pair[1])
        # The way out that the message names.
        file = tmp_path / "elsewhere" / FILE
        assert str(file) in str(refused.value)
        assert file.stat().st_mode & 0o777 == 0o600
        file.unlink()
        assert check(before, key_pair[1]) == older

    def test_hold_again_when_they_are_signed_anew(
        self, before: Path, signed: Path, key_pair: Pair
    ) -> None:
        newest = check(signed, key_pair[1])
        sign([read_store(before).signable()], key_pair[0])
        assert check(before, key_pair[1]) > newest

    def test_of_another_key_or_another_zoo_are_others(
        self,
        signed: Path,
        key_pair: Pair,
        tmp_path: Path,
        write_keys: Callable[..., Pair],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        late = time.time() + 1000
        other = Path(shutil.copytree(signed, tmp_path / "other"))
        values = json.loads((other / "manifest.json").read_text())
        values["identity"]["seed"] += 1
        (other / "manifest.json").write_text(json.dumps(values))
        with monkeypatch.context() as context:
            context.setattr(time, "time", lambda: late)
            sign([read_store(other).signable()], key_pair[0])
        assert check(other, key_pair[1]) == int(late)
        check(signed, key_pair[1])
        mine = write_keys(Ed25519PrivateKey.generate(), tmp_path / "mine")
        sign([read_store(other).signable()], mine[0])
        check(other, mine[1])

    def test_several_of_one_moment_are_none_of_one_another(
        self, signed: Path, before: Path, key_pair: Pair
    ) -> None:
        sign([read_store(path).signable() for path in (signed, before)], key_pair[0])
        assert (
            check(signed, key_pair[1]) == check(before, key_pair[1]) == check(signed, key_pair[1])
        )

    def test_a_signers_clock_may_be_set_back(
        self, signed: Path, key_pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = check(signed, key_pair[1])
        monkeypatch.setattr(time, "time", lambda: 1e9)
        sign([read_store(signed).signable()], key_pair[0])
        assert check(signed, key_pair[1]) == first + 1

    def test_what_cannot_be_noted_is_not_used(
        self, signed: Path, key_pair: Pair, home: Path
    ) -> None:
        (home / FILE).write_bytes(b"no database" * 100)
        with pytest.raises(ResultsError, match=FILE):
            check(signed, key_pair[1])

"""What ``certs init`` makes, against OpenSSL's own eyes."""

from __future__ import annotations

import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from sglora_fed.edge.certificates import add_nodes, make_certificates
from sglora_fed.errors import AuthorityError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made") / "certs"
    make_certificates(made, ["edge.example.org", "192.0.2.7", "2001:db8::7"], ["a", "b"], 8123)
    return made


def test_private_keys_are_readable_by_their_owner_alone(folder: Path) -> None:
    keys = [*folder.rglob("*.key"), folder / "operator" / "config.toml"]
    assert len(keys) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_only_the_server_has_the_servers_key_and_nobody_the_authoritys(folder: Path) -> None:
    assert {path.name for path in (folder / "server").iterdir()} == {
        "ca.crt", "server.pem", "server.key",
    }  # fmt: skip
    assert {path.name for path in (folder / "nodes" / "a").iterdir()} == {
        "ca.crt", "node.key", "node.pub", "client.pem", "client.key",
    }  # fmt: skip
    keys = [(folder / "nodes" / name / "node.key").read_bytes() for name in "ab"]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("name", "welcome"),
    [("localhost", True), ("edge.example.org", True), ("127.0.0.1", True), ("other.org", False)],
)
def test_a_connection_is_for_the_names_that_were_given(
    folder: Path, name: str, welcome: bool
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server" / "server.pem", folder / "server" / "server.key")
    client = ssl.create_default_context(cafile=str(folder / "nodes" / "a" / "ca.crt"))
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_us, to_them, server_hostname=name)
    theirs = server.wrap_bio(to_them, to_us, server_side=True)

    def shake() -> None:
        for _ in range(4):
            for side in (ours, theirs):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue

    if welcome:
        shake()
        assert ours.version() == "TLSv1.3"
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")
def test_ssh_reads_a_nodes_key_as_the_one_whose_public_half_stands_beside_it(folder: Path) -> None:
    private, public = (folder / "nodes" / "a" / name for name in ("node.key", "node.pub"))
    said = subprocess.run(["ssh-keygen", "-y", "-f", str(private)], capture_output=True, text=True)
    assert said.stdout.split()[:2] == public.read_text().split()[:2]
    assert said.stdout.startswith("ecdsa-sha2-nistp384 ")


def test_what_is_there_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(AuthorityError):
        make_certificates(folder, [], ["a"], 8000)
    assert (folder / "ca.key").read_bytes() == before


@pytest.mark.parametrize(
    ("names", "nodes", "words"),
    [
        (["a b"], ["a"], "'a b'"),
        (["-x.org"], ["a"], "host name"),
        (["http://host"], ["a"], "host name"),
        ([""], ["a"], "host name"),
        ([], [], "at least one"),
        ([], ["a", "a"], "each once"),
        ([], ["../a"], "letters"),
    ],
)
def test_a_name_that_is_none_is_refused(
    tmp_path: Path, names: list[str], nodes: list[str], words: str
) -> None:
    with pytest.raises(AuthorityError, match=words):
        make_certificates(tmp_path / "certs", names, nodes, 8000)
    assert not (tmp_path / "certs").exists()


def test_a_late_nodes_certificate_is_of_the_same_authority(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    make_certificates(folder, [], ["early"], 8000)
    add_nodes(folder, ["late"])
    late = folder / "nodes" / "late"
    assert {path.name for path in late.iterdir()} == {
        path.name for path in (folder / "nodes" / "early").iterdir()
    }
    certificate = x509.load_pem_x509_certificate((late / "client.pem").read_bytes())
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert {stat.S_IMODE(key.stat().st_mode) for key in late.glob("*.key")} == {0o600}
    with pytest.raises(AuthorityError, match="already"):
        add_nodes(folder, ["late"])


def test_who_has_no_authority_makes_no_node(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match=r"ca\.key of certs init"):
        add_nodes(tmp_path, ["late"])
    make_certificates(tmp_path / "certs", [], ["a"], 8000)
    with pytest.raises(AuthorityError, match="choose a new folder"):
        make_certificates(tmp_path / "certs", [], ["a"], 8000)

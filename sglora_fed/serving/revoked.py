"""Certificates that the authority has revoked: its list is read anew whenever the file changes.

TLS looks into the list when a connection begins. One that is open already, or goes on with an
earlier session, shows no certificate again, so who is at the other end is looked up here as well.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from sglora_fed.errors import CertificateError
from sglora_fed.serving.tls import Peer

Stamp = tuple[int, int, int]
"""Of a file: when it was written, its length, its number on the disk."""


class Revoked:
    """The certificates that an authority has revoked.

    Args:
        listed: file of the list (PEM).
        authority: file of the certificates, one of which must have signed it.
        context: that is told of every new list.

    Raises:
        CertificateError: when the list cannot be read, or nobody of the authority has signed it.
    """

    def __init__(self, listed: Path, authority: Path, context: ssl.SSLContext) -> None:
        self._listed, self._authority, self._context = listed, authority, context
        self._stamp: Stamp | None = None
        self._serials: frozenset[int] = frozenset()
        self.reread()

    def __contains__(self, peer: Peer) -> bool:
        """Whether a client's certificate is on the list."""
        return peer.serial in self._serials

    def reread(self) -> bool:
        """Read the list again, if its file has changed.

        Returns:
            Whether there is a new list.

        Raises:
            CertificateError: as above; the list before holds, until the file changes again.
        """
        try:
            stamp = _stamp(self._listed)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            self._serials = self._read()
            self._context.load_verify_locations(self._listed)
        except OSError as error:  # an error of TLS is one, too
            raise CertificateError(f"{self._listed}: {error.strerror or error}") from error
        return True

    def _read(self) -> frozenset[int]:
        try:
            found = x509.load_pem_x509_crl(self._listed.read_bytes())
            signers = x509.load_pem_x509_certificates(self._authority.read_bytes())
            signed = any(_has_signed(signer, found) for signer in signers)
        except (ValueError, TypeError) as error:
            raise CertificateError(f"{self._listed} is no list of revoked certificates") from error
        if not signed:
            raise CertificateError(f"{self._listed} is not signed by {self._authority}")
        return frozenset(one.serial_number for one in found)


def _has_signed(signer: x509.Certificate, found: x509.CertificateRevocationList) -> bool:
    try:
        return found.is_signature_valid(signer.public_key())  # type: ignore[arg-type]
    except InvalidSignature:
        return False


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino

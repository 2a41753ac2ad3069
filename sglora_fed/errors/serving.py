"""A zoo in operation and the endpoint (503 to 509, 830 to 840)."""

from __future__ import annotations

import math

from sglora_fed.errors.base import SgloraError


class ZooSignatureError(SgloraError):
    """A manifest is not signed, or not as it is now, by the key that is trusted."""

    code = 503
    title = "manifest is not signed"
    resolve = (
        "Whoever grew or changed the zoo, or exported the generator, signs it again: `sglora-fed "
        "zoo sign FOLDER --key PRIVATE.pem`. If nobody did, somebody else changed it: restore it "
        "from a copy."
    )


class SigningKeyError(SgloraError):
    """A key file cannot be read, or holds another kind of key."""

    code = 504
    title = "signing key cannot be used"
    resolve = (
        "Make a pair with `openssl genpkey -algorithm ed25519 -out signer.pem` and `openssl pkey "
        "-in signer.pem -pubout -out signer.pub.pem`; sign with the first, check with the second."
    )


class QuotaError(SgloraError):
    """An owner has as many experts in the zoo as one may have."""

    code = 505
    title = "owner has too many experts"
    resolve = (
        "Remove one of the owner's experts (`sglora-fed zoo remove`), or allow more: "
        "federation.experts_per_node."
    )


class ExportError(SgloraError):
    """An exported generator is missing, damaged, or made for something else."""

    code = 506
    title = "exported generator cannot be used"
    resolve = (
        "Export it again with `sglora-fed zoo export DIR`, on the zoo and the configuration that "
        "it is meant for, and copy the whole folder."
    )


class RolledBackError(SgloraError):
    """A zoo or an export is signed, but a newer one was seen on this machine."""

    code = 507
    title = "signature is older than one that was seen"
    resolve = (
        "Put back the newer one. If the older one shall hold again, its signer signs it anew "
        "(`sglora-fed zoo sign`); or delete the file that the message names, which forgets all "
        "signatures that were seen here."
    )


class WithdrawalError(SgloraError):
    """An expert that is said to be withdrawn has a part in a zoo or an export."""

    code = 508
    title = "expert was not withdrawn"
    resolve = (
        "Take it out (`sglora-fed zoo remove`), export generators anew, and let the zoo be signed; "
        "the message says in which signature it still is."
    )


class RequestError(SgloraError):
    """A request to the endpoint is not of the one form that it takes; what it held is not told."""

    code = 830
    title = "request is not what was agreed"
    resolve = (
        "Send one embedding, or places of the catalogue that the endpoint holds, as "
        "/openapi.json describes them; `GET /v1/generator` says which sizes and which catalogue."
    )


class ProofError(SgloraError):
    """A request is not signed by the key of its sender's certificate, is late, or came before."""

    code = 831
    title = "request is not proven to be new and its sender's"
    resolve = (
        "Sign every request anew, with another nonce and the present time. Set the clocks (NTP): "
        "they may be 30 s apart. After a start of the endpoint wait for as long as yours is slow."
    )


class BodyError(SgloraError):
    """A request's body is longer than any request is, or does not come to its end in time."""

    code = 832
    title = "body is too long or too slow"
    resolve = "Send at most 4096 bytes, within 5 seconds."


class RateError(SgloraError):
    """A client asks more often, or more at once, than it may.

    Attributes:
        seconds: after which it may ask again, at least 1.
    """

    code = 833
    title = "too many requests"
    resolve = "Wait for as many seconds as the header Retry-After says, or ask less at once."

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(f"wait for {self.seconds} s")


class RouteError(SgloraError):
    """The endpoint has no such address or method."""

    code = 834
    title = "no such address"
    resolve = "/openapi.json lists what there is."


class GenerationError(SgloraError):
    """Endpoint or service have failed on a request; others are answered."""

    code = 835
    title = "service failed on a request"
    resolve = (
        "Its log has the kind of the error and where it was raised, beside this code; the request "
        "may be sent again, signed anew."
    )


class ReplyError(SgloraError):
    """What the endpoint answered is not what was asked for; nothing was written."""

    code = 836
    title = "reply is not what was agreed"
    resolve = (
        "Nothing was kept. Compare versions of sglora-fed on both sides; if they agree, report it "
        "to whoever runs the endpoint."
    )


class EndpointError(SgloraError):
    """The endpoint cannot be reached, is not who it should be, or has refused the request."""

    code = 837
    title = "endpoint did not answer"
    resolve = (
        "Compare address, port and certificates with the endpoint's. A code in the message is the "
        "endpoint's own: its line in this page says what to do."
    )


class CertificateError(SgloraError):
    """A certificate, key or list of revoked certificates cannot be used."""

    code = 838
    title = "certificate cannot be used"
    resolve = (
        "Give PEM files: a certificate with its private key, and the authority that signed the "
        "other side's. On one machine `--insecure` does without, on loopback only."
    )


class AudienceError(SgloraError):
    """A signed request is for another endpoint than the one that got it."""

    code = 839
    title = "request is for another endpoint"
    resolve = (
        "Sign the sha256 of the certificate that this endpoint shows (DER), and send it as the "
        "header sglora-audience. If you did: who is between you and the endpoint, or passed it on?"
    )


class SpentError(SgloraError):
    """A client of the endpoint has released as much as the endpoint lets anybody release."""

    code = 840
    title = "client has released all that the endpoint answers"
    resolve = (
        "What was released before is still answered. Is the ledger the one that the client has "
        "always had? Whoever runs the endpoint sets the limit: `sglora-fed serve --total-epsilon`."
    )

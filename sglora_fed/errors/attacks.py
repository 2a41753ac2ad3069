"""Attacks and audits (71x)."""

from __future__ import annotations

from sglora_fed.errors.base import SgloraError


class AttackError(SgloraError):
    """What an attack was given does not belong together, or is not finite."""

    code = 710
    title = "attack cannot be run"
    resolve = (
        "Give finite arrays of the shapes that the message names, and a mechanism whose likelihood "
        "is known; `log_likelihoods.register` adds that of your own."
    )


class AuditError(SgloraError):
    """An audit was asked for something that no number of draws could show, or of no mechanism."""

    code = 711
    title = "audit cannot be run"
    resolve = (
        "Give at least 1,000 draws, a confidence between 0 and 1, and a mechanism that "
        "`sglora-fed audit --help` names or that is registered."
    )


class RefutedError(SgloraError):
    """An audit has shown that a mechanism reveals more than it claims."""

    code = 712
    title = "claim of a mechanism is refuted"
    resolve = (
        "Do not use the mechanism. A claim that is attained exactly is refuted by chance in at most"
        " the share 1 - confidence of audits: repeat with more draws to be sure."
    )

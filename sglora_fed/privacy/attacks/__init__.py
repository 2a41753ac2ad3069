"""Attacks on what the federation reveals, as strong as theory allows, each beside its ceiling."""

from sglora_fed.privacy.attacks.ceilings import ceiling, ceiling_for, posterior
from sglora_fed.privacy.attacks.likelihood import likelihoods, log_likelihoods
from sglora_fed.privacy.attacks.reidentification import (
    Reidentification,
    reidentification,
    reidentify,
)

__all__ = [
    "Reidentification",
    "ceiling",
    "ceiling_for",
    "likelihoods",
    "log_likelihoods",
    "posterior",
    "reidentification",
    "reidentify",
]

"""Privacy: mechanisms that protect a request."""

from sglora_fed.privacy.mechanisms import (
    GaussianMechanism,
    Mechanism,
    NoMechanism,
    make_mechanism,
    register_mechanism,
)

__all__ = [
    "GaussianMechanism",
    "Mechanism",
    "NoMechanism",
    "make_mechanism",
    "register_mechanism",
]

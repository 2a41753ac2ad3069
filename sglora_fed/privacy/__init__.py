"""Privacy: mechanisms that protect a request, the public catalogue, the ledger of what is spent."""

from sglora_fed.privacy.mechanisms import (
    GaussianMechanism,
    KrrMechanism,
    Mechanism,
    NoMechanism,
    PrivUnitMechanism,
    SubsetMechanism,
    make_mechanism,
    register_mechanism,
)

__all__ = [
    "GaussianMechanism",
    "KrrMechanism",
    "Mechanism",
    "NoMechanism",
    "PrivUnitMechanism",
    "SubsetMechanism",
    "make_mechanism",
    "register_mechanism",
]

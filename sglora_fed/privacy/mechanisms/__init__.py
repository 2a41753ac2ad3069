"""What happens to a description embedding before it leaves the client, one file for each way.

The unit of privacy is one description, local: a mechanism makes any two descriptions nearly
indistinguishable to whoever sees the request.
"""

from sglora_fed.privacy.mechanisms.agreed import PLACES, agreed_mechanism, promise
from sglora_fed.privacy.mechanisms.base import (
    UNIT,
    Form,
    Mechanism,
    embedding_form,
    index_form,
    make_mechanism,
    register_mechanism,
)
from sglora_fed.privacy.mechanisms.gaussian import GaussianMechanism
from sglora_fed.privacy.mechanisms.krr import KrrMechanism
from sglora_fed.privacy.mechanisms.local import LocalMechanism
from sglora_fed.privacy.mechanisms.none import NoMechanism
from sglora_fed.privacy.mechanisms.privunit import PrivUnitMechanism
from sglora_fed.privacy.mechanisms.projection import ProjectedMechanism, Projection
from sglora_fed.privacy.mechanisms.shares import SharesMechanism
from sglora_fed.privacy.mechanisms.subset import SubsetMechanism

__all__ = [
    "PLACES",
    "UNIT",
    "Form",
    "GaussianMechanism",
    "KrrMechanism",
    "LocalMechanism",
    "Mechanism",
    "NoMechanism",
    "PrivUnitMechanism",
    "ProjectedMechanism",
    "Projection",
    "SharesMechanism",
    "SubsetMechanism",
    "agreed_mechanism",
    "embedding_form",
    "index_form",
    "make_mechanism",
    "promise",
    "register_mechanism",
]

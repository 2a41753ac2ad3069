"""Attacks on what the federation reveals, as strong as theory allows, each beside its ceiling.

On requests: re-identification, attributes, linkage and repetition by a mechanism's exact
likelihood; labels and words by learning. On the zoo: membership of records, of experts, and what an
update gives away.
"""

from sglora_fed.privacy.attacks.attributes import AttributeInference, attribute_inference
from sglora_fed.privacy.attacks.ceilings import ceiling, ceiling_for, posterior
from sglora_fed.privacy.attacks.experts import expert_in_zoo
from sglora_fed.privacy.attacks.inversion import Inversion, bag_of_words, invert
from sglora_fed.privacy.attacks.learning import Learnt, features, learn_labels
from sglora_fed.privacy.attacks.likelihood import likelihoods, log_likelihoods
from sglora_fed.privacy.attacks.linkage import Linkage, linkage
from sglora_fed.privacy.attacks.membership import calibrated, lira, logits, rmia
from sglora_fed.privacy.attacks.reidentification import (
    Reidentification,
    reidentification,
    reidentify,
)
from sglora_fed.privacy.attacks.repetition import Repetition, repetition
from sglora_fed.privacy.attacks.scores import Separation, auc_ceiling, separation, tpr_ceiling
from sglora_fed.privacy.attacks.updates import alignment, explained

__all__ = [
    "AttributeInference",
    "Inversion",
    "Learnt",
    "Linkage",
    "Reidentification",
    "Repetition",
    "Separation",
    "alignment",
    "attribute_inference",
    "auc_ceiling",
    "bag_of_words",
    "calibrated",
    "ceiling",
    "ceiling_for",
    "expert_in_zoo",
    "explained",
    "features",
    "invert",
    "learn_labels",
    "likelihoods",
    "linkage",
    "lira",
    "log_likelihoods",
    "logits",
    "posterior",
    "reidentification",
    "reidentify",
    "repetition",
    "rmia",
    "separation",
    "tpr_ceiling",
]

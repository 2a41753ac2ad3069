"""The mechanism that a configuration means, once both sides know what a release refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglora_fed.config.schema import MECHANISMS, UNSPENT, PrivacyConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms.base import Mechanism, make_mechanism
from sglora_fed.privacy.mechanisms.krr import KrrMechanism
from sglora_fed.privacy.mechanisms.local import LocalMechanism
from sglora_fed.privacy.mechanisms.projection import ProjectedMechanism, Projection
from sglora_fed.privacy.mechanisms.subset import SubsetMechanism

if TYPE_CHECKING:
    from sglora_fed.privacy.snapping import Snap

PLACES = ("krr", "subset")
"""Mechanisms that release places of a catalogue."""


def agreed_mechanism(
    config: PrivacyConfig,
    dim: int,
    projection: Projection | None = None,
    snap: Snap | None = None,
) -> Mechanism:
    """The configured mechanism for embeddings of ``dim`` numbers.

    Args:
        config: of the run.
        dim: numbers of an embedding, d.
        projection: public, for vectors of fewer numbers.
        snap: of the catalogue, for places.

    Raises:
        PrivacyError: for an unknown name, impossible parameters, or what the mechanism lacks.
    """
    if config.mechanism in PLACES:
        if snap is None or config.epsilon is None:
            raise PrivacyError(f"{config.mechanism} needs a catalogue and privacy.epsilon")
        return ProjectedMechanism(snap, _of_places(config, config.epsilon, snap))
    if config.mechanism == "local":
        return LocalMechanism()
    if projection is None:
        return make_mechanism(config, dim)
    return ProjectedMechanism(projection, make_mechanism(config, projection.rank))


def _of_places(config: PrivacyConfig, epsilon: float, snap: Snap) -> Mechanism:
    if config.mechanism == "krr":
        return KrrMechanism(snap.rows, epsilon)
    return SubsetMechanism(snap.rows, epsilon, config.replies)


def promise(config: PrivacyConfig) -> tuple[float | None, float | None]:
    """Epsilon and delta of one release; None where nothing is promised.

    Raises:
        PrivacyError: for an unknown name or impossible parameters.
    """
    if config.mechanism in PLACES:
        return config.epsilon, 0.0
    if config.mechanism in UNSPENT:
        return 0.0, 0.0
    made = MECHANISMS.get(config.mechanism)(config, 2)
    return made.epsilon, made.delta


def needs_terms(config: PrivacyConfig, dim: int) -> Mechanism:
    """What of a name in the registry that is made by :func:`agreed_mechanism` alone.

    Raises:
        PrivacyError: always.
    """
    raise PrivacyError(f"{config.mechanism} is made once both sides agree on what it refers to")

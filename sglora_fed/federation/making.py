"""What the server makes of requests, whatever they tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sglora_fed.config.schema import PrivacyConfig, RunConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.federation.answers import States
from sglora_fed.federation.describe import Requests
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.readings import is_read
from sglora_fed.federation.terms import Agreement
from sglora_fed.generators.base import Generated, Generator
from sglora_fed.generators.directions import along, generator_projection, linear_of
from sglora_fed.privacy.mechanisms import Projection
from sglora_fed.privacy.mechanisms.shares import share_servers
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Zoo


@dataclass(frozen=True)
class Made:
    """For n clients.

    Attributes:
        adapters: generator -> [n, m, D], m for each client, of which it takes one.
        places: [n, m] of the catalogue that they are for; None where clients named none.
        shares: [n, 2, D] two servers' answers with the configured generator, or None.
        generators: generator -> state, with which the clients make their own.
        generated: generator -> the same adapters, and how far to trust them.
    """

    adapters: Mapping[str, np.ndarray] = field(default_factory=dict)
    places: np.ndarray | None = None
    shares: np.ndarray | None = None
    generators: States = field(default_factory=dict)
    generated: Mapping[str, Generated] = field(default_factory=dict)

    def of(self, rows: np.ndarray) -> Made:
        """For some of the clients."""
        return replace(
            self,
            adapters={name: array[rows] for name, array in self.adapters.items()},
            places=None if self.places is None else self.places[rows],
            shares=None if self.shares is None else self.shares[rows],
        )


def server_projection(
    config: PrivacyConfig, generator: Generator, zoo: Zoo | None
) -> Projection | None:
    """The directions in which vectors are sent, where the mechanism needs or wants some.

    Args:
        config: names the mechanism.
        generator: whose own directions they are.
        zoo: that it was made with; None where only the generator is there.

    Raises:
        PrivacyError: when they are wanted, and the zoo is not there.
        GeneratorError: when shares are for a generator that is not linear.
    """
    if config.mechanism != "shares" and config.rank is None:
        return None
    if config.mechanism == "shares":
        linear_of(generator)
    if zoo is None:
        raise PrivacyError(f"{config.mechanism} needs directions of a zoo; name its folder")
    rank = None if config.mechanism == "shares" else config.rank
    return generator_projection(generator, zoo, rank)


def known_experts(config: RunConfig, zoo: Zoo) -> np.ndarray | None:
    """[E, d] experts' descriptions, where they tell whether a catalogue is that of their family."""
    return zoo.embeddings if is_read(config) else None


def make_for(
    federation: Federation,
    generators: Mapping[str, Generator],
    agreement: Agreement,
    requests: Requests,
    rows: np.ndarray,
) -> Made:
    """All that the server can make for the clients in some rows.

    Args:
        federation: who takes part.
        generators: by name.
        agreement: of mechanism and terms.
        requests: of all clients.
        rows: [n] of them.

    Raises:
        GeneratorError: for shares, when the configured generator is not linear.
        PrivacyError: for shares, when its adapters are too large for the ring.
    """
    if agreement.mechanism.name == "local":
        return Made(generators={name: one.state() for name, one in generators.items()})
    if agreement.mechanism.name == "shares":
        own = generators[federation.config.generator.name]
        return Made(shares=answered(own, agreement, requests.released[rows]))
    asked = agreement.read(requests.embeddings[rows])
    several = requests.embeddings.shape[1] > 1
    generated = {
        name: generate(generator, asked, federation.seed, own_last=not several)
        for name, generator in generators.items()
    }
    return Made(
        adapters={name: one.adapters for name, one in generated.items()},
        places=requests.released[rows] if several else None,
        generated=generated,
    )


def generate(
    generator: Generator, embeddings: np.ndarray, seed: int, *, own_last: bool = True
) -> Generated:
    """Adapters for several embeddings of each client.

    Args:
        generator: that has learnt.
        embeddings: [n, m, d].
        seed: of the run.
        own_last: whether each client's last is its own description, whose similarity and entropy
            are told; else they are means, as nobody knows which one it is.
    """
    count, replies, dim = embeddings.shape
    own = derive_seed(seed, "generate", generator.name)
    made = generator.generate(embeddings.reshape(-1, dim), 1, own)
    return Generated(
        made.adapters.reshape(count, replies, -1),
        *(
            rows[:, -1] if own_last else rows.mean(axis=1)
            for one in (made.similarity, made.entropy)
            for rows in [one.reshape(count, replies)]
        ),
    )


def answered(generator: Generator, agreement: Agreement, released: np.ndarray) -> np.ndarray:
    """[n, 2, D] the answers of two servers that do not talk, played here one after the other.

    Args:
        generator: linear.
        agreement: whose projection both sides use.
        released: [n, 2, k] shares; each server reads its own alone.
    """
    linear, projection = linear_of(generator), agreement.terms.projection
    assert projection is not None  # shares have no mechanism without
    servers = share_servers(along(linear, projection.directions), linear.offset)
    return np.stack([one.answer(released[:, i]) for i, one in enumerate(servers)], axis=1)

"""What the server makes of requests, whatever they tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sglora_fed.adapters.start import within_bound
from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.federation.answers import States
from sglora_fed.federation.describe import Requests
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.terms import Agreement
from sglora_fed.generators.base import Generated, Generator
from sglora_fed.generators.directions import along, generator_projection, linear_of
from sglora_fed.privacy.mechanisms import Projection, SharesMechanism
from sglora_fed.privacy.mechanisms.shares import Answers, answers, share_servers
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Zoo


@dataclass(frozen=True)
class Made:
    """For n clients.

    Attributes:
        adapters: generator -> [n, m, D], m for each client, of which it takes one.
        places: [n, m] of the catalogue that they are for; None where clients named none.
        shares: two servers' answers with the configured generator, or None.
        generators: generator -> state, with which the clients make their own.
        generated: generator -> the same adapters, and how far to trust them.
    """

    adapters: Mapping[str, np.ndarray] = field(default_factory=dict)
    places: np.ndarray | None = None
    shares: Answers | None = None
    generators: States = field(default_factory=dict)
    generated: Mapping[str, Generated] = field(default_factory=dict)

    @property
    def each(self) -> int:
        """Adapters that were made for each client; 1 where it makes its own."""
        if self.shares is not None:
            return 1 + int(self.shares.entries.shape[2])
        return next((int(several.shape[1]) for several in self.adapters.values()), 1)

    def of(self, rows: np.ndarray) -> Made:
        """For some of the clients."""
        return replace(
            self,
            adapters={name: array[rows] for name, array in self.adapters.items()},
            places=None if self.places is None else self.places[rows],
            shares=None if self.shares is None else self.shares.of(rows),
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
    if config.mechanism == "shares":
        linear_of(generator)
    elif config.rank is None:
        return None
    if zoo is None:
        raise PrivacyError(f"{config.mechanism} needs directions of a zoo; name its folder")
    return generator_projection(generator, zoo, config.rank)


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
    mechanism = agreement.mechanism
    if mechanism.name == "local":
        return Made(generators={name: one.state() for name, one in generators.items()})
    if isinstance(mechanism, SharesMechanism):
        own = generators[federation.config.generator.name]
        return Made(shares=answered(federation, own, mechanism, requests.released[rows]))
    told = requests.embeddings[rows]
    asked, several = agreement.read(told), told.shape[1] > 1
    # An entry is the first of its own readings, a description the last.
    said = None if several else (-1 if agreement.snap is None else 0)
    generated = {
        name: generate(generator, asked, federation.seed, said)
        for name, generator in generators.items()
    }
    return Made(
        adapters={name: one.adapters for name, one in generated.items()},
        places=requests.released[rows] if several else None,
        generated=generated,
    )


def generate(
    generator: Generator, embeddings: np.ndarray, seed: int, said: int | None = -1
) -> Generated:
    """Adapters for several embeddings of each client.

    Args:
        generator: that has learnt.
        embeddings: [n, m, d].
        seed: of the run.
        said: which of each client's is what it said, whose similarity and entropy are told; None:
            nobody knows, and they are means.
    """
    count, replies, dim = embeddings.shape
    own = derive_seed(seed, "generate", generator.name)
    made = generator.generate(embeddings.reshape(-1, dim), 1, own)
    return Generated(
        made.adapters.reshape(count, replies, -1),
        *(
            rows.mean(axis=1) if said is None else rows[:, said]
            for one in (made.similarity, made.entropy)
            for rows in [one.reshape(count, replies)]
        ),
    )


def answered(
    federation: Federation, generator: Generator, mechanism: SharesMechanism, released: np.ndarray
) -> Answers:
    """The answers of two servers that do not talk, played here one after the other.

    Args:
        federation: whose adapters they are.
        generator: linear.
        mechanism: whose directions and entries both sides use.
        released: [n, 2, k + e w] shares.
    """
    linear, adapters = linear_of(generator), None
    if mechanism.snap is not None:
        entries = mechanism.snap.embeddings.astype(np.float32)[:, None]
        made = generate(generator, entries, federation.seed).adapters[:, 0]
        adapters = within_bound(made, federation.layout).astype(np.float16)
    weights = along(linear, mechanism.projection.directions)
    return answers(share_servers(weights, linear.offset, adapters), released)

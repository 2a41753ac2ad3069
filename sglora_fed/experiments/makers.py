"""Zoo and generator, loaded once for all that a service serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones import light_describer
from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import ZooForeignError
from sglora_fed.experiments.zoos import newest_zoo
from sglora_fed.federation.adopt import AdoptRequest, adopt_request
from sglora_fed.federation.describe import DescribeReply, Requests
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.making import Made, make_for, server_projection
from sglora_fed.federation.terms import Agreement, server_agreement
from sglora_fed.generators import Generator, generator_sha256
from sglora_fed.generators.confidence import Confidence
from sglora_fed.generators.export import GENERATOR, Export, read_export
from sglora_fed.kept.generators import confidence_for, generator_for
from sglora_fed.kept.zoos import check_signed, trusted_zoo
from sglora_fed.zoo import Zoo, ZooStore, read_store


@dataclass(frozen=True)
class LoadedMaker:
    """A generator that is ready, and what experts have told of its adapters.

    Attributes:
        generator: that has learnt.
        layout: of its adapters.
        agreement: of what releases refer to.
        dim: numbers of a description embedding, d.
        seed: of its zoo.
        sha256: which generator this is.
        sure: of its adapters, and the fall-back [D]; None where nobody was asked.
    """

    generator: Generator
    layout: Layout
    agreement: Agreement
    dim: int
    seed: int
    sha256: str
    sure: tuple[Confidence, np.ndarray] | None

    def make(self, federation: Federation, replies: Sequence[DescribeReply]) -> list[AdoptRequest]:
        """What to send to some nodes, each for its own clients; all are one batch."""
        released = np.concatenate([reply.released for reply in replies])
        ids = tuple(own for reply in replies for own in reply.ids)
        nodes = np.repeat(np.arange(len(replies)), [len(reply.ids) for reply in replies])
        requests = Requests(ids, ids, nodes, released, self.agreement)
        rows = np.arange(len(ids))
        named = {federation.config.generator.name: self.generator}
        made = make_for(federation, named, self.agreement, requests, rows)
        sure = self._sure(made)
        letters = []
        for number in range(len(replies)):
            some = np.flatnonzero(nodes == number)
            letter = adopt_request(federation, requests.called(some), made.of(some))
            confidence = sure[some] if len(sure) else sure
            letters.append(replace(letter, made_by=self.sha256, confidence=confidence))
        return letters

    def _sure(self, made: Made) -> np.ndarray:
        """[n], or nothing where nobody was asked, or a client has a choice."""
        one = next(iter(made.generated.values()), None)
        if self.sure is None or one is None or one.adapters.shape[1] != 1:
            return np.empty(0, np.float32)
        confidence, fallback = self.sure
        return np.asarray(confidence.of(one, fallback), np.float32)


def load_maker(config: RunConfig) -> LoadedMaker:
    """The configured generator for the configured zoo, else for the newest one that fits.

    ``zoo.path`` may also be the folder of an exported generator, which needs no zoo, no model and
    no other settings.

    Raises:
        ZooForeignError: when the zoo is for other adapters than the nodes would take.
        GeneratorError: when the generator needs a run that was not made.
        SgloraError: when zoo or generator cannot be read.
    """
    if config.zoo.path and (path := Path(config.zoo.path).expanduser() / GENERATOR).exists():
        return _exported(config, path.parent)
    store = _store(config)
    check_signed(config, store)
    layout = Layout.from_dict(store.identity.layout)
    _check_layout(config, layout, store.path)
    generator, zoo = generator_for(config, store), trusted_zoo(store)
    return LoadedMaker(
        generator=generator,
        layout=layout,
        agreement=agreed(config, generator, zoo),
        dim=zoo.embeddings.shape[1],
        seed=store.identity.seed,
        sha256=generator_sha256(generator),
        sure=confidence_for(config, store),
    )


def _exported(config: RunConfig, folder: Path) -> LoadedMaker:
    export = read_export(folder, config.zoo.key)
    _check_layout(config, export.layout, folder)
    sha256 = generator_sha256(export.generator)
    seed = export.about.identity.seed
    agreement = agreed(config, export.generator, None, export)
    return LoadedMaker(export.generator, export.layout, agreement, export.dim, seed, sha256, None)


def agreed(
    config: RunConfig, generator: Generator, zoo: Zoo | None, export: Export | None = None
) -> Agreement:
    """What releases refer to, and how a generator's descriptions are read.

    An exported generator brings its catalogue's space, which takes an encoder long to make. A
    family's list is none for a generator of another family.

    Args:
        config: of the run.
        generator: that has learnt.
        zoo: that it has learnt from, where it is there.
        export: that it comes from, in place of a zoo.

    Raises:
        CatalogueError, PrivacyError: for a catalogue or parameters that cannot be used.
    """
    projection = server_projection(config.privacy, generator, zoo)
    describer = light_describer(config.backbone)
    known = ("", None) if export is None else (export.about.catalogue_sha256, export.snap)
    said = generator.state()["embeddings"] if zoo is None else zoo.embeddings
    return server_agreement(config, describer, projection, np.asarray(said), known)


def _check_layout(config: RunConfig, layout: Layout, path: Path) -> None:
    """The nodes take adapters as the configuration says."""
    if layout != run_layout(config):
        raise ZooForeignError(
            f"{path} holds adapters of another layout than backbone and adapter give; use the"
            " overrides that it was made with"
        )


def _store(config: RunConfig) -> ZooStore:
    if config.zoo.path:
        return read_store(Path(config.zoo.path).expanduser())
    return newest_zoo(config)

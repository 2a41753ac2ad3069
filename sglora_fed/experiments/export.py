"""The configured generator of a zoo, as a folder to serve or to use alone."""

from __future__ import annotations

from pathlib import Path

from sglora_fed.config import RunConfig
from sglora_fed.experiments.generate import describer_of
from sglora_fed.generators.export import About, write_export
from sglora_fed.kept.catalogues import kept_snap
from sglora_fed.kept.generators import generator_for
from sglora_fed.kept.zoos import trusted_zoo
from sglora_fed.privacy.catalogue import Catalogue
from sglora_fed.privacy.families import WITH_CATALOGUE, catalogue_of
from sglora_fed.privacy.snapping import Snap
from sglora_fed.zoo import ZooStore


def export_generator(config: RunConfig, store: ZooStore, folder: Path) -> About:
    """Write the configured generator of a zoo: fitted to it now, or trained by an earlier run.

    Args:
        config: names the generator, the backbone's weights and the family.
        store: of the zoo.
        folder: to write.

    Raises:
        GeneratorError: for a generator that learns in rounds when no run has trained it.
        ZooForeignError: when the zoo's descriptions were encoded by other weights.
        ResultsError: when the disk is full.
    """
    generator, catalogue = generator_for(config, store), _catalogue(config)
    base = config.backbone.path
    local = base is not None and Path(base).expanduser().exists()
    about = About(
        family=config.family.name,
        base=None if local else base,
        revision=config.backbone.revision,
        identity=store.identity,
        experts=tuple(sorted(trusted_zoo(store).fingerprints().values())),
        catalogue_sha256=catalogue.sha256 if catalogue else "",
    )
    snap = _snap(config, store, catalogue) if catalogue else None
    write_export(folder, generator, config.generator, about, snap)
    return about


def _catalogue(config: RunConfig) -> Catalogue | None:
    name, told = config.family.name, config.privacy.catalogue
    if told is None and name not in WITH_CATALOGUE:
        return None
    return catalogue_of(name, Path(told).expanduser() if told else None)


def _snap(config: RunConfig, store: ZooStore, catalogue: Catalogue) -> Snap:
    """By the encoder of the zoo's descriptions."""
    return kept_snap(catalogue, describer_of(config, store.path, store.identity))

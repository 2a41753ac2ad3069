"""Which zoo on disk a configuration means, where nobody names one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sglora_fed.config import RunConfig, home
from sglora_fed.errors import ZooDamagedError, ZooForeignError
from sglora_fed.federation.layouts import run_layout
from sglora_fed.kept.zoos import zoo_identity
from sglora_fed.zoo import ZooStore, read_store
from sglora_fed.zoo.store import MANIFEST


def newest_zoo(config: RunConfig) -> ZooStore:
    """The configured zoo, else of those under the home folder that fit the one written last.

    A zoo fits when a run with this configuration would continue it; its seed may be any.

    Raises:
        ZooDamagedError: when the configured one cannot be read.
        ZooForeignError: when none fits.
    """
    if config.zoo.path:
        return read_store(Path(config.zoo.path).expanduser())
    folder, layout = home() / "zoos", run_layout(config)
    stores = list(_readable(folder))
    for store in stores:
        wanted = zoo_identity(config, layout, store.identity.seed)
        if store.ids() and not wanted.differences(store.identity):
            return store
    raise ZooForeignError(
        f"none of {len(stores)} zoos in {folder} was made with this configuration; name one as"
        " --zoo, give the overrides that it was made with, or run sglora-fed simulate (zoo build is"
        " enough for generator=ridge and the merges)"
    )


def _readable(folder: Path) -> Iterator[ZooStore]:
    """The zoos in a folder, the newest first; others are not ours to judge here."""
    manifests = folder.glob(f"*/{MANIFEST}")
    for path in sorted(manifests, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            yield read_store(path.parent)
        except ZooDamagedError:
            continue

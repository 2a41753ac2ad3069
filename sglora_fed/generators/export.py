"""A generator that has learnt, as a folder that anybody who serves or uses it alone can load.

``generator.safetensors`` holds what was learnt, ``manifest.json`` what it was made for and the
sha256 of everything beside it. Where the family has a public catalogue, ``catalogue.safetensors``
holds its space, so that requests which name places in it, or are to be read in several ways, are
answered without an encoder. The manifest may be signed (:mod:`sglora_fed.zoo.signing`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from sglora_fed.adapters.layout import Layout
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import CatalogueError, ExportError, LayoutError
from sglora_fed.files import sha256_of, write_atomically
from sglora_fed.generators.base import Generator
from sglora_fed.generators.registry import load_generator, save_generator
from sglora_fed.privacy.snapping import Snap
from sglora_fed.tensors import header_of
from sglora_fed.zoo import ZooIdentity
from sglora_fed.zoo.serials import Signable, line_of
from sglora_fed.zoo.store import MANIFEST

SCHEMA = 2
GENERATOR, CATALOGUE = "generator.safetensors", "catalogue.safetensors"

LARGEST_MANIFEST = 16 * 2**20
"""Bytes: an expert is 70 of them."""


@dataclass(frozen=True)
class About:
    """What an exported generator is for.

    Attributes:
        family: name of the task family.
        base: what the backbone's weights are called: a hub id, ``package:...``, or None for the
            default ones. Never a path of the machine that exported it.
        revision: of the base.
        identity: of the zoo.
        experts: sorted fingerprints of the experts that it was made with.
        catalogue_sha256: of the public catalogue; empty where there is none.
    """

    family: str
    base: str | None
    revision: str | None
    identity: ZooIdentity
    experts: tuple[str, ...]
    catalogue_sha256: str = ""


@dataclass(frozen=True)
class Export:
    """A generator that was exported, checked and loaded.

    Attributes:
        about: what it is for.
        generator: ready to generate.
        layout: of its adapters.
        snap: the space of the catalogue, or None.
        sha256: of the manifest: which generator this is.
        folder: in which it lies.
    """

    about: About
    generator: Generator
    layout: Layout
    snap: Snap | None
    sha256: str
    folder: Path

    @property
    def dim(self) -> int:
        """Numbers of a description embedding, d."""
        return int(self.generator.state()["embeddings"].shape[1])


def write_export(
    folder: Path,
    generator: Generator,
    config: GeneratorConfig,
    about: About,
    snap: Snap | None,
) -> None:
    """Write an export; the manifest comes last, and makes it whole.

    Args:
        folder: made when missing.
        generator: that has learnt.
        config: of the generator.
        about: what it is for.
        snap: the space of the catalogue, or None.

    Raises:
        GeneratorError: when it has learnt nothing.
        ResultsError: when the disk is full.
    """
    save_generator(generator, config, about.identity, folder / GENERATOR)
    files = {GENERATOR: sha256_of(folder / GENERATOR)}
    if snap is not None:
        write_atomically(folder / CATALOGUE, save(_arrays(snap)))
        files[CATALOGUE] = sha256_of(folder / CATALOGUE)
    values = {"schema": SCHEMA, "files": files, **asdict(about)}
    write_atomically(folder / MANIFEST, json.dumps(values, indent=1, sort_keys=True).encode())


def export_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export, its schema and names checked.

    Raises:
        ExportError: when it cannot be read or is another file.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(LARGEST_MANIFEST))
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path} is no JSON") from error
    names = {"schema", "files", *About.__dataclass_fields__}
    if not isinstance(values, dict) or set(values) != names or values["schema"] != SCHEMA:
        raise ExportError(f"{path}: need exactly {sorted(names)}, and schema {SCHEMA}")
    if not isinstance(values["identity"], dict):
        raise ExportError(f"{path}: the identity is no object")
    return values


def signed_export(values: Mapping[str, Any]) -> bytes:
    """What a signature of an export is about: its whole manifest, as canonical JSON."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")


def signable_export(folder: Path, values: Mapping[str, Any]) -> Signable:
    """An export's manifest, to be signed or checked."""
    return Signable(folder, signed_export(values), line_of("export", values["identity"]))


def read_export(folder: Path, key: str | Path | None = None) -> Export:
    """Load an export, every file checked; what was checked is what is used, whoever writes there.

    Args:
        folder: of the export.
        key: public key (PEM) that must have signed it; None: nobody need have.

    Raises:
        ExportError: when a file is missing, damaged, or not what the manifest says.
        GeneratorFileError: when the generator's own file is not one.
        SigningKeyError: when the key cannot be used.
        ZooSignatureError: when it is not signed, or was changed since.
        RolledBackError: when a newer signature was seen on this machine.
    """
    values = export_manifest(folder)
    if key is not None:
        from sglora_fed.zoo.signing import check_signature  # who has no key loads no library

        check_signature(signable_export(folder, values), Path(key).expanduser())
    try:
        about = _about(values)
        layout = Layout.from_dict(about.identity.layout)
        files = _files(folder, values["files"])
        snap = _snap(files[CATALOGUE]) if CATALOGUE in files else None
    except OSError as error:
        raise ExportError(f"{folder} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, LayoutError, CatalogueError) as error:
        raise ExportError(f"{folder} is no exported generator: {error}") from error
    generator = load_generator(folder / GENERATOR, about.identity, files[GENERATOR])
    digest = hashlib.sha256(signed_export(values)).hexdigest()
    return Export(about, generator, layout, snap, digest, folder)


def _about(values: Mapping[str, Any]) -> About:
    given = {name: values[name] for name in About.__dataclass_fields__}
    texts = [given["family"], given["catalogue_sha256"], *given["experts"]]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name or a hash is no text")
    given["identity"] = ZooIdentity(**given["identity"])
    return About(**given | {"experts": tuple(given["experts"])})


def _files(folder: Path, digests: Mapping[str, str]) -> dict[str, bytes]:
    """Name -> content, each file read once."""
    if not {GENERATOR} <= set(digests) <= {GENERATOR, CATALOGUE}:
        raise ValueError(f"it names the files {sorted(digests)}")
    files = {name: (folder / name).read_bytes() for name in digests}
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != digests[name]:
            raise ValueError(f"{name} has another sha256 than the manifest says")
    return files


def _arrays(snap: Snap) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array, np.float32) for name, array in vars(snap).items()}


def _snap(data: bytes) -> Snap:
    """A space of [k, d] float32 unit rows."""
    header, metadata = header_of(BytesIO(data), len(data))
    _, (count, dim) = header.get("rows", ("", ()))
    shapes = {
        "embeddings": (count, dim),
        "mean": (dim,),
        "matrix": (dim, dim),
        "rows": (count, dim),
    }
    expected = {name: ("F32", shape) for name, shape in shapes.items()}
    if header != expected or metadata:
        raise ValueError(f"{CATALOGUE} holds {header | metadata}; need {expected}")
    arrays = load(data)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"{CATALOGUE} holds NaN or infinity")
    return Snap(**arrays)

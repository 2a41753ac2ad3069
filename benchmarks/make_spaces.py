"""The spaces of the embedded catalogues by the bundled description encoder, for the package.

    python benchmarks/make_spaces.py

To embed a catalogue takes 18 seconds of a core, on a small device some minutes, and comes to the
same everywhere. Writes ``sglora_fed/privacy/spaces/*.safetensors`` in half precision and removes
what was made from another list, another encoder or other constants.
"""

from __future__ import annotations

from safetensors.numpy import save

from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.files import write_atomically
from sglora_fed.kept.catalogues import SPACES, made_snap, space_facts, space_file
from sglora_fed.privacy.families import catalogue_of

FAMILIES = ("cameras",)
"""Families of which somebody reads descriptions before anything is trained."""


def main() -> None:
    """Make them all."""
    describer = load_describer(compose([]).backbone)
    for old in SPACES.glob("*.safetensors"):
        old.unlink()
    for family in FAMILIES:
        catalogue = catalogue_of(family)
        snap = made_snap(catalogue, describer)
        arrays = {name: array.astype("float16") for name, array in vars(snap).items()}
        path = space_file(space_facts(catalogue, describer))
        write_atomically(path, save(arrays))
        print(f"{family}: {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

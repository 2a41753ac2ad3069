"""Draws the strip of pictures at the README's top from a finished run on cameras.

python benchmarks/draw_strip.py RESULTS --out docs/images/cameras.png

Three cameras: both that the run shows of `new_combination` and the first of `new_words`, whatever
was picked for them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sglora_fed.files import write_atomically
from sglora_fed.report.gallery import by_split, draw_strip
from sglora_fed.report.words import adopted_method
from sglora_fed.results.files import read_summary
from sglora_fed.results.gallery import Exhibit, read_gallery

SHOWN = {"new_combination": 2, "new_words": 1}
"""Split -> clients of it."""


def strip(results: Path) -> bytes:
    """PNG of a run's cameras, with the captions picked without and with the generated adapter.

    Raises:
        ResultsError: for a folder without a finished run, or with a damaged gallery.
    """
    methods = ["zero_shot", adopted_method(read_summary(results))]
    return draw_strip(chosen(read_gallery(results)), methods, best=1)


def chosen(exhibits: Sequence[Exhibit]) -> list[Exhibit]:
    """The cameras of the strip, in reading order."""
    return [one for split, some in by_split(exhibits) for one in some[: SHOWN.get(split, 0)]]


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    asked = parser.parse_args()
    write_atomically(asked.out, strip(asked.results))
    print(asked.out)


if __name__ == "__main__":
    main()

"""matplotlib as its authors ship it, whatever the user's environment says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def plain_matplotlib() -> Iterator[None]:
    """Draw with matplotlib's defaults; the user's settings are as they were afterwards.

    A ``matplotlibrc`` may ask for LaTeX, which need not be installed.
    """
    _import_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def _import_matplotlib() -> None:
    """Import it without MPLBACKEND: a notebook's backend may be installed for the notebook only."""
    named = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if named is not None:
        os.environ["MPLBACKEND"] = named
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = named

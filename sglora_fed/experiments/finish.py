"""The end of a run: what was measured, its report and its summary, on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sglora_fed.report.page import write_report
from sglora_fed.results.files import write_rows, write_summary
from sglora_fed.results.gallery import Exhibit, write_gallery
from sglora_fed.results.rows import Row
from sglora_fed.results.summary import RunFacts, summarise


def write_results(
    folder: Path,
    rows: Iterable[Row],
    facts: RunFacts,
    config_yaml: str,
    exhibits: Sequence[Exhibit] = (),
) -> Path:
    """Write configuration, rows and gallery, then figures and the page, then the summary.

    Returns:
        The folder, absolute.

    Raises:
        ResultsError: when there are no rows, a number is not finite or the disk is full.
    """
    # First what cannot be made again: whatever fails below, the measurements are kept.
    write_rows(folder, rows, config_yaml)
    write_gallery(folder, exhibits)
    summary = summarise(rows, facts)
    write_report(folder, summary, rows, exhibits)
    write_summary(folder, summary)
    return folder.absolute()

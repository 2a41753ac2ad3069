"""Reports: a table in the terminal, figures, one HTML page."""

from sglora_fed.report.page import write_report
from sglora_fed.report.table import results_table

__all__ = ["results_table", "write_report"]

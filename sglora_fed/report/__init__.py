"""Reports: a table in the terminal, figures, one HTML page."""

"""Results of a run: rows per client, their statistics and summary, and all of it on disk."""

"""Experiments: one run, its statistics and its results on disk."""

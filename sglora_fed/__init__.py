"""sglora-fed: adapters for a frozen model from task descriptions, in a federation."""

__version__ = "0.2.0"

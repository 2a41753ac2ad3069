"""The owners' words, one module for each part of a condition: many ways, as of many people."""

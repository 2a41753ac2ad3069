"""A node of one's own: its file, what it answers, and the adapter that it keeps.

What runs when a message comes imports neither torch nor transformers: Flower starts a process for
each, and on a small board their import takes longer than all the rest.
"""

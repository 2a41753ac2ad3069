"""Start a Flower run on a SuperLink of our own, follow it, and leave nothing behind.

Nothing is imported here: the processes that watch over a run import this package too.
"""

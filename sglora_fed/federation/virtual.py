"""Which nodes are simulated: those that this process, or Ray on this machine, plays.

What a node promises its clients hangs on the answer, so nothing decides it that a message, a run's
configuration or a node's own could hold, and whoever is not recognised is a real node.
"""

from __future__ import annotations

import sys

from flwr.app import Context


class VirtualContext(Context):
    """Of a node that the in-process grid plays; what comes over a network never becomes one."""


def is_virtual(context: Context) -> bool:
    """Whether a simulation plays the node: the in-process grid, or one of Ray's actors.

    A SuperNode runs the app in a process of its own, in which Ray has no actor.
    """
    if isinstance(context, VirtualContext):
        return True
    # Whatever is Ray's actor has imported it; elsewhere that would cost a second. Its context must
    # not be asked for where Ray is not running: asking starts it.
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    return ray.get_runtime_context().get_actor_id() is not None

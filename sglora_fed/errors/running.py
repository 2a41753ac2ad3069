"""The federation and what starts it (8xx)."""

from __future__ import annotations

from sglora_fed.errors.base import SgloraError


class MessageError(SgloraError):
    """A message from the network is not what was agreed: names, shapes, types, or finite values."""

    code = 800
    title = "message is not what was agreed"
    resolve = (
        "Run the same version of sglora-fed with the same configuration on server and nodes. If "
        "versions agree, the sender is broken or hostile: look at its log."
    )


class RepliesError(SgloraError):
    """Fewer usable replies arrived than the run needs."""

    code = 801
    title = "too few replies"
    resolve = (
        "Look at the nodes' logs for the codes that the message lists. Start the missing nodes, "
        "or lower federation.min_replies or raise federation.timeout."
    )


class ClientTaskError(SgloraError):
    """Work on a client failed; only this code crosses the network, never the reason."""

    code = 802
    title = "a client failed"
    resolve = (
        "The client's own log names the kind of exception; its text is written nowhere, because it "
        "may hold what the user wrote. Run that client's tasks alone to see it: "
        "`sglora-fed simulate family=local family.path=DIR`."
    )


class LaunchError(SgloraError):
    """Flower could not be started, or the run ended with an error."""

    code = 803
    title = "the Flower run failed"
    resolve = (
        "Read the log that the message names. A port in use or a missing node is the usual cause; "
        "then run again."
    )


class SweepError(SgloraError):
    """A run of a sweep failed; those before it are kept."""

    code = 804
    title = "a run of the sweep failed"
    resolve = (
        "Resolve the run's own error, whose code the message holds, then give the same command "
        "with the sweep's folder as --output: finished runs are not run again."
    )


class InterpreterPathError(SgloraError):
    """Ray cannot start a worker with this interpreter: its path has a blank, a bracket, a quote."""

    code = 810
    title = "the environment's path is unusable"
    resolve = (
        "Make the virtual environment again under a path of letters, digits and dashes, and "
        "install sglora-fed there; an environment cannot be moved. Checkout and results may stay."
    )


class PathNameError(SgloraError):
    """A path or an override is not UTF-8: it can be sent to no other process of a run."""

    code = 811
    title = "a name is not UTF-8"
    resolve = "Rename the file or folder that the message names, or choose another one."


class ProxyError(SgloraError):
    """The environment names a proxy that Flower's HTTP client cannot be started with."""

    code = 812
    title = "a proxy cannot be used"
    resolve = (
        "For a SOCKS proxy install its support, `pip install 'httpx[socks]'`; or start the run "
        "without the variable, as in `env -u ALL_PROXY sglora-fed simulate`. A run alone needs no "
        "proxy when the backbone's weights are on the machine."
    )

"""A node of one's own, and what serves it (82x)."""

from __future__ import annotations

from sglora_fed.errors.base import SgloraError


class NodeFileError(SgloraError):
    """A node's own file or folder cannot be used: unknown field, wrong type, no room."""

    code = 820
    title = "the node's own file cannot be used"
    resolve = (
        "Correct what the message names in the file that the node config calls node; "
        "`sglora-fed client init` writes one, docs/how-to/deploy.md describes it."
    )


class AuthorityError(SgloraError):
    """Certificates cannot be made or used: a folder that exists, a name that is none."""

    code = 821
    title = "certificates cannot be made"
    resolve = (
        "Choose a new folder, and give the server's names as other machines call it: a host name, "
        "or an address. What is there already is never overwritten."
    )


class NoAdapterError(SgloraError):
    """The node has no adapter yet, or one that was made for another model."""

    code = 822
    title = "no adapter to use"
    resolve = (
        "`sglora-fed client status DIR` says what the node has. It gets an adapter when its "
        "SuperNode is connected and the server serves."
    )


class FolderBusyError(SgloraError):
    """Another run writes to the same folder: a service that is up, or an experiment."""

    code = 823
    title = "another run has the folder"
    resolve = (
        "Stop the other run (`flwr list`, `flwr stop`), or give this one a folder of its own as "
        "output."
    )

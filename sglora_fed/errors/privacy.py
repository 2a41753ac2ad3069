"""Mechanisms, catalogues and ledgers (7xx)."""

from __future__ import annotations

from sglora_fed.errors.base import SgloraError


class PrivacyError(SgloraError):
    """Privacy parameters are impossible, or a vector is not fit for release."""

    code = 700
    title = "privacy mechanism cannot be used"
    resolve = (
        "Give epsilon > 0 and 0 < delta < 1, and release only unit vectors of finite numbers. "
        "Nothing was released and no value of the vector is in the message."
    )


class CatalogueError(SgloraError):
    """A catalogue is unusable, or not the one that the other side holds."""

    code = 701
    title = "catalogue cannot be used"
    resolve = (
        "Give both sides the same list of at least two different descriptions; "
        "docs/how-to/privacy.md describes the file."
    )


class LedgerError(SgloraError):
    """The ledger is missing, damaged, changed, older than it was, or cannot count a release."""

    code = 702
    title = "ledger cannot be used"
    resolve = (
        "Nothing was released. Free space or give write permission where the message says so. A "
        "ledger that was lost, changed or put back from a copy is not repaired: what it had spent "
        "is unknown, so its clients have nothing left to spend."
    )


class BudgetError(SgloraError):
    """One more release would pass somebody's limit; the message is the same for every request."""

    code = 703
    title = "privacy budget is spent"
    resolve = (
        "Nothing was drawn or released. What was released before can be asked for again at no cost."
        " More needs a larger limit, which only the node's owner can set."
    )


class PromiseError(SgloraError):
    """A run asks for a weaker promise than the node's own; nothing was drawn or spent."""

    code = 704
    title = "the node promises more than the run asks for"
    resolve = (
        "Choose a mechanism, epsilon and delta, of requests and of training, that the node's table "
        "[privacy] allows; its own log "
        "says which. Only its owner can change the table: docs/how-to/privacy.md describes it. A "
        "node that was told nothing releases nothing; one whose table does not name none measures "
        "nothing for a server either, and experts whose examples noise protects judge nothing."
    )


class FloorError(SgloraError):
    """The ``[privacy]`` table of a node's file cannot be read, or its parts do not fit."""

    code = 705
    title = "the node's own privacy table cannot be used"
    resolve = (
        "Nothing was released. Correct the file that the node config names as node; "
        "docs/how-to/privacy.md describes its table."
    )

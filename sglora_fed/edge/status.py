"""What a node has spent, in words."""

from __future__ import annotations

from fractions import Fraction

from sglora_fed.edge.settings import OwnNode
from sglora_fed.privacy.floor import CLEAR, read_floor


def budget_lines(node: OwnNode) -> list[str]:
    """What may be released, what was, and what is left.

    Raises:
        FloorError: when the node's table cannot be read.
        LedgerError: when its ledger cannot be trusted.
    """
    floor = read_floor(node.file)
    lines = [f"privacy: allows {', '.join(floor.mechanisms) or 'nothing'}"]
    if CLEAR in floor.mechanisms:
        lines.append("  descriptions may go in clear; nothing is counted for them")
    if floor.budget is not None and floor.ledger is not None:
        epsilon, delta = floor.opened().spent(node.name)
        lines.append(
            f"  epsilon {_left(epsilon, floor.budget.epsilon)};"
            f" delta {_left(delta, floor.budget.delta)}"
        )
    return lines


def _left(spent: Fraction, total: float) -> str:
    return f"{float(spent):g} of {total:g} spent, {total - float(spent):g} left"

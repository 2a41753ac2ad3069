"""e^epsilon as a ratio of whole numbers, never above it: what integer samplers draw by."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal

STEP = 1 << 40
"""Weight of a place that is not the truth: the ratio is wrong by less than 1 part in it."""

DIGITS = 480
"""e^1000 has 435 digits before the point, times ``STEP`` 447."""


@dataclass(frozen=True)
class Odds:
    """How much likelier the truth is than any other place: ``truth`` to ``other``.

    Attributes:
        truth: floor(e^epsilon * other).
        other: the weight of each other place.
    """

    truth: int
    other: int = STEP


def odds(epsilon: float) -> Odds:
    """The odds that an epsilon allows, rounded down.

    The exponential is rounded half even, by at most 10^-30 here, and e^epsilon times a whole number
    is never a whole number for a rational epsilon above 0 (Lindemann); the subtraction is for the
    case that it comes nearer than that. The truth is never less likely than another place.

    Args:
        epsilon: in (0, 1000].
    """
    context = Context(prec=DIGITS, rounding=ROUND_FLOOR)
    weight = context.multiply(Decimal(epsilon).exp(context), Decimal(STEP))
    return Odds(max(STEP, int(context.subtract(weight, Decimal("1e-30")))))

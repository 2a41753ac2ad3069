"""What an option is: a default, a line in the reference, and the values that it may have."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import field, fields
from typing import Any, ClassVar

Check = Callable[[Any], str]
"""What is wrong with a value, in words that follow it; empty when nothing is."""


def option(default: Any, doc: str, check: Check | None = None) -> Any:
    """A field of a group.

    Args:
        default: its value where nobody says another.
        doc: its meaning in ``docs/reference/configuration.md``.
        check: of its value; None, where the type allows it, is never checked.
    """
    return field(default=default, metadata={"doc": doc, "check": check or (lambda _: "")})


def where(holds: Callable[[Any], bool], allowed: str) -> Check:
    """Refuses what does not hold; ``allowed`` says what would."""
    return lambda value: "" if holds(value) else allowed


def at_least(low: int) -> Check:
    """Finite and no smaller than this."""
    return where(lambda value: math.isfinite(value) and value >= low, f"must be a number >= {low}")


def one_of(names: Collection[str]) -> Check:
    """One of these names; those that are registered later count too."""
    return lambda value: "" if value in names else f"must be one of {', '.join(names)}"


POSITIVE = where(lambda value: math.isfinite(value) and value > 0, "must be a number > 0")
SOME = where(lambda many: many and len(set(many)) == len(many), "at least one, each once")


class Group:
    """Some options that belong together; a subclass is a frozen dataclass of them.

    Attributes:
        prefix: of their dotted names.
    """

    prefix: ClassVar[str] = ""

    def problems(self) -> list[str]:
        """All mistakes in this group, each with its dotted name, its value and what is allowed."""
        found: list[str] = []
        for item in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, item.name)
            if isinstance(value, Group):
                found += value.problems()
            elif value is not None and (wrong := item.metadata["check"](value)):
                found.append(f"{self.prefix}{item.name}={_shown(value)}: {wrong}")
        return found + self.contradictions()

    def contradictions(self) -> list[str]:
        """Mistakes that lie in several options together."""
        return []


def _shown(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)

"""The base of all errors."""

from __future__ import annotations

from typing import ClassVar


class SgloraError(Exception):
    """Base of all errors raised by sglora-fed; ``str()`` starts with the code."""

    code: ClassVar[int] = 0
    title: ClassVar[str] = "unspecified"
    resolve: ClassVar[str] = (
        "Nothing raises this class itself; catch it to catch every error of sglora-fed."
    )

    def __str__(self) -> str:
        return f"[SGL-{self.code}] {self.args[0] if self.args else self.title}"

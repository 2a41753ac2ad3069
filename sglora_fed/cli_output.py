"""What the command line prints: as it is, and nothing that a terminal would obey."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

console = Console()


def say(line: str) -> None:
    """Print a line, neither wrapped nor read as markup, so that a path can be copied."""
    console.print(printable(line), soft_wrap=True, highlight=False, markup=False)


def complain(error: Exception) -> None:
    """Print an error in one line."""
    line = Text.assemble(("error", "bold red"), f" {printable(str(error))}")
    Console(stderr=True).print(line, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning in one line, where it is not taken for the result."""
    line = Text.assemble(("warning", "bold yellow"), f" {printable(text)}")
    Console(stderr=True).print(line, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """The text with control characters as their escapes: names in a file may be a stranger's."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return "\n" if letter == "\n" else letter.encode("unicode_escape", "surrogatepass").decode()

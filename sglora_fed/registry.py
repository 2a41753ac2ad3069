"""Things of one kind by name: ours, imported when they are used, and those that users register."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pkgutil import resolve_name
from typing import Any

from sglora_fed.errors import SgloraError

Factory = Callable[..., Any]


class Registry(Collection[str]):
    """Names of one kind, in the order in which they became known, and what makes each.

    Args:
        kind: what they are, for errors.
        error: raised for a name that is taken or unknown.
        ours: name -> ``module:attribute``. Who only asks for names imports none of them.
    """

    def __init__(self, kind: str, error: type[SgloraError], ours: Mapping[str, str]) -> None:
        self._kind = kind
        self._error = error
        self._factories: dict[str, str | Factory] = dict(ours)

    def add(self, name: str, factory: Factory) -> None:
        """Make a name known.

        Raises:
            SgloraError: of this registry's class when it is taken.
        """
        if name in self._factories:
            raise self._error(f"the name {name!r} is taken; there are {sorted(self)}")
        self._factories[name] = factory

    def get(self, name: str) -> Factory:
        """What makes the thing of this name.

        Raises:
            SgloraError: of this registry's class when there is none.
        """
        if name not in self._factories:
            raise self._error(f"unknown {self._kind} {name!r}; there are {sorted(self)}")
        found = self._factories[name]
        factory: Factory = resolve_name(found) if isinstance(found, str) else found
        return factory

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __len__(self) -> int:
        return len(self._factories)

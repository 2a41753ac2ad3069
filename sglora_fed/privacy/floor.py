"""What a node promises its clients, whatever the server asks: the weakest mechanism, the budget.

The party that asks for descriptions is the one that they are protected from, so its configuration
is a wish. The node's own ``[privacy]`` table is the limit: a wish may be stronger, never weaker::

    [privacy]
    mechanisms = ["krr", "subset"]   # those that a release may use
    epsilon = 4.0                    # largest of one release
    delta = 0.0                      # largest of one release; 0 where it is left out
    total_epsilon = 12.0             # of all releases of one client together
    total_delta = 0.0                # 0 where it is left out
    ledger = "ledger"                # folder, beside the file where it is not absolute
    catalogue = "list.json"          # the node's own copy of the public list, for krr and subset
    experts = true                   # its experts' descriptions too; false where it is left out
    training_epsilon = 8.0           # largest of one training example of an expert, ever
    training_delta = 1e-5            # of that; 1 / (10 n) of n examples where it is left out

``local`` sends nothing and is always allowed. ``none`` promises nothing: a node answers in clear,
or measures methods for the server, only where its table names it. Experts publish their wordings;
with ``experts`` their descriptions leave by ``krr`` alone, within the same numbers. Where
``training_epsilon`` stands, nothing that depends on their examples leaves but what noise in their
training covers, over all runs.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglora_fed.config.schema import MAX_EPSILON, MECHANISMS, PrivacyConfig
from sglora_fed.errors import FloorError, LedgerError, PromiseError
from sglora_fed.files import read_bounded
from sglora_fed.privacy.ledger import Budget, Ledger, create_ledger

TABLE = "privacy"
NUMBERS = (
    *("epsilon", "delta", "total_epsilon", "total_delta"),
    *("training_epsilon", "training_delta"),
)
PATHS = ("ledger", "catalogue")
NAMES = {"mechanisms", "experts", *PATHS, *NUMBERS}

NOTHING_SENT = "local"
"""The mechanism that releases nothing."""

CLEAR = "none"
"""The mechanism that protects nothing."""

PLACE = "krr"
"""The mechanism of an expert's description."""

SIMULATED = "shares"
"""The mechanism that needs two servers, of which a federation has one."""

LARGEST_FILE = 2**20
"""Bytes of a node's file."""

TRAINING_UNIT = "one training example of an expert, all that is ever made of it"
"""What the account of a node's training is about."""

BELOW_ONE = 1 - 2.0**-53
"""The largest delta of a budget."""


@dataclass(frozen=True)
class Floor:
    """The weakest promise of a node, and where it counts what it has spent.

    Attributes:
        mechanisms: names that a release may use.
        epsilon: largest of one release.
        delta: largest of one release.
        budget: of each client; None where nothing counted may be released.
        ledger: folder; None where nothing counted may be released.
        catalogue: file of the public list; None: the family's own, or the configured one.
        experts: its experts' descriptions are promised as much.
        training_epsilon: largest of a training example of an expert, over all that is ever made of
            it; None: nothing is promised to it.
        training_delta: of that; None: 1 / (10 n) of the expert's n examples.
        virtual: of simulated clients, for whom the run's configuration plays this table: the ledger
            is made when it is missing.

    Raises:
        FloorError: for parts that do not belong together, or impossible numbers.
    """

    mechanisms: tuple[str, ...] = ()
    epsilon: float = 0.0
    delta: float = 0.0
    budget: Budget | None = None
    ledger: Path | None = None
    catalogue: Path | None = None
    experts: bool = False
    training_epsilon: float | None = None
    training_delta: float | None = None
    virtual: bool = False

    def __post_init__(self) -> None:
        counted = [name for name in self.mechanisms if name not in (CLEAR, NOTHING_SENT)]
        if counted and not 0 < self.epsilon <= MAX_EPSILON:
            raise FloorError(f"epsilon={self.epsilon!r}; {counted[0]} needs 0 to {MAX_EPSILON:g}")
        if not 0 <= self.delta < 1:
            raise FloorError(f"delta={self.delta!r}; need 0 <= delta < 1")
        if counted and (self.budget is None or self.ledger is None):
            raise FloorError(f"{counted[0]} is counted; need total_epsilon and ledger")
        self._check_training()

    def _check_training(self) -> None:
        epsilon, delta = self.training_epsilon, self.training_delta
        if epsilon is None:
            if delta is not None:
                raise FloorError("training_delta stands alone; need training_epsilon")
            return
        if not 0 < epsilon < math.inf:
            raise FloorError(f"training_epsilon={epsilon!r}; need a finite number above 0")
        if delta is not None and not 0 < delta < 1:
            raise FloorError(f"training_delta={delta!r}; need 0 < training_delta < 1")
        if self.ledger is None:
            raise FloorError("training_epsilon is counted; need ledger")

    def check(self, mechanism: str, epsilon: float | None, delta: float | None) -> None:
        """Refuse a wish that is weaker than this promise, before anything is drawn or spent.

        Args:
            mechanism: name in the server's configuration.
            epsilon: of one release; None where it promises nothing.
            delta: of one release.

        Raises:
            PromiseError: for a mechanism that is not named here, or larger numbers.
        """
        if mechanism == NOTHING_SENT:
            return
        if mechanism not in self.mechanisms:
            allowed = ", ".join((*self.mechanisms, NOTHING_SENT))
            raise PromiseError(f"privacy.mechanism={mechanism}: this node allows {allowed}")
        if mechanism == CLEAR or self.virtual:
            return
        for name, asked, most in (
            ("epsilon", epsilon, self.epsilon),
            ("delta", delta, self.delta),
        ):
            if asked is None or not asked <= most:
                raise PromiseError(f"privacy.{name}={asked!r}: this node allows at most {most:g}")

    def check_experts(self, epsilon: float | None) -> None:
        """Refuse to tell what the node's experts are about for less than was promised.

        Args:
            epsilon: of one expert's place; None where the place or its words go as they are.

        Raises:
            PromiseError: for a larger epsilon, where the table does not name ``krr``, or for none
                where the experts are promised some.
        """
        if epsilon is not None:
            self.check(PLACE, epsilon, 0.0)
        elif self.experts and CLEAR not in self.mechanisms:
            raise PromiseError(
                "privacy.experts_epsilon=None: this node promises its experts some epsilon, too"
            )

    def check_measured(self) -> None:
        """Refuse to measure what a server made: how well each adapter does says what the task is.

        No mechanism covers that, so a node does so only where it would answer in clear.

        Raises:
            PromiseError: unless ``none`` is named, or the clients are simulated.
        """
        if not self.virtual and CLEAR not in self.mechanisms:
            raise PromiseError(f"measured results are in clear: this node does not allow {CLEAR}")

    def check_training(self, epsilon: float | None, delta: float | None, examples: int) -> None:
        """Refuse to train an expert for less than was promised to its examples.

        Args:
            epsilon: of one example, in all that the run asks for; None without noise.
            delta: of that.
            examples: n, of the expert.

        Raises:
            PromiseError: for larger numbers, or none where some are promised.
        """
        if (most := self.training_epsilon) is None:
            return
        if epsilon is None or delta is None:
            raise PromiseError("privacy.training.epsilon=None: this node's experts need noise")
        if not epsilon <= most:
            raise PromiseError(
                f"privacy.training.epsilon={epsilon!r}: this node allows at most {most:g}"
            )
        if not delta <= (limit := self.delta_of(examples)):
            raise PromiseError(f"privacy.training.delta={delta!r}: this node allows {limit:g}")

    def check_judged(self) -> None:
        """Refuse to tell how an expert's examples like an adapter: no noise covers that.

        Raises:
            PromiseError: where something is promised to these examples.
        """
        if self.training_epsilon is not None:
            raise PromiseError("this node's experts tell of their examples through noise alone")

    def delta_of(self, examples: int) -> float:
        """The delta at which the training of an expert with n examples is accounted for."""
        return self.training_delta or 1 / (10 * examples)

    def training_ledger(self) -> Ledger:
        """Where it is counted what the experts' training has cost.

        Raises:
            LedgerError: when it is missing, damaged or not this node's to use.
        """
        if self.ledger is None or self.training_epsilon is None:
            raise LedgerError("this node has no ledger of its experts' training")
        return Ledger(self.ledger, Budget(self.training_epsilon, unit=TRAINING_UNIT))

    def opened(self) -> Ledger:
        """The ledger that every counted release goes through.

        Raises:
            LedgerError: when it is missing, damaged or not this node's to use.
        """
        if self.ledger is None or self.budget is None:
            raise LedgerError("this node has no ledger")
        if self.virtual and not self.ledger.exists():
            create_ledger(self.ledger)
        return Ledger(self.ledger, self.budget)


UNTOLD = Floor()
"""Of a node whose owner has said nothing: it releases nothing."""


def read_floor(path: Path) -> Floor:
    """The promise in the ``[privacy]`` table of a node's file.

    Raises:
        FloorError: when the file cannot be read, or has no such table, or a wrong one.
    """
    try:
        values = tomllib.loads(read_bounded(path, LARGEST_FILE))
    except (OSError, ValueError, RecursionError) as error:
        raise FloorError(f"{path} cannot be read: {error}") from error
    if not isinstance(table := values.get(TABLE), dict):
        raise FloorError(f"{path} has no table [{TABLE}]")
    return floor_of(table, path.absolute().parent)


def floor_of(table: Mapping[str, Any], folder: Path) -> Floor:
    """The promise that a table states.

    Args:
        table: as above.
        folder: of the file, for a ledger that is named from there.

    Raises:
        FloorError: for unknown names, wrong types or impossible values.
    """
    if unknown := sorted(set(table) - NAMES):
        raise FloorError(f"[{TABLE}] has {unknown}; it may have {sorted(NAMES)}")
    numbers = {name: _number(table, name) for name in NUMBERS}
    paths = {name: _path(table, name, folder) for name in PATHS}
    return Floor(
        _mechanisms(table),
        numbers["epsilon"],
        numbers["delta"],
        _budget(numbers["total_epsilon"], numbers["total_delta"]),
        paths["ledger"],
        paths["catalogue"],
        _switch(table, "experts"),
        numbers["training_epsilon"] if "training_epsilon" in table else None,
        numbers["training_delta"] if "training_delta" in table else None,
    )


def _mechanisms(table: Mapping[str, Any]) -> tuple[str, ...]:
    names = table.get("mechanisms")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FloorError(f"[{TABLE}] mechanisms={names!r}; need a list of names")
    if unknown := [name for name in names if name not in MECHANISMS]:
        raise FloorError(f"[{TABLE}] mechanisms has {unknown}; need some of {sorted(MECHANISMS)}")
    if SIMULATED in names:
        raise FloorError(f"[{TABLE}] mechanisms has {SIMULATED}: here one server would see both")
    return tuple(names)


def _path(table: Mapping[str, Any], name: str, folder: Path) -> Path | None:
    value = table.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value:
        raise FloorError(f"[{TABLE}] {name}={value!r}; need the name of a file or folder")
    try:
        return folder / Path(value).expanduser()
    except RuntimeError as error:
        raise FloorError(f"[{TABLE}] {name}={value!r}: {error}") from error


def _switch(table: Mapping[str, Any], name: str) -> bool:
    value = table.get(name, False)
    if type(value) is not bool:
        raise FloorError(f"[{TABLE}] {name}={value!r}; need true or false")
    return value


def _number(table: Mapping[str, Any], name: str) -> float:
    value = table.get(name, 0.0)
    if type(value) not in (int, float):
        raise FloorError(f"[{TABLE}] {name}={value!r}; need a number")
    try:
        return float(value)
    except OverflowError as error:
        bits = value.bit_length()  # Python writes no more than some thousand digits
        raise FloorError(f"[{TABLE}] {name} is a number of {bits} bits; need fewer") from error


def _budget(epsilon: float, delta: float) -> Budget | None:
    if epsilon == 0 and delta == 0:
        return None
    try:
        return Budget(epsilon, delta)
    except LedgerError as error:
        raise FloorError(f"[{TABLE}] total_epsilon, total_delta: {error.args[0]}") from error


def virtual_floor(config: PrivacyConfig, releases: int, ledger: Path) -> Floor:
    """What the configuration of a simulation promises its virtual clients.

    Args:
        config: mechanism, epsilon and delta, those of experts, and the budget where it names one.
        releases: of each client in the run, one for each seed.
        ledger: folder, made when it is missing.
    """
    epsilon, delta = config.epsilon or MAX_EPSILON, config.delta or 0.0
    most = max(epsilon, config.experts_epsilon or 0.0)
    budget = Budget(config.budget or releases * most, min(releases * delta, BELOW_ONE))
    names = (config.mechanism, *([PLACE] if config.experts_epsilon else []))
    return Floor(names, most, delta, budget, ledger, virtual=True)

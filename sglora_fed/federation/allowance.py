"""What a node lets the training of its experts cost: over all runs, counted in its ledger.

What the server wishes is held against the node's own table before anything is trained: with all
that earlier runs have released of an expert, everything that this one asks for must fit. An answer
is counted once it is on the disk and before it is sent, so a crash in between costs nothing, and
none is sent uncounted. It is counted under the expert's id, at the node's own delta.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from sglora_fed.adapters.training import Trained
from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import BudgetError
from sglora_fed.privacy.floor import Floor
from sglora_fed.privacy.ledger import Note
from sglora_fed.promises import Noise, Promise, composed_epsilon, promised_delta
from sglora_fed.tasks.types import Task

ROUNDING = 1e-9
"""Of the limit: the same noise, worked out twice."""


@dataclass(frozen=True)
class Answer:
    """What is trained of one expert for one message.

    Attributes:
        expert: its id.
        plan: digest of the run, as far as the expert's training depends on it, and of its task.
        place: of this message among those of the run.
        promise: of all of them.
        steps: of this one.
        kept: it is on the disk.
    """

    expert: str
    plan: str
    place: str
    promise: Promise
    steps: int
    kept: bool


@dataclass(frozen=True)
class Row:
    """What the ledger keeps of an answer that was sent."""

    plan: str
    place: str
    noise: Noise


def check_wish(floor: Floor, config: RunConfig, tasks: Sequence[Task]) -> None:
    """Refuse to train experts for less than their node promises them.

    Raises:
        PromiseError: for a weaker promise, or none.
    """
    for task in tasks:
        count = len(task.train)
        floor.check_training(config.privacy.training.epsilon, promised_delta(config, count), count)


def within_allowance(
    floor: Floor, answers: Sequence[Answer], train: Callable[[], Trained]
) -> Trained:
    """Train if the node's experts can afford it, and count it.

    Args:
        floor: what the node promises them.
        answers: of one message, an expert's each.
        train: trains, and keeps what comes of it.

    Raises:
        BudgetError: when an expert's limit would be passed in this run, or an answer that was sent
            is no longer there; nothing was trained.
        LedgerError: when the ledger cannot be trusted or written; nothing is sent.
    """
    if floor.training_epsilon is None:
        return train()
    ledger = floor.training_ledger()
    for answer in answers:
        _check(floor, answer, ledger.notes(answer.expert))
    trained = train()
    notes = {_note(answer): answer for answer in answers}
    ledger.note_all(list(notes), lambda note, kept: _check(floor, notes[note], kept))
    return trained


def _check(floor: Floor, answer: Answer, kept: Sequence[bytes]) -> None:
    rows = [_row(data) for data in kept]
    own = [row for row in rows if row.plan == answer.plan]
    if any(row.place == answer.place for row in own):
        if not answer.kept:
            raise BudgetError("a round that was answered is asked for again; its answer is gone")
        return
    left = answer.promise.steps - sum(row.noise[2] for row in own)
    noises = [*(row.noise for row in rows), answer.promise.noise(left)]
    spent = composed_epsilon(noises, floor.delta_of(answer.promise.examples))
    if spent > (floor.training_epsilon or 0.0) * (1 + ROUNDING):
        raise BudgetError("this run would pass the limit of an expert's training examples")


def _note(answer: Answer) -> Note:
    row = Row(answer.plan, answer.place, answer.promise.noise(answer.steps))
    return Note(answer.expert, f"{answer.plan} {answer.place}", json.dumps(asdict(row)).encode())


def _row(data: bytes) -> Row:
    values = json.loads(data)
    sigma, rate, steps = values.pop("noise")
    return Row(**values, noise=(sigma, rate, steps))

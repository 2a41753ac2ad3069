"""Training on a node as the configuration's promise to its experts wants it.

One promise covers all that a node sends of an expert in a run: its enrolment, the rounds of the
shared LoRA and those of the generator. Nothing of it is trained twice: the same request again gets
the same bytes (:mod:`~sglora_fed.kept.released`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sglora_fed.adapters.data import Prepared, prepare_separable
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import within_bound
from sglora_fed.adapters.training import Trained
from sglora_fed.config.schema import EXAMPLE, RunConfig, TrainConfig
from sglora_fed.errors import AdapterValueError, BudgetError, PrivacyError
from sglora_fed.federation.allowance import Answer, check_wish, within_allowance
from sglora_fed.federation.node import PREPARED, Node
from sglora_fed.kept.facts import expert_facts, rounds_facts
from sglora_fed.kept.released import Release, is_kept, release_once
from sglora_fed.kept.store import digest
from sglora_fed.privacy.mechanisms.system import system_normals
from sglora_fed.promises import Promise, promise_for
from sglora_fed.tasks.digest import tasks_sha256
from sglora_fed.tasks.public import public_captions
from sglora_fed.tasks.types import Task

SHARED, ROUND = "train.shared", "train.round"

Plain = Callable[[Sequence[int]], Trained]
"""Trains the experts in some rows without noise."""


@dataclass(frozen=True)
class Lesson:
    """What some experts of a node train for.

    Attributes:
        exchange: its message kind.
        round: from 1 on; 0 for the enrolment.
        seed: of the run.
        train: steps, batch size and checkpoints.
        share: of the learning rate that this round takes.
    """

    exchange: str
    round: int
    seed: int
    train: TrainConfig
    share: float = 1.0


def trained_as_promised(
    node: Node, tasks: Sequence[Task], starts: np.ndarray, lesson: Lesson, plain: Plain
) -> Trained:
    """Train some of a node's experts, with the noise that the configuration promises them.

    Args:
        node: theirs.
        tasks: n experts.
        starts: [n, D] or [1, D].
        lesson: what for.
        plain: trains without noise.

    Raises:
        PromiseError: when the node promises its experts more; nothing was trained.
        AdapterValueError: when training of single examples, or without noise, diverges.
        BudgetError: when a round that was answered is asked for again from another start, there is
            no such round, or all that the run asks for passes what the node allows.
        LedgerError: when the node counts this and its ledger cannot be used.
        TaskError: for captions that are not public.
    """
    check_wish(node.floor, node.config, tasks)
    starts = np.broadcast_to(starts, (len(tasks), node.layout.size)).astype(np.float32)
    if node.config.privacy.training.epsilon is None:
        return plain(range(len(tasks)))
    check_planned(node.config, lesson)

    def make(rows: Sequence[int]) -> Trained:
        some = [tasks[row] for row in rows]
        if node.config.privacy.training.unit == EXAMPLE:
            sigmas = [_promise(node.config, task).sigma for task in some]
            return train_with_noise(node, some, starts[list(rows)], sigmas, lesson)
        own = starts[list(rows)]
        return _noisy(node, some, own, _final(plain, rows, own))

    releases, answers = _asked_for(node, tasks, starts, lesson)
    trained = within_allowance(node.floor, answers, lambda: release_once(releases, make))
    return _scaled_back(trained, node.layout)


def _asked_for(
    node: Node, tasks: Sequence[Task], starts: np.ndarray, lesson: Lesson
) -> tuple[list[Release], list[Answer]]:
    """What is released of each expert, and what that is counted as."""
    facts = {
        "experts": expert_facts(node.config),
        "rounds": rounds_facts(node.config),
        "seed": lesson.seed,
    }
    plans = [facts | {"task": tasks_sha256([task])} for task in tasks]
    place = {"place": [lesson.exchange, lesson.round]}
    releases = [Release(plan | place, start) for plan, start in zip(plans, starts, strict=True)]
    answers = [
        _answer(node.config, lesson, task, digest(plan), is_kept(release))
        for task, plan, release in zip(tasks, plans, releases, strict=True)
    ]
    return releases, answers


def _scaled_back(trained: Trained, layout: Layout) -> Trained:
    """Within the norms that a server takes; noise may lead beyond them. It costs no epsilon."""
    deviation, variance = np.sqrt(trained.variance), trained.variance
    if (bounded := within_bound(deviation, layout)) is not deviation:
        variance = bounded**2
    final, mean = (within_bound(one, layout) for one in (trained.final, trained.mean))
    return Trained(final, mean, variance)


def _answer(config: RunConfig, lesson: Lesson, task: Task, plan: str, kept: bool) -> Answer:
    steps = lesson.train.steps if config.privacy.training.unit == EXAMPLE else 1
    place = f"{lesson.exchange} {lesson.round}"
    return Answer(task.id, plan, place, _promise(config, task), steps, kept)


def check_planned(config: RunConfig, lesson: Lesson) -> None:
    """Refuse a round beyond those that the promise covers, whoever asks for it.

    Raises:
        BudgetError: for such a round.
    """
    federation = config.federation
    most = {SHARED: federation.shared_rounds, ROUND: federation.generator_rounds}
    if lesson.round > most.get(lesson.exchange, 0):
        raise BudgetError("a round beyond those that the experts' promise covers")


def train_with_noise(
    node: Node, tasks: Sequence[Task], starts: np.ndarray, sigmas: Sequence[float], lesson: Lesson
) -> Trained:
    """DP-SGD with given noise multipliers; who calls it answers for what they promise."""
    from sglora_fed.adapters.private import PrivateTraining, train_privately

    privacy = node.config.privacy.training
    train = replace(lesson.train, lr=lesson.share * privacy.lr)
    training = PrivateTraining(node.encoder, node.layout, train, privacy)
    return train_privately(training, starts, [separable(node, task) for task in tasks], sigmas)


def separable(node: Node, task: Task) -> Prepared:
    """An expert's training examples for DP-SGD, prepared once per process."""
    if (kept := PREPARED.get((node, task.id, "separable"))) is not None:
        return kept
    captions = public_captions(node.config.family) if task.kind == "retrieval" else ()
    hints = node.config.adapter.hints
    made = prepare_separable(node.encoder, task, task.train, hints, captions)
    PREPARED.add((node, task.id, "separable"), made)
    return made


def _promise(config: RunConfig, task: Task) -> Promise:
    promise = promise_for(config, len(task.train))
    if promise is None:
        raise PrivacyError("noise without a promise")
    return promise


def _final(plain: Plain, rows: Sequence[int], starts: np.ndarray) -> np.ndarray:
    """[n, D] what came of the experts in some rows; NaN for whose training diverges.

    That it does depends on examples, and a refusal would tell of them without noise.
    """
    try:
        return plain(rows).final
    except AdapterValueError:
        if len(rows) == 1:
            return np.full_like(starts, np.nan)
        each = [_final(plain, [row], starts[[i]]) for i, row in enumerate(rows)]
        return np.concatenate(each)


def _noisy(node: Node, tasks: Sequence[Task], starts: np.ndarray, final: np.ndarray) -> Trained:
    """Each update clipped, with Gaussian noise of the operating system on all its numbers."""
    made = np.empty_like(final)
    for row, task in enumerate(tasks):
        promise = _promise(node.config, task)
        update = clipped_update(final[row].astype(np.float64) - starts[row], promise.clip)
        noise = promise.sigma * promise.clip * system_normals(update.size)
        made[row] = starts[row] + update + noise
    return Trained(made, made, np.zeros_like(made))


def clipped_update(update: np.ndarray, clip: float) -> np.ndarray:
    """[D] scaled down to the norm; what is not finite says nothing."""
    if not np.isfinite(update).all():
        return np.zeros_like(update)
    return np.asarray(update * min(1.0, clip / max(float(np.linalg.norm(update)), 1e-300)))

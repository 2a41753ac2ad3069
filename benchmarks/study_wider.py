"""The study with more room and more words: two layers, and words said in several ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from study_methods import (
    EXPERT,
    ROUNDS,
    best_thresholds,
    for_everybody,
    functional,
    locally,
    shared_lora,
)

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.tasks.phrases import phrases
from sglora_fed.tasks.rules import Rule, rule_wordings
from sglora_fed.tasks.topics import TopicLike
from sglora_fed.tasks.types import Hint
from sglora_fed.tasks.wording import as_noun

if TYPE_CHECKING:
    from study import Study


def wider(study: Study) -> Iterator[tuple[str, list[float]]]:
    """Two layers instead of one, and words said in several ways."""
    for layers, several_ways in (((5,), True), ((4, 5), False), ((4, 5), True)):
        adapter = replace(study.adapter, layers=layers)
        other = replace(study, adapter=adapter, several_ways=several_ways)
        said = "several ways" if several_ways else "one way"
        of = f"{len(layers)} layer{'s' * (len(layers) > 1)}, {said}"
        if several_ways and len(layers) == 1:
            yield f"described, {said}", other.accuracy(None, "phrases")
        vectors = shared_lora(other, ROUNDS)
        yield f"shared_lora, {of}", other.accuracy(for_everybody(other, vectors[-1]))
        first = vectors[other.shared_rounds - 1]
        linear = functional(other, GeneratorConfig(), zoo=study.zoo, first=first)
        yield f"functional, {of}", other.accuracy(linear.adapters(other.requests))
        yield f"functional, {of}, best threshold", best_thresholds(other, linear)
        if not several_ways:
            oracle = locally(other, [task.train for task in other.clients], EXPERT)
            yield f"oracle, {of}", other.accuracy(oracle)


def told_in_several_ways(
    rule: Rule, words: Sequence[str], rng: np.random.Generator, unseen: bool = False
) -> tuple[tuple[str, ...], tuple[Hint, ...]]:
    """A rule's sentences, and for each label every name of every topic that it means."""
    sentences, _ = rule_wordings(rule, words, rng, unseen)
    rest = "everything else"
    first = every_name(rule.first)
    if rule.form == "exception":
        return sentences, (first, (as_noun(rule.first[0].intents[rule.excluded].name), rest))
    if rule.form == "priority":
        return sentences, (first, every_name(rule.second), rest)
    return sentences, (first, rest)


def every_name(topics: Sequence[TopicLike]) -> tuple[str, ...]:
    names = [name for topic in topics for name in topic.names]
    return tuple(dict.fromkeys(thing for name in names for thing in phrases(name)))

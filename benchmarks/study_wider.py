"""The study with more room and more words: two layers, and words said in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from study_methods import (
    ROUNDS,
    best_thresholds,
    for_everybody,
    functional,
    oracle,
    shared_lora,
)

from sglora_fed.config.schema import GeneratorConfig

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
            yield f"oracle, {of}", oracle(other)


def oracle_in_several_ways(study: Study) -> Iterator[tuple[str, list[float]]]:
    """What fine-tuning gains from the words in several ways."""
    yield "oracle, words in several ways", oracle(replace(study, several_ways=True))

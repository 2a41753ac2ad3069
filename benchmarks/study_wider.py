"""The study with more room, more words and more spellings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sglora_fed.config.schema import GeneratorConfig
from study_methods import (
    ROUNDS,
    best_thresholds,
    for_everybody,
    functional,
    oracle,
    shared_lora,
)

if TYPE_CHECKING:
    from study import Study

RESPELT = 0.5
"""Share of the experts."""


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


def made_up_spellings(study: Study) -> Iterator[tuple[str, list[float]]]:
    """Half of the experts train in a made-up spelling in each round."""
    other = replace(study, respelt=RESPELT)
    vectors = shared_lora(other, ROUNDS)
    yield "shared_lora, respelt", study.accuracy(for_everybody(study, vectors[-1]))
    first = vectors[study.shared_rounds - 1]
    linear = functional(other, GeneratorConfig(), zoo=study.wordings, first=first)
    yield "functional, respelt", study.accuracy(linear.adapters(study.requests))

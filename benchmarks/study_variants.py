"""The study's controls, poison, the open questions of SG-LoRA, and one change at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch

from sglora_fed.adapters import candidates, data
from sglora_fed.adapters.candidates import candidate_texts
from sglora_fed.adapters.data import Prepared
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.ranks import narrowed, widened
from sglora_fed.backbones import load_backbone
from sglora_fed.config.schema import AdapterConfig, GeneratorConfig, TrainConfig
from sglora_fed.generators.confidence import STRANGERS, features, fit_confidence, trial
from sglora_fed.generators.functional import Factors, Functional, LinearGenerator, smoothed
from sglora_fed.generators.sglora import SemanticVae, SgLora
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo, trusted
from study_methods import (
    EXPERT,
    ROUNDS,
    fitted,
    for_everybody,
    functional,
    own_training,
    pooled_data,
    shared_lora,
    trained,
)
from study_wider import made_up_spellings, oracle_in_several_ways, wider

if TYPE_CHECKING:
    from study import Study

JUNK = "please remember to water the plants on the balcony"
CHECKED = 128
LOW_RANK = 2
COPIES = 8
LONGER = 30
CURVE = (16, 32, 48)
"""Numbers of experts beside all of them."""


def controls(study: Study, linear: LinearGenerator, found: dict[str, Any]) -> None:
    """Descriptions that say nothing, somebody else's, or the same in other words."""
    requests = study.requests
    same = {"junk": study.embed([JUNK]), "mean": requests.mean(axis=0, keepdims=True)}
    measured = {
        name: study.accuracy(linear.adapters(np.broadcast_to(row, requests.shape)))
        for name, row in same.items()
    }
    measured["shuffled"] = study.accuracy(linear.adapters(np.roll(requests, 1, axis=0)))
    if study.kind == "rules":
        texts = [study.reworded[task.id] for task in study.clients]
        measured["other_author"] = study.accuracy(linear.adapters(study.embed(texts)))
    seen = [task.description for task in study.clients]
    measured["other_paraphrase"] = study.accuracy(linear.adapters(study.embed(seen)))
    found["controls"] = measured


def confidence(
    study: Study, factors: Factors, first: np.ndarray, shared: np.ndarray
) -> list[float]:
    """[clients + 1] probability that the generated adapter beats the shared LoRA; junk last."""
    config = GeneratorConfig()
    generator = restored(config, factors, study.zoo)

    def retrain(zoo: Zoo) -> Functional:
        parts = [study.parts[study.zoo.ids.index(name)] for name in zoo.ids]
        return restored(config, *trained(study, config, zoo=zoo, parts=parts, first=first))

    tried = trial(generator, config, study.zoo, study.embed(STRANGERS), retrain, study.seed)
    rng = np.random.default_rng(study.seed)
    judges = [study.parts[row] for row in tried.rows]
    parts = [some(part, rng.permutation(len(part))[:CHECKED]) for part in judges]
    floor = correct(study, parts, np.broadcast_to(shared, (len(parts), study.layout.size)))
    gains = [correct(study, parts, kind.adapters[:, 0]) - floor for kind in tried.made]
    inputs = np.stack([features(kind, shared) for kind in tried.made], axis=1)
    outcomes = (1 + np.sign(np.stack(gains, axis=1))) / 2
    who = np.repeat(tried.rows, outcomes.shape[1])
    fit = fit_confidence(inputs.reshape(-1, inputs.shape[2]), outcomes.ravel(), who)
    requests = np.vstack([study.requests, study.embed([JUNK])])
    chances = fit.of(generator.generate(requests, 1, 0), shared)
    return [round(float(chance), 4) for chance in chances]


def restored(config: GeneratorConfig, factors: Factors, zoo: Zoo) -> Functional:
    """The generator of some coordinates."""
    generator = Functional(config)
    linear = smoothed(factors, zoo, config.smoothing)
    generator.restore({"embeddings": zoo.embeddings, **vars(linear)})
    return generator


def some(part: Prepared, rows: np.ndarray) -> Prepared:
    return replace(part, items=[part.items[i] for i in rows], targets=part.targets[rows])


def correct(study: Study, parts: Sequence[Prepared], vectors: np.ndarray) -> np.ndarray:
    scores = score_tasks(study.encoder, parts, study.layout, vectors)
    pairs = zip(scores, parts, strict=True)
    return np.array([float((s.argmax(1).numpy() == p.targets).mean()) for s, p in pairs])


def transfer(study: Study, linear: LinearGenerator, other: Study) -> dict[str, Any]:
    """Rules over another catalogue: the adapters of this study's generator for its clients."""
    return {
        "splits": [task.split for task in other.clients],
        "zero_shot": other.accuracy(None, "none"),
        "described": other.accuracy(None, "phrases"),
        "functional": other.accuracy(linear.adapters(other.requests)),
    }


def generator_variants(study: Study) -> Iterator[tuple[str, list[float]]]:
    """One change of the functional generator at a time, and fewer experts."""
    base = GeneratorConfig()
    vectors = shared_lora(study, study.shared_rounds)
    first, half = vectors[-1], ROUNDS // 2
    plain = shared_lora(study, study.shared_rounds, momentum=0.0)[-1]
    changes: dict[str, dict[str, Any]] = {
        "smoothing 0.1": {"config": replace(base, smoothing=0.1), "first": first},
        "smoothing 1": {"config": replace(base, smoothing=1.0), "first": first},
        "cold start, 20 rounds": {"first": study.start, "numbers": range(1, ROUNDS + 1)},
        f"{half} rounds of FedAvg first, {half} more": {
            "first": vectors[half - 1],
            "numbers": range(half + 1, ROUNDS + 1),
        },
        "FedAvg without momentum first": {"first": plain},
        "every direction kept": {"first": first, "cut": lambda factors, *_: factors},
        "the strongest 12 directions": {"first": first, "cut": strongest},
    }
    for name, change in changes.items():
        linear = functional(study, **({"config": base} | change))
        yield name, study.accuracy(linear.adapters(study.requests))
    yield "descriptions without phrases", without_phrases(study, first)
    for name, texts in OTHER_TEXTS.items():
        yield name, with_other_texts(study, texts)
    for count in CURVE:
        few = {"zoo": study.zoo.select(np.arange(count)), "parts": study.parts[:count]}
        linear = functional(study, base, **few)
        yield f"functional, {count} experts", study.accuracy(linear.adapters(study.requests))
        for name in ("topk", "ridge", "sglora"):
            yield f"{name}, {count} experts", of_zoo(study, name, few["zoo"])


def strongest(factors: Factors, *_: Any) -> Factors:
    """A fixed number of directions, whatever the descriptions say about them."""
    return Factors(factors.offset, factors.scores[:, :12], factors.basis[:12])


def without_phrases(study: Study, first: np.ndarray) -> list[float]:
    """The embeddings of the sentences alone."""
    bare = load_backbone(study.backbone, AdapterConfig())

    def sentences(texts: Sequence[str]) -> np.ndarray:
        with torch.no_grad():
            rows: np.ndarray = bare.encode_texts(bare.prepare_texts(texts), 1).cpu().numpy()
        return rows

    texts = [(t.description, *t.paraphrases)[: study.zoo.wordings.shape[1]] for t in study.experts]
    rows = sentences([text for some in texts for text in some])
    zoo = replace(study.zoo, wordings=rows.reshape(study.zoo.wordings.shape))
    linear = functional(study, GeneratorConfig(), zoo=zoo, first=first)
    requests = sentences([study.spoken(task) for task in study.clients])
    return study.accuracy(linear.adapters(requests))


def with_other_texts(
    study: Study, texts: Callable[..., tuple[list[str], np.ndarray]]
) -> list[float]:
    """Other candidate texts, in training and in use."""
    other = replace(study)
    with mock.patch.object(data, "candidate_texts", texts):
        linear = functional(other, GeneratorConfig(), zoo=study.zoo)
        return other.accuracy(linear.adapters(other.requests))


def one_text(encoder: Any, task: Task, _hints: str) -> tuple[list[str], np.ndarray]:
    """Label and words in one text."""
    return candidate_texts(encoder, task, "whole")


def labels_before(encoder: Any, task: Task, hints: str) -> tuple[list[str], np.ndarray]:
    """The private label word before each text."""
    texts, owners = candidate_texts(encoder, task, hints)
    labels = list(task.labels.values())
    return [f"{labels[i]}: {text}" for i, text in zip(owners, texts, strict=True)], owners


def without_topics(encoder: Any, task: Task, hints: str) -> tuple[list[str], np.ndarray]:
    """Nothing beside "everything else"."""
    with mock.patch.object(candidates, "unnamed_topics", return_value=()):
        return candidate_texts(encoder, task, hints)


OTHER_TEXTS = {
    "one candidate text for a label": one_text,
    "the label before each of its texts": labels_before,
    "everything else without everyday topics": without_topics,
}


def of_zoo(study: Study, name: str, zoo: Zoo, config: GeneratorConfig | None = None) -> list[float]:
    generator = fitted(study, config or GeneratorConfig(), name, zoo)
    return study.accuracy(generator.generate(study.requests, 1, 0).adapters[:, 0])


def robustness(study: Study) -> Iterator[tuple[str, list[float]]]:
    """Poisoned, copied and narrow experts."""
    base = GeneratorConfig()
    for count in (1, 6):
        rows = np.random.default_rng(study.seed).permutation(len(study.experts))[:count]
        poisoned = flipped_zoo(study, rows)
        kept = np.flatnonzero(
            trusted(poisoned.embeddings, poisoned.means, study.layout, poisoned.owners)
        )
        print(f"{count} flipped: screened out {len(study.experts) - len(kept)}", flush=True)
        for name in ("topk", "ridge"):
            yield f"{name}, {count} flipped, all used", of_zoo(study, name, poisoned)
            yield f"{name}, {count} flipped, screened", of_zoo(study, name, poisoned.select(kept))
        for used, words in ((np.arange(len(study.experts)), "all used"), (kept, "screened")):
            linear = functional(
                study,
                base,
                zoo=poisoned.select(used),
                parts=[study.parts[i] for i in used],
                spoil=flipped_updates(np.flatnonzero(np.isin(used, rows))),
                screen=words == "screened",
            )
            values = study.accuracy(linear.adapters(study.requests))
            yield f"functional, {count} flipped, {words}", values
    copied, parts = with_copies(study)
    for name in ("topk", "ridge"):
        yield f"{name}, one expert {COPIES} times more", of_zoo(study, name, copied)
    linear = functional(study, base, zoo=copied, parts=parts)
    values = study.accuracy(linear.adapters(study.requests))
    yield f"functional, one expert {COPIES} times more", values
    mixed = mixed_ranks(study)
    for name in ("topk", "ridge"):
        yield f"{name}, half of rank {LOW_RANK}", of_zoo(study, name, mixed)
    linear = functional(study, base, zoo=mixed, local=narrow_half)
    yield f"functional, half of rank {LOW_RANK}", study.accuracy(linear.adapters(study.requests))


def flipped_zoo(study: Study, rows: np.ndarray) -> Zoo:
    """Some experts with the opposite effect: B is negated."""
    means = study.zoo.means.copy()
    for _, b in study.layout.unpack(torch.from_numpy(means)).values():
        b[torch.from_numpy(rows)] *= -1
    return replace(study.zoo, means=means)


def flipped_updates(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Some experts return the opposite of what they learnt."""

    def spoil(updates: np.ndarray) -> np.ndarray:
        signs = np.ones((len(updates), 1), updates.dtype)
        signs[rows] = -1
        return updates * signs

    return spoil


def with_copies(study: Study) -> tuple[Zoo, list[Prepared]]:
    """The first expert again and again, under other names."""
    rows = np.concatenate([np.arange(len(study.experts)), np.zeros(COPIES, np.int64)])
    zoo = study.zoo
    names = (*zoo.ids, *(f"copy-{number}" for number in range(COPIES)))
    arrays = (zoo.wordings, zoo.means, zoo.variances, zoo.examples)
    return Zoo(names, *(array[rows] for array in arrays)), [study.parts[i] for i in rows]


def mixed_ranks(study: Study) -> Zoo:
    """Every other expert trained at a lower rank, in the federation's layout."""
    half = np.arange(0, len(study.experts), 2)
    narrow, start = narrowed(study.layout, study.start[None], LOW_RANK)
    parts = [study.parts[i] for i in half]
    made = study.train(start[0], parts, EXPERT, "expert", layout=narrow).mean
    means = study.zoo.means.copy()
    means[half] = widened(narrow, made, study.layout, study.start)
    return replace(study.zoo, means=means)


def narrow_half(
    study: Study, starts: np.ndarray, parts: Sequence[Prepared], config: TrainConfig, number: int
) -> np.ndarray:
    """Every other expert trains the first rows and columns alone."""
    moved = own_training(study, starts, parts, config, number)
    half = np.arange(0, len(parts), 2)
    narrow, small = narrowed(study.layout, starts[half], LOW_RANK)
    chosen = [parts[i] for i in half]
    ends = study.train(small, chosen, config, "round", number, layout=narrow).final
    before, after = (widened(narrow, v, study.layout, study.start) for v in (small, ends))
    moved[half] = after - before
    return moved


def open_questions(study: Study) -> Iterator[tuple[str, list[float]]]:
    """What the paper leaves open, by accuracy: one setting at a time."""
    base = GeneratorConfig()
    settings: dict[str, Sequence[Any]] = {
        "kl_weight": (0.01, 0.1, 10.0),
        "neighbours": (1, 2, 8, 16, 64),
        "temperature": (0.01, 0.2, 1.0),
        "latent": (4, 64),
        "steps": (200, 2000),
        "leave_own_out": (True,),
    }
    yield "sglora", of_zoo(study, "sglora", study.zoo)
    for option, values in settings.items():
        for value in values:
            config = replace(base, **{option: value})
            yield f"sglora, {option}={value}", of_zoo(study, "sglora", study.zoo, config)
            if option in ("neighbours", "temperature"):
                yield f"topk, {option}={value}", of_zoo(study, "topk", study.zoo, config)
    for last in (1, 5, 100):
        yield f"sglora, M={last}", of_zoo(study, "sglora", other_checkpoints(study, last))
    generator = fitted(study, base, "sglora")
    mean = generator.generate(study.requests, 16, 0).adapters.mean(axis=1)
    yield "sglora, mean of 16 samples", study.accuracy(mean)
    twin = Twin(base)
    twin.fit(study.zoo, 0)
    yield "deterministic twin", study.accuracy(twin.generate(study.requests, 1, 0).adapters[:, 0])
    for penalty in (0.1, 0.5, 2.0):
        config = replace(base, ridge=penalty)
        yield f"ridge, penalty={penalty}", of_zoo(study, "ridge", study.zoo, config)


def other_checkpoints(study: Study, last: int) -> Zoo:
    """The zoo with the statistics of another number of checkpoints."""
    config = replace(EXPERT, checkpoints=last)
    trained_again = study.train(study.start, study.parts, config, "expert")
    return replace(study.zoo, means=trained_again.mean, variances=trained_again.variance)


class TwinVae(SemanticVae):
    """The decoder alone: from the condition to the adapter, without z."""

    def loss(
        self, x: torch.Tensor, condition: torch.Tensor, noise: torch.Tensor, kl_weight: float
    ) -> torch.Tensor:
        rebuilt = self.sample(condition, noise)
        return torch.mean(((rebuilt - x) ** 2).sum(dim=1))

    def sample(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.decoder(torch.cat([0 * noise, condition], 1)))


class Twin(SgLora):
    """The paper's generator without its randomness: the control that reviewers asked for."""

    name = "twin"

    def _new_vae(self) -> SemanticVae:
        width = self._state["coordinates"].shape[1]
        return TwinVae(width, self._config.hidden, self._config.latent)


def longer(study: Study) -> Iterator[tuple[str, list[float]]]:
    """More rounds, and FedAvg as it was published."""
    vectors = shared_lora(study, LONGER)
    more = LONGER - ROUNDS
    numbers = range(ROUNDS + 1, LONGER + 1)
    linear = functional(study, GeneratorConfig(), first=vectors[ROUNDS - 1], numbers=numbers)
    values = study.accuracy(linear.adapters(study.requests))
    yield f"{ROUNDS} rounds of FedAvg first, {more} more", values
    yield f"shared_lora, {LONGER} rounds", study.accuracy(for_everybody(study, vectors[-1]))
    plain = shared_lora(study, ROUNDS, momentum=0.0)[-1]
    yield "shared_lora, without momentum", study.accuracy(for_everybody(study, plain))


PARTS: dict[str, Callable[[Study], Iterator[tuple[str, list[float]]]]] = {
    "generator": generator_variants,
    "robustness": robustness,
    "questions": open_questions,
    "longer": longer,
    "wider": wider,
    "oracle": oracle_in_several_ways,
    "central": pooled_data,
    "respelt": made_up_spellings,
}
"""Names of changes and the accuracies with them, one after the other."""

PLACES = {"wider": "wider", "central": "methods", "respelt": "respelt"}
"""Part -> where its rows stand in the results, when not among the variants."""

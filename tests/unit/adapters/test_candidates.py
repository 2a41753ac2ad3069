"""Candidate texts and the scores of labels, against sums written out over a PEFT model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.candidates import UNNAMED, candidate_texts
from sglora_fed.adapters.data import prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.training import task_losses
from sglora_fed.backbones import load_backbone
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.tasks.everyday import EVERYDAY_TOPICS
from sglora_fed.tasks.types import Task

HINTS = {"k0": "w1, w2 w3 and w4", "k2": "w5"}


@pytest.fixture
def tasks(make_task: Callable[..., Task]) -> list[Task]:
    """Two with as many texts and labels, but not for the same label; one of another number."""
    first, second, third = (make_task(seed, 12, 3) for seed in range(3))
    return [
        replace(first, hints=HINTS),
        replace(second, hints={"k1": "w7 or w8. w9"}),
        replace(third, hints={"k0": "w1"}),
    ]


def test_texts_for_each_way_to_say_a_hint(encoder: MiniLM, tasks: list[Task]) -> None:
    labels = list(tasks[0].labels.values())
    texts, owners = candidate_texts(encoder, tasks[0], "none")
    assert (texts, owners.tolist()) == (labels, [0, 1, 2])
    texts, owners = candidate_texts(encoder, tasks[0], "whole")
    assert texts == [f"{labels[0]}: w1, w2 w3 and w4", labels[1], f"{labels[2]}: w5"]
    assert owners.tolist() == [0, 1, 2]
    texts, owners = candidate_texts(encoder, tasks[0], "phrases")
    assert texts == ["w1", "w2 w3", "w4", labels[1], "w5"]
    assert owners.tolist() == [0, 0, 0, 1, 2]


def test_a_list_of_things_is_taken_as_it_is(encoder: MiniLM, tasks: list[Task]) -> None:
    first, second, third = tasks[0].labels.values()
    # The second label's words begin like the label, the third's say the label itself.
    hints = {"k0": ("w1 and w2", "w3"), "k1": (f"{second}s, w6",), "k2": (f"{third}: w7",)}
    task = replace(tasks[0], hints=hints)
    said = ["w1 and w2", "w3", f"{second}s, w6", f"{third}: w7"]
    assert candidate_texts(encoder, task, "phrases")[0] == said
    whole = [f"{first}: w1 and w2 as well as w3", f"{second}: {second}s, w6", f"{third}: w7"]
    assert candidate_texts(encoder, task, "whole")[0] == whole
    # Said plainly and as this client spells it: the label does not stand before itself.
    spelt = {"k0": (first, "l0 1n l33t"), "k1": "w1", "k2": "w2"}
    whole = [f"{first} and l0 1n l33t", f"{second}: w1", f"{third}: w2"]
    assert candidate_texts(encoder, replace(task, hints=spelt), "whole")[0] == whole


REST = {"k0": "w1, w2", "k1": ("w3",), "k2": "w4 and Everything else"}


def test_everything_else_stands_beside_what_nobody_named(tasks: list[Task]) -> None:
    """Against the sentence embeddings of another MiniLM, which no adapter reaches."""
    words = {
        "k0": "holidays, my bank account",
        "k1": ("pets",),
        "k2": "the doctor and Anything else",
    }
    encoder = load_backbone(BackboneConfig(), AdapterConfig())
    texts, owners = candidate_texts(encoder, replace(tasks[0], hints=words), "phrases")
    named = ["holidays", "my bank account", "pets", "the doctor"]
    assert texts[:5] == [*named, "Anything else"]
    assert owners.tolist() == [0, 0, 1, 2, *[2] * (1 + UNNAMED)]
    bare = load_backbone(BackboneConfig(), AdapterConfig())
    rows = bare.encode_texts(bare.prepare_texts([*EVERYDAY_TOPICS, *named]), 1).detach().numpy()
    nearest = (rows[:-4] @ rows[-4:].T).max(axis=1)
    wanted = {EVERYDAY_TOPICS[i] for i in np.argsort(nearest)[:UNNAMED]}
    assert texts[5:] == [topic for topic in EVERYDAY_TOPICS if topic in wanted]
    assert wanted.isdisjoint({"finance", "leisure"})


def test_only_everything_else_brings_topics(encoder: MiniLM, tasks: list[Task]) -> None:
    for words in ("w4 and everything", "everything else there is", "rest"):
        task = replace(tasks[0], hints=REST | {"k2": words})
        assert not set(candidate_texts(encoder, task, "phrases")[0]) & set(EVERYDAY_TOPICS)
    for words in ("Everything else.", " anything  else!", ("the rest",)):
        task = replace(tasks[0], hints=REST | {"k2": words})
        assert len(candidate_texts(encoder, task, "phrases")[0]) == 4 + UNNAMED
    for hints in ("none", "whole"):
        texts, _ = candidate_texts(encoder, replace(tasks[0], hints=REST), hints)
        assert len(texts) == 3


def test_two_labels_that_mean_the_rest_get_no_topics(encoder: MiniLM, tasks: list[Task]) -> None:
    """They would get the same, and be alike; and with nothing named, any topic may be meant."""
    two = replace(tasks[0], hints=REST | {"k1": "w3 and anything else"})
    assert len(candidate_texts(encoder, two, "phrases")[0]) == 6
    words = {"k0": "the rest", "k1": "all else", "k2": "everything else"}
    nothing = candidate_texts(encoder, replace(tasks[0], hints=words), "phrases")[0]
    assert nothing == list(words.values())


def test_a_label_scores_the_log_of_its_texts_mean_exponential(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray, reference: Any, tasks: list[Task]
) -> None:
    parts = [prepare(encoder, task, task.train, "phrases") for task in tasks]
    chosen = vectors[: len(parts)]
    scores = score_tasks(encoder, parts, layout, chosen)
    rows = [np.arange(len(part)) for part in parts]
    leaf = torch.from_numpy(chosen.copy()).requires_grad_()
    with adapted(encoder.model, layout, leaf[:2]):
        losses = task_losses(encoder, parts[:2], rows[:2])
    losses.sum().backward()
    for number, task in enumerate(tasks):
        reference.load(chosen[number])
        texts, owners = candidate_texts(encoder, task, "phrases")
        plain = reference.scores([e.item for e in task.train], texts)
        wanted = torch.stack(
            [plain[:, owners == label].exp().mean(dim=1).log() for label in range(3)], dim=1
        )
        torch.testing.assert_close(scores[number], wanted.detach(), atol=1e-4, rtol=1e-4)
        if number < 2:
            right = torch.from_numpy(parts[number].targets)
            loss = torch.nn.functional.cross_entropy(wanted, right)
            torch.testing.assert_close(losses[number].detach(), loss.detach(), atol=1e-4, rtol=1e-4)
            for parameter in reference.parameters():
                parameter.grad = None
            loss.backward()
            gradient = reference.flat(gradients=True)
            assert leaf.grad is not None
            np.testing.assert_allclose(leaf.grad[number].numpy(), gradient, atol=1e-4)

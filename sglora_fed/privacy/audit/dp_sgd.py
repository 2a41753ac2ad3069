"""The audit of experts' DP-SGD: one run of the training itself, on canaries in place of examples.

A canary's gradient is a direction that hardly any other has: item i of a small linear model,
taught to say class j. Each is longer than the clipping norm, so it counts as much as an example
can. A coin decides which canaries are among the examples; the trained adapter then tells which
were.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sglora_fed.adapters.data import Prepared
from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.adapters.private import PrivateTraining, train_privately
from sglora_fed.config.schema import TrainConfig, TrainingPrivacyConfig
from sglora_fed.privacy.audit.canaries import canary_bound
from sglora_fed.privacy.audit.many import Verdict
from sglora_fed.promises import example_promise
from sglora_fed.tasks.types import Modality

WIDTH = 40
"""Items, and classes: their square is the number of canaries."""

SCALE = 256.0
"""Of scores: an untrained model's gradients are far beyond the clipping norm."""

STEPS, BATCH = 24, 80

RATE = 1e-6
"""Of learning: so small that each step meets the untrained model, whose gradients are known."""


class Canaries:
    """A dual encoder of one linear module: item i is axis i, text j is axis j.

    It is what :class:`~sglora_fed.backbones.types.DualEncoder` asks for, and gives no unit rows:
    nothing may depend on what was learnt before.
    """

    id = "canaries"
    modality: Modality = "text"
    weights_sha256 = ""
    scale = SCALE
    dim = WIDTH
    device = torch.device("cpu")

    def __init__(self) -> None:
        linear = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
        nn.init.zeros_(linear.weight)
        self.model: nn.Module = nn.Sequential(OrderedDict(out=linear))

    def adaptable(self) -> tuple[str, ...]:
        """The one module."""
        return ("out",)

    def prepare_items(self, items: Sequence[object]) -> list[Tensor]:
        """Numbers of axes to axes."""
        return list(torch.eye(WIDTH)[[int(str(item)) for item in items]])

    def prepare_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """The same."""
        return self.prepare_items(texts)

    def encode_items(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, WIDTH] through the adapted module."""
        encoded: Tensor = self.model(torch.stack(list(prepared)))
        return encoded

    def encode_texts(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, WIDTH] as they are."""
        return torch.stack(list(prepared))


def audit_dp_sgd(epsilon: float, confidence: float) -> Verdict:
    """Train one adapter on canaries as experts train under this epsilon, and certify a bound.

    Args:
        epsilon: that the training claims, of each example.
        confidence: with which the bound holds, in (0, 1).

    Raises:
        AuditError: for an impossible confidence.
        PrivacyError: when no noise keeps the epsilon.
    """
    items, classes = np.divmod(np.arange(WIDTH**2), WIDTH)
    included = np.random.default_rng().random(WIDTH**2) < 0.5
    examples = int(included.sum())
    privacy = TrainingPrivacyConfig(epsilon=epsilon, sharpness=1.0, freeze_a=True)
    promise = example_promise(epsilon, None, examples, BATCH, STEPS, privacy.clip)
    adapter = trained(items[included], classes[included], privacy, promise.sigma)
    # B learns minus the gradient: towards the class, away from all others.
    matrix = adapter[WIDTH**2 :].reshape(WIDTH, WIDTH)
    scores = (matrix - matrix.mean(axis=0))[classes, items]
    order = np.random.default_rng().permutation(len(scores))
    bound = canary_bound(scores[order], included[order], promise.delta, confidence)
    return Verdict("dp_sgd", epsilon, promise.delta, bound, confidence, len(scores))


def trained(
    items: np.ndarray, classes: np.ndarray, privacy: TrainingPrivacyConfig, sigma: float
) -> np.ndarray:
    """[D] the adapter: A is the identity and stays, B [class, item] was 0 before."""
    encoder = Canaries()
    layout = Layout((ModuleShape("out", WIDTH, WIDTH),), WIDTH, float(WIDTH))
    start = np.concatenate([np.eye(WIDTH).ravel(), np.zeros(WIDTH**2)]).astype(np.float32)
    axes = list(map(str, range(WIDTH)))
    part = Prepared(
        encoder.prepare_items(items.tolist()),
        encoder.prepare_texts(axes),
        np.arange(WIDTH),
        classes,
        "labelled",
    )
    settings = TrainConfig(steps=STEPS, batch_size=BATCH, lr=RATE, checkpoints=1)
    training = PrivateTraining(encoder, layout, settings, privacy)
    return np.asarray(train_privately(training, start[None], [part], [sigma]).final[0])

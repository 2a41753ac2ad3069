"""Server momentum of the shared LoRA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sglora_fed.config.schema import FederationConfig
from sglora_fed.federation import coordinator
from sglora_fed.federation.coordinator import Federation, train_shared_lora

ROUNDS, PULL = 7, 0.3
GOAL = np.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_experts_of_a_quadratic_loss_give_the_solution_of_its_recurrence(
    momentum: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distance e of the goal follows e(t+1) = (1 + m - a) e(t) - m e(t-1), in closed form."""

    def answer(_: Federation, request: Any) -> np.ndarray:
        made: np.ndarray = request.start + PULL * (GOAL - request.start)
        return made.astype(np.float32)

    monkeypatch.setattr(coordinator, "_shared_round", answer)
    config = FederationConfig(shared_rounds=ROUNDS, shared_momentum=momentum)
    federation = Federation(None, (1,), config, 8, len(GOAL), 1e6)  # type: ignore[arg-type]
    made = train_shared_lora(federation, np.zeros(3), ["a", "b"], 0, lambda *_: None)
    # The first step has no velocity: as if e(-1) = e(0).
    step = np.array([[1 + momentum - PULL, -momentum], [1.0, 0.0]])
    left = np.linalg.matrix_power(step, ROUNDS) @ np.ones(2)
    np.testing.assert_allclose(made, GOAL * (1 - left[0]), rtol=1e-5)

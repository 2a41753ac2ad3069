"""What noise in training promises, and how much noise a promise needs.

Two units, never added to one another or to what a request costs. An *example*: DP-SGD (Abadi et al.
2016) with Poisson sampling; neighbours differ in one example that is there or not. An *expert*: all
its examples are replaced by any others; each update that its node sends is clipped and gets noise.
Everything that is made of what a node sent is post-processing and costs nothing.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

from sglora_fed.config.schema import EXAMPLE, RunConfig
from sglora_fed.errors import PrivacyError

EXAMPLE_UNIT = "one training example of an expert, all that its node sends in a run"
EXPERT_UNIT = "all training examples of an expert, all that its node sends in a run"

PRV, GAUSSIAN = "prv", "gaussian"
"""Accountants: Gopi, Lee & Wutschitz 2021, by Opacus; closed form of one Gaussian."""

TOLERANCE = 0.01
"""Of epsilon: the PRV accountant's own error, and what calibration may leave unused."""

MOST_STEPS = 1_000_000

Noise = tuple[float, float, int]
"""Some steps of DP-SGD: the noise's deviation over the most that one example adds, the share of the
examples that a step takes on average, and how many steps."""

EXPERT_DELTA = 1e-6
"""Failure probability for whole experts, where nobody says another."""


@dataclass(frozen=True)
class Promise:
    """What the training of one expert promises.

    Attributes:
        unit: what epsilon and delta protect.
        epsilon: above 0.
        delta: in (0, 1).
        accountant: that computed it.
        examples: n, of the expert.
        steps: releases in all, of noisy gradients or updates.
        rate: share of the examples that a step takes on average; 1 for updates.
        sigma: standard deviation of the noise over ``clip``.
        clip: most that one example adds to a step's sum, or norm of an update.

    Raises:
        PrivacyError: for impossible values.
    """

    unit: str
    epsilon: float
    delta: float
    accountant: str
    examples: int
    steps: int
    rate: float
    sigma: float
    clip: float

    def __post_init__(self) -> None:
        numbers = (self.epsilon, self.delta, self.rate, self.sigma, self.clip)
        if not all(isinstance(n, int | float) and math.isfinite(n) and n > 0 for n in numbers):
            raise PrivacyError(f"a promise of {numbers}; need finite numbers > 0")
        counts = (self.examples, self.steps)
        if not all(isinstance(n, int) and 1 <= n <= MOST_STEPS for n in counts):
            raise PrivacyError(f"a promise of {counts}; need whole numbers >= 1")
        if (self.unit, self.accountant) not in ((EXAMPLE_UNIT, PRV), (EXPERT_UNIT, GAUSSIAN)):
            raise PrivacyError(f"{self.accountant!r} does not account for {self.unit!r}")
        if self.delta >= 1 or self.rate > 1:
            raise PrivacyError(f"delta {self.delta!r}, rate {self.rate!r}; need below 1, at most 1")

    def to_dict(self) -> dict[str, Any]:
        """The promise as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Promise:
        """The inverse of :meth:`to_dict`.

        Raises:
            PrivacyError: for anything else.
        """
        if not isinstance(values, Mapping) or set(values) != {item.name for item in fields(cls)}:
            raise PrivacyError(f"{values!r} is no promise")
        return cls(**values)

    def check(self) -> None:
        """Compute epsilon anew.

        Raises:
            PrivacyError: when the noise does not give it.
        """
        if (found := self.spent()) > self.epsilon * (1 + 1e-9):
            raise PrivacyError(
                f"epsilon {self.epsilon:g} is promised to {self.unit}; the noise gives {found:.4g}"
            )

    def noise(self, steps: int) -> Noise:
        """Some of the steps, as an account of single examples counts them.

        Replacing all of an expert's examples changes its update by two clipping norms at most, so
        changing one does.
        """
        return (self.sigma / (2 if self.unit == EXPERT_UNIT else 1), self.rate, steps)

    def spent(self) -> float:
        """Epsilon that all steps cost together, at this delta."""
        if self.unit == EXPERT_UNIT:
            return _updates_epsilon(self.sigma, self.steps, self.delta)
        return sgd_epsilon(self.sigma, self.rate, self.steps, self.delta)


def example_promise(
    epsilon: float, delta: float | None, examples: int, batch: int, steps: int, clip: float
) -> Promise:
    """The promise about single examples with the least noise that keeps it.

    Args:
        epsilon: of all steps together.
        delta: None for 1 / (10 n).
        examples: n.
        batch: examples that a step takes on average, at most n are.
        steps: that are taken.
        clip: most that one example adds to a step's sum.

    Raises:
        PrivacyError: when no noise keeps it.
    """
    failure, rate = delta or 1 / (10 * examples), min(batch, examples) / examples
    sigma = _sgd_sigma(epsilon, failure, rate, steps)
    return Promise(EXAMPLE_UNIT, epsilon, failure, PRV, examples, steps, rate, sigma, clip)


def expert_promise(
    epsilon: float, delta: float, examples: int, releases: int, clip: float
) -> Promise:
    """The promise about a whole expert with the least noise that keeps it.

    Args:
        epsilon: of all releases together.
        delta: failure probability.
        examples: n, for the record.
        releases: updates that the node sends.
        clip: norm of an update; two of them differ by twice that at most.

    Raises:
        PrivacyError: when no noise keeps it.
    """
    import dp_accounting  # costs seconds of CPU, which a run without noise need not pay

    one = 2 * float(dp_accounting.get_sigma_gaussian(epsilon, delta))
    # T Gaussian releases are one with sqrt(T) times the sensitivity (Dong, Roth & Su 2022).
    sigma = one * math.sqrt(releases) * (1 + 1e-9)
    return Promise(EXPERT_UNIT, epsilon, delta, GAUSSIAN, examples, releases, 1.0, sigma, clip)


def planned_steps(config: RunConfig) -> int:
    """Steps of DP-SGD that an expert takes in a run: in its enrolment and in every round."""
    federation = config.federation
    shared = federation.shared_rounds * federation.shared_steps
    return (
        config.adapter.train.steps
        + shared
        + federation.generator_rounds * federation.generator_steps
    )


def planned_releases(config: RunConfig) -> int:
    """Times that a node sends something of an expert."""
    return 1 + config.federation.shared_rounds + config.federation.generator_rounds


def promise_for(config: RunConfig, examples: int) -> Promise | None:
    """What a run promises an expert with so many examples.

    Raises:
        PrivacyError: when no noise keeps it.
    """
    privacy = config.privacy.training
    if privacy.epsilon is None:
        return None
    delta = promised_delta(config, examples)
    if privacy.unit == EXAMPLE:
        batch, steps = config.adapter.train.batch_size, planned_steps(config)
        return example_promise(privacy.epsilon, delta, examples, batch, steps, privacy.clip)
    return expert_promise(privacy.epsilon, delta, examples, planned_releases(config), privacy.clip)


def promised_delta(config: RunConfig, examples: int) -> float:
    """The failure probability of what a run promises an expert with so many examples."""
    privacy = config.privacy.training
    fallback = 1 / (10 * examples) if privacy.unit == EXAMPLE else EXPERT_DELTA
    return privacy.delta or fallback


def _updates_epsilon(sigma: float, releases: int, delta: float) -> float:
    import dp_accounting

    return float(dp_accounting.get_epsilon_gaussian(sigma / (2 * math.sqrt(releases)), delta))


def sgd_epsilon(sigma: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon of DP-SGD with Poisson sampling, an upper bound by the PRV accountant."""
    return _prv_epsilon(((sigma, rate, steps),), delta)


def composed_epsilon(noises: Iterable[Noise], delta: float) -> float:
    """Epsilon of single examples over steps of several kinds, whatever was chosen in between.

    Where every step takes all examples, the closed form of the Gaussian mechanism, to which such
    steps add up (Dong, Roth & Su 2022); else an upper bound by the PRV accountant.

    Args:
        noises: of all trainings; none cost nothing.
        delta: in (0, 1).

    Raises:
        PrivacyError: when the noise is too little to be accounted for.
    """
    steps = Counter[tuple[float, float]]()
    for sigma, rate, count in noises:
        steps[sigma, rate] += count
    if not steps:
        return 0.0
    if all(rate == 1 for _, rate in steps):
        import dp_accounting

        whole = sum(count / sigma**2 for (sigma, _), count in steps.items())
        return float(dp_accounting.get_epsilon_gaussian(1 / math.sqrt(whole), delta))
    return _prv_epsilon(tuple(sorted((*kind, count) for kind, count in steps.items())), delta)


@lru_cache(maxsize=4096)
def _prv_epsilon(noises: tuple[Noise, ...], delta: float) -> float:
    from opacus.accountants import create_accountant

    accountant = create_accountant(PRV)
    accountant.history = list(noises)
    try:
        with _quiet():
            return float(accountant.get_epsilon(delta, eps_error=TOLERANCE))
    except (ValueError, RuntimeError, MemoryError) as error:
        raise PrivacyError("the noise is too little for an account of what it costs") from error


@lru_cache(maxsize=4096)
def _sgd_sigma(epsilon: float, delta: float, rate: float, steps: int) -> float:
    from opacus.accountants.utils import get_noise_multiplier

    try:
        with _quiet():
            found = get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                accountant=PRV,
                epsilon_tolerance=min(TOLERANCE, epsilon / 50),
                eps_error=TOLERANCE,
            )
    except (ValueError, RuntimeError) as error:
        raise PrivacyError(
            f"no noise gives epsilon {epsilon:g} at delta {delta:g} over {steps} steps"
        ) from error
    return float(found)


def _quiet() -> Any:
    """Opacus warns of what it does on purpose."""
    return warnings.catch_warnings(action="ignore")

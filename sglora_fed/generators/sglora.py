"""SG-LoRA's generator: a conditional VAE with a semantic-aware prior (Li et al. 2025).

The paper leaves the representation open. Here vectors are centred and scaled by zoo statistics
and written in the zoo's principal components, so that the networks are small and the last product,
[n, P + 1] x [P + 1, D], is nearly all the work. ``docs/decisions/0003-sglora-open-points.md`` gives
the reasons for every open point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError, ZooSizeError, ZooTooLargeError
from sglora_fed.generators.base import (
    NEIGHBOURHOOD,
    Generated,
    check_request,
    checked_state,
    neighbourhood,
)
from sglora_fed.generators.prior import semantic_prior
from sglora_fed.zoo import Zoo, similarities, topk_weights

BATCH = 64
NETWORK = "vae."
MOST_EXPERTS = 4096
"""Their principal components come from the experts' Gram matrix, which grows with their square."""

VARIANCE_FLOOR = 1e-4
"""Added to sigma*^2 before its logarithm: a hundredth of the experts' spread, squared."""

AXES = {"embeddings": "Ed", "directions": "QD", "coordinates": "EP", "coordinate_variances": "EP"}


class SemanticVae(nn.Module):
    """q(z | x, c) and p(z | c) with two layers, the decoder with three, ReLU between.

    Args:
        width: numbers of a vector in the basis, P; the condition has 2 P.
        hidden: width of the hidden layers.
        latent: size of z.
    """

    def __init__(self, width: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = _mlp(3 * width, hidden, 2 * latent, layers=2)
        self.prior = _mlp(2 * width, hidden, 2 * latent, layers=2)
        self.decoder = _mlp(latent + 2 * width, hidden, width, layers=3)

    def loss(self, x: Tensor, condition: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
        """|x - x'|^2 + lambda KL(q(z | x, c) || p(z | c)), averaged over rows.

        Args:
            x: [n, P] vectors to reconstruct.
            condition: [n, 2 P] the semantic prior.
            noise: [n, latent] standard normal.
            kl_weight: lambda.
        """
        mean, log_variance = self.encoder(torch.cat([x, condition], 1)).chunk(2, dim=1)
        prior_mean, prior_log_variance = self.prior(condition).chunk(2, dim=1)
        z = mean + noise * (0.5 * log_variance).exp()
        rebuilt = self.decoder(torch.cat([z, condition], 1))
        divergence = gaussian_kl(mean, log_variance, prior_mean, prior_log_variance)
        error = ((rebuilt - x) ** 2).sum(dim=1)
        return torch.mean(error + kl_weight * divergence)

    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """[n, P]: z ~ p(z | c), decoded."""
        mean, log_variance = self.prior(condition).chunk(2, dim=1)
        z = mean + noise * (0.5 * log_variance).exp()
        return torch.as_tensor(self.decoder(torch.cat([z, condition], 1)))


def gaussian_kl(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log: Tensor
) -> Tensor:
    """[n] KL(N(mean, exp(log_variance)) || N(prior_mean, exp(prior_log))), diagonal, in nats."""
    ratio = (log_variance - prior_log).exp()
    distance = (mean - prior_mean) ** 2 * (-prior_log).exp()
    return 0.5 * (ratio + distance - 1 - log_variance + prior_log).sum(dim=1)


def _mlp(d_in: int, hidden: int, d_out: int, layers: int) -> nn.Sequential:
    widths = [d_in, *([hidden] * (layers - 1)), d_out]
    modules: list[nn.Module] = []
    for index in range(layers):
        modules += [nn.Linear(widths[index], widths[index + 1]), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


class SgLora:
    """The paper's generator behind the common protocol.

    The prior is computed in double precision, the networks run in single.

    Args:
        config: K, temperature, latent, hidden, steps, learning rate, lambda, basis.
    """

    name = "sglora"
    settings = (
        *NEIGHBOURHOOD,
        "latent",
        "hidden",
        "steps",
        "lr",
        "kl_weight",
        "leave_own_out",
        "basis",
    )

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        self._state: dict[str, np.ndarray] = {}
        self._vae: SemanticVae | None = None

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Train the VAE on draws from the experts' distributions N(mean, variance).

        Raises:
            ZooSizeError: with fewer than two experts.
            ZooTooLargeError: with more than ``MOST_EXPERTS``.
            GeneratorError: when all experts are equal, or training diverges.
        """
        if len(zoo.ids) < 2:
            raise ZooSizeError(f"sglora needs at least 2 experts; the zoo has {len(zoo.ids)}")
        if len(zoo.ids) > MOST_EXPERTS:
            raise ZooTooLargeError(
                f"sglora learns from up to {MOST_EXPERTS} experts; the zoo has {len(zoo.ids)}"
            )
        self._vae = None
        self._state = _normalise(zoo, self._config.basis)
        conditions = self._condition(self._training_weights(zoo))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            vae = self._new_vae()
        with _one_thread():
            self._train(vae, conditions, seed)
        self._vae = vae
        for name, tensor in vae.state_dict().items():
            self._state[NETWORK + name] = tensor.numpy()

    def _train(self, vae: SemanticVae, conditions: Tensor, seed: int) -> None:
        config = self._config
        centres = torch.from_numpy(self._state["coordinates"]).float()
        spread = torch.from_numpy(self._state["coordinate_variances"]).sqrt().float()
        random = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(vae.parameters(), lr=config.lr)
        for step in range(config.steps):
            rows = torch.randint(len(centres), (BATCH,), generator=random)
            x = torch.randn(BATCH, centres.shape[1], generator=random)
            x = centres[rows] + spread[rows] * x
            noise = torch.randn(BATCH, config.latent, generator=random)
            optimiser.zero_grad(set_to_none=True)
            loss = vae.loss(x, conditions[rows], noise, config.kl_weight)
            if not torch.isfinite(loss):
                raise GeneratorError(
                    f"training diverged in step {step + 1} of {config.steps}; lower"
                    f" generator.lr={config.lr}"
                )
            torch.autograd.backward(loss)
            optimiser.step()

    @torch.no_grad()
    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """Draws z ~ p(z | c) and decodes it.

        Raises:
            GeneratorError: before fit, for samples < 1, or for unusable descriptions.
        """
        state = self.state()
        queries = check_request(descriptions, state["embeddings"].shape[1], samples)
        near = neighbourhood(queries, state["embeddings"], self._config)
        condition = self._condition(near.dense(len(state["embeddings"]))).repeat_interleave(
            samples, dim=0
        )
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(condition), self._config.latent, generator=random)
        with _one_thread():
            coordinates = self._fitted().sample(condition, noise).numpy()
        adapters = np.pad(coordinates, ((0, 0), (0, 1)), constant_values=1) @ state["directions"]
        shape = (len(queries), samples, adapters.shape[1])
        return Generated(adapters.reshape(shape), near.similarity, near.entropy)

    def _training_weights(self, zoo: Zoo) -> np.ndarray:
        """[E, E] weights of each expert's own description, without itself unless configured."""
        own = np.arange(len(zoo.ids)) if self._config.leave_own_out else None
        similarity = similarities(zoo.embeddings, zoo.embeddings)
        return topk_weights(similarity, self._config.neighbours, self._config.temperature, own)

    def _condition(self, weights: np.ndarray) -> Tensor:
        """[n, 2 P]: mu* and the logarithm of sigma*^2 in the normalised basis."""
        state = self._state
        mean, variance = semantic_prior(
            weights, state["coordinates"], state["coordinate_variances"]
        )
        return torch.from_numpy(np.hstack([mean, np.log(variance + VARIANCE_FLOOR)])).float()

    def _new_vae(self) -> SemanticVae:
        width = self._state["coordinates"].shape[1]
        return SemanticVae(width, self._config.hidden, self._config.latent)

    def _fitted(self) -> SemanticVae:
        if self._vae is None:
            raise GeneratorError("sglora has not been fitted; call fit first")
        return self._vae

    def state(self) -> Mapping[str, np.ndarray]:
        """The fitted arrays, network weights included.

        Raises:
            GeneratorError: before fit.
        """
        self._fitted()
        return self._state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            GeneratorError: when the arrays are missing or do not fit the configured sizes.
        """
        weights = {name: array for name, array in state.items() if name.startswith(NETWORK)}
        arrays = {name: array for name, array in state.items() if name not in weights}
        arrays = checked_state(self.name, arrays, AXES)
        if len(arrays["directions"]) != arrays["coordinates"].shape[1] + 1:
            raise GeneratorError("the saved directions do not fit the saved coordinates")
        self._vae, self._state = None, arrays | weights
        # On the meta device a network has shapes only: a lying configuration costs no memory.
        with torch.device("meta"):
            vae = self._new_vae()
        tensors = {k.removeprefix(NETWORK): torch.from_numpy(v) for k, v in weights.items()}
        try:
            vae.load_state_dict(tensors, assign=True)
        except RuntimeError as error:
            raise GeneratorError("the saved network has other sizes than configured") from error
        self._vae = vae


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for networks too small to share.

    Further threads only wait, round differently, and go on waiting on the cores that NumPy's
    product needs next.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _normalise(zoo: Zoo, most: int) -> dict[str, np.ndarray]:
    """The zoo in its principal components, all divided by one scale.

    The components are orthonormal, so a squared error of coordinates is a squared error of LoRA
    parameters up to one factor; the scale makes the experts' mean variance per coordinate 1. With
    P >= E - 1 components the span of the experts is kept exactly. What the checkpoints of an expert
    vary outside of it is dropped, and so are correlations between coordinates of one expert.

    Returns:
        ``directions`` [P + 1, D], the zoo's mean last: vector = [coordinates, 1] @ directions;
        ``coordinates`` and ``coordinate_variances`` [E, P] of the experts, float64.

    Raises:
        GeneratorError: when all experts are equal.
    """
    experts = zoo.means[:].astype(np.float64)
    mean = experts.mean(axis=0)
    centred = experts - mean
    # E << D: the eigenvectors of the small Gram matrix give the components.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = np.argsort(-values)[: min(most, len(zoo.ids) - 1)]
    kept = kept[values[kept] > values.max() * 1e-10]
    if not len(kept):
        raise GeneratorError(f"all {len(experts)} experts are equal; there is nothing to learn")
    basis = vectors[:, kept].T @ centred / np.sqrt(values[kept])[:, None]
    scale = np.sqrt(values[kept].mean() / len(experts))
    return {
        "embeddings": zoo.embeddings,
        "directions": np.vstack([basis * scale, mean]).astype(np.float32),
        "coordinates": centred @ basis.T / scale,
        "coordinate_variances": zoo.variances[:] @ (basis.T**2) / scale**2,
    }

"""SG-LoRA's generator: a conditional VAE with a semantic-aware prior (Li et al. 2025).

The paper leaves the representation open. Here vectors are centred and scaled by zoo statistics
and written in the zoo's principal components; ``docs/decisions/0003-sglora.md`` gives the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError, ZooSizeError
from sglora_fed.generators.base import Generated, check_descriptions, confidence
from sglora_fed.generators.prior import semantic_prior
from sglora_fed.zoo import Zoo, similarities, topk_weights

BATCH = 64


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
        """MSE + lambda KL(q(z | x, c) || p(z | c)), averaged over rows.

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
        return nn.functional.mse_loss(rebuilt, x) + kl_weight * divergence.mean()

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

    Args:
        config: K, temperature, latent, hidden, steps, learning rate, lambda, basis.
    """

    name = "sglora"

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        self._state: dict[str, np.ndarray] = {}
        self._vae: SemanticVae | None = None

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Train the VAE on draws from the experts' distributions.

        Raises:
            ZooSizeError: with fewer than three experts.
        """
        if len(zoo.ids) < 3:
            raise ZooSizeError(f"sglora needs at least 3 experts; the zoo has {len(zoo.ids)}")
        self._state = _normalise(zoo, self._config.basis)
        conditions = self._conditions(zoo.embeddings, leave_own_out=self._config.leave_own_out)
        coordinates = torch.from_numpy(self._state["coordinates"].astype(np.float32))
        spread = torch.from_numpy(np.sqrt(self._state["coordinate_variances"]).astype(np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._vae = self._new_vae()
            self._train(torch.from_numpy(conditions), coordinates, spread, seed)
        for name, tensor in self._vae.state_dict().items():
            self._state[f"vae.{name}"] = tensor.numpy()

    def _train(self, conditions: Tensor, centres: Tensor, spread: Tensor, seed: int) -> None:
        vae, config = self._fitted(), self._config
        random = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(vae.parameters(), lr=config.lr)
        for _ in range(config.steps):
            rows = torch.randint(len(centres), (BATCH,), generator=random)
            x = centres[rows] + spread[rows] * torch.randn(
                BATCH, centres.shape[1], generator=random
            )
            noise = torch.randn(BATCH, config.latent, generator=random)
            optimiser.zero_grad(set_to_none=True)
            loss = vae.loss(x, conditions[rows], noise, config.kl_weight)
            torch.autograd.backward(loss)
            optimiser.step()

    @torch.no_grad()
    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """Draws z ~ p(z | c) and decodes them.

        Raises:
            GeneratorError: before fit, for samples < 1, or for descriptions of another shape.
        """
        vae, state = self._fitted(), self._state
        if samples < 1:
            raise GeneratorError(f"samples={samples}; at least 1")
        queries = check_descriptions(descriptions, state["embeddings"].shape[1])
        condition = torch.from_numpy(self._conditions(queries)).repeat_interleave(samples, dim=0)
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(condition), self._config.latent, generator=random)
        coordinates = vae.sample(condition, noise)
        basis, mean = torch.from_numpy(state["basis"]), torch.from_numpy(state["mean"])
        adapters = torch.addmm(mean, coordinates, basis).numpy()
        near = confidence(
            queries, state["embeddings"], self._config.neighbours, self._config.temperature
        )
        return Generated(adapters.reshape(len(queries), samples, -1), *near)

    def _conditions(self, queries: np.ndarray, leave_own_out: bool = False) -> np.ndarray:
        """[n, 2 P] float32: mu* and the logarithm of sigma*^2 in the normalised basis."""
        state, config = self._state, self._config
        own = np.arange(len(queries)) if leave_own_out else None
        similarity = similarities(queries, state["embeddings"])
        weights = topk_weights(similarity, config.neighbours, config.temperature, own)
        mean, variance = semantic_prior(
            weights, state["coordinates"], state["coordinate_variances"]
        )
        return np.concatenate([mean, np.log(variance + 1e-4)], axis=1).astype(np.float32)

    def _new_vae(self) -> SemanticVae:
        width = len(self._state["basis"])
        return SemanticVae(width, self._config.hidden, self._config.latent)

    def _fitted(self) -> SemanticVae:
        if self._vae is None:
            raise GeneratorError("sglora has not been fitted; call fit first")
        return self._vae

    def state(self) -> Mapping[str, np.ndarray]:
        """The fitted arrays, network weights included."""
        self._fitted()
        return self._state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            GeneratorError: when the arrays do not fit the configured sizes.
        """
        self._state = dict(state)
        vae = self._new_vae()
        weights = {
            name.removeprefix("vae."): torch.from_numpy(array)
            for name, array in state.items()
            if name.startswith("vae.")
        }
        try:
            vae.load_state_dict(weights)
        except RuntimeError as error:
            raise GeneratorError("the saved network has other sizes than configured") from error
        self._vae = vae


def _normalise(zoo: Zoo, most: int) -> dict[str, np.ndarray]:
    """The zoo in its principal components, each scaled to unit variance over the experts.

    With P >= E - 1 components the span of the experts is kept exactly; what a checkpoint varies
    outside of it is dropped.

    Returns:
        ``basis`` [P, D] and ``mean`` [D]: vector = mean + coordinates @ basis; ``coordinates``
        and ``coordinate_variances`` [E, P] of the experts.
    """
    mean = zoo.means.mean(axis=0, dtype=np.float64)
    centred = zoo.means - mean
    # E << D: the eigenvectors of the small Gram matrix give the components.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = np.argsort(-values)[: min(most, len(zoo.ids) - 1)]
    kept = kept[values[kept] > values.max() * 1e-10]
    deviation = np.sqrt(values[kept] / len(zoo.ids))
    basis = vectors[:, kept].T @ centred / np.sqrt(values[kept])[:, None]
    return {
        "embeddings": zoo.embeddings,
        "mean": mean.astype(np.float32),
        "basis": (basis * deviation[:, None]).astype(np.float32),
        "coordinates": centred @ basis.T / deviation,
        "coordinate_variances": zoo.variances @ (basis.T**2) / deviation**2,
    }

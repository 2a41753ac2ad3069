"""The conditional VAE: its parts against closed forms, the whole against planted truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError, ZooSizeError
from sglora_fed.generators import semantic_prior, sglora
from sglora_fed.generators.sglora import SemanticVae, SgLora, gaussian_kl
from sglora_fed.zoo import Zoo

MakeZoo = Callable[..., Zoo]
Settings = Callable[..., GeneratorConfig]
Descriptions = Callable[..., np.ndarray]


def fitted(zoo: Zoo, config: GeneratorConfig, seed: int = 0) -> SgLora:
    generator = SgLora(config)
    generator.fit(zoo, seed)
    return generator


# The divergence and the loss


@given(rows=st.integers(1, 4), size=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_divergence_is_that_of_torch(rows: int, size: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    mean, log, prior_mean, prior_log = (
        torch.randn(rows, size, generator=random, dtype=torch.float64) for _ in range(4)
    )
    wanted = kl_divergence(
        Independent(Normal(mean, (log / 2).exp()), 1),
        Independent(Normal(prior_mean, (prior_log / 2).exp()), 1),
    )
    torch.testing.assert_close(gaussian_kl(mean, log, prior_mean, prior_log), wanted)


def test_divergence_by_integration() -> None:
    """KL is the integral of q log(q/p)."""
    mean, variance, prior_mean, prior_variance = 0.3, 0.5, -0.4, 1.7
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    q, p = Normal(mean, variance**0.5), Normal(prior_mean, prior_variance**0.5)
    wanted = torch.trapezoid(q.log_prob(x).exp() * (q.log_prob(x) - p.log_prob(x)), x)
    values = [torch.tensor([[v]], dtype=torch.float64) for v in (mean, prior_mean)]
    logs = [torch.tensor([[v]], dtype=torch.float64).log() for v in (variance, prior_variance)]
    found = gaussian_kl(values[0], logs[0], values[1], logs[1])
    torch.testing.assert_close(found[0], wanted, rtol=1e-6, atol=1e-6)


def constant_(network: torch.nn.Sequential, values: list[float]) -> None:
    """Make a network say the same whatever it is given."""
    last = network[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(values))


def test_loss_of_a_known_network() -> None:
    """Encoder N(1, 1), prior N(0, 1) (divergence 1/2), decoder (3, -1), for two rows."""
    vae = SemanticVae(width=2, hidden=5, latent=1)
    constant_(vae.encoder, [1.0, 0.0])
    constant_(vae.prior, [0.0, 0.0])
    constant_(vae.decoder, [3.0, -1.0])
    x = torch.tensor([[3.0, -1.0], [1.0, 0.0]])
    condition, noise = torch.randn(2, 4), torch.randn(2, 1)
    reconstruction, penalised = (vae.loss(x, condition, noise, w).item() for w in (0.0, 0.7))
    # Squared errors 0 and 4 + 1, averaged over the two rows.
    assert reconstruction == pytest.approx(2.5)
    assert penalised - reconstruction == pytest.approx(0.7 * 0.5)


def test_layers_are_those_of_the_paper() -> None:
    vae = SemanticVae(width=3, hidden=7, latent=2)
    found = {
        name: [(m.in_features, m.out_features) for m in net if isinstance(m, torch.nn.Linear)]
        for name, net in vae.named_children()
        if isinstance(net, torch.nn.Sequential)
    }
    assert found == {
        "encoder": [(9, 7), (7, 4)],
        "prior": [(6, 7), (7, 4)],
        "decoder": [(8, 7), (7, 7), (7, 3)],
    }
    for net in vae.children():
        assert isinstance(net, torch.nn.Sequential)
        kinds = [type(module).__name__ for module in net]
        assert kinds == (["Linear", "ReLU"] * len(kinds))[: len(kinds)]


def test_use_draws_from_the_prior_network() -> None:
    """With an identity for a decoder, samples have the prior network's mean and deviation."""
    vae = SemanticVae(width=1, hidden=8, latent=1)
    constant_(vae.prior, [0.7, float(np.log(0.25))])
    constant_(vae.encoder, [50.0, 0.0])
    vae.decoder = torch.nn.Sequential(torch.nn.Linear(3, 1))
    with torch.no_grad():
        vae.decoder[0].weight.copy_(torch.tensor([[1.0, 0.0, 0.0]]))
        vae.decoder[0].bias.zero_()
        drawn = vae.sample(torch.zeros(40_000, 2), torch.randn(40_000, 1))
    assert float(drawn.mean()) == pytest.approx(0.7, abs=0.015)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.015)


# Planted truth


@dataclass(frozen=True)
class Planted:
    """Groups of tasks: descriptions near a direction, parameters N(centre, spread^2)."""

    zoo: Zoo
    unseen: np.ndarray
    centres: np.ndarray
    spreads: np.ndarray


GROUPS, EACH, SIZE = 4, 12, 6


def planted() -> Planted:
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(8, GROUPS)))[0].T
    centres = 2 * rng.normal(size=(GROUPS, SIZE))
    spreads = np.array([0.3, 0.6, 1.0, 0.6])

    def described(groups: np.ndarray) -> np.ndarray:
        rows = directions[groups] + 0.15 * rng.normal(size=(len(groups), 8))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    groups = np.repeat(np.arange(GROUPS), EACH)
    zoo = Zoo(
        tuple(f"e{number:02d}" for number in range(len(groups))),
        described(groups)[:, None],
        (centres[groups] + 0.05 * rng.normal(size=(len(groups), SIZE))).astype(np.float32),
        np.repeat(spreads[groups, None] ** 2, SIZE, axis=1).astype(np.float32),
        np.full(len(groups), 50),
    )
    return Planted(zoo, described(np.repeat(np.arange(GROUPS), 3)), centres, spreads)


def drawn(truth: Planted, zoo: Zoo) -> np.ndarray:
    """[groups, draws, size] adapters for descriptions that no expert has."""
    config = GeneratorConfig(latent=8, hidden=64, steps=400, lr=3e-3, kl_weight=0.01)
    made = fitted(zoo, config).generate(truth.unseen, samples=300, seed=1).adapters
    return made.reshape(GROUPS, -1, SIZE)


def test_a_planted_mixture_is_recovered() -> None:
    truth = planted()
    found = drawn(truth, truth.zoo)
    apart = min(np.abs(a - b).max() for n, a in enumerate(truth.centres) for b in truth.centres[:n])
    assert apart > 2
    assert np.abs(found.mean(axis=1) - truth.centres).max() < 0.35
    spread = np.sqrt(found.var(axis=1).mean(axis=1))
    assert spread == pytest.approx(truth.spreads, rel=0.25)
    assert spread[0] < min(spread[1], spread[3]) < max(spread[1], spread[3]) < spread[2]


def test_with_shuffled_descriptions_nothing_is_recovered() -> None:
    truth = planted()
    order = np.random.default_rng(1).permutation(GROUPS * EACH)
    found = drawn(truth, replace(truth.zoo, wordings=truth.zoo.wordings[order]))
    assert np.abs(found.mean(axis=1) - truth.centres).max(axis=1).min() > 0.7
    assert (np.sqrt(found.var(axis=1).mean(axis=1)) > 1.3 * truth.spreads).sum() >= 3


# Leaving the own expert out


def weights_used(
    zoo: Zoo, config: GeneratorConfig, patch: pytest.MonkeyPatch
) -> tuple[np.ndarray, np.ndarray]:
    """[E, E] weights of the experts' own descriptions, in training and in use."""
    seen: list[np.ndarray] = []

    def spy(
        weights: np.ndarray, means: np.ndarray, variances: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        seen.append(weights)
        return semantic_prior(weights, means, variances)

    patch.setattr(sglora, "semantic_prior", spy)
    fitted(zoo, config).generate(zoo.embeddings, 1, 0)
    training, use = seen
    return training, use


def test_training_leaves_the_own_expert_out_and_use_does_not(
    make_zoo: MakeZoo, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, use = weights_used(make_zoo(7), settings(steps=1, leave_own_out=True), monkeypatch)
    np.testing.assert_array_equal(np.diag(training), 0)
    np.testing.assert_allclose(training.sum(axis=1), 1)
    assert (np.diag(use) > 0.3).all()


def test_the_own_expert_has_no_influence_on_its_condition(
    make_zoo: MakeZoo, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parameter space: another expert in its place gives the same condition, and only there."""
    zoo = make_zoo(7)
    training, use = weights_used(zoo, settings(steps=1, leave_own_out=True), monkeypatch)
    for own in range(7):
        means, variances = zoo.means.copy(), zoo.variances.copy()
        means[own], variances[own] = 1e3, 1e3
        kept = semantic_prior(training, zoo.means, zoo.variances)
        changed = semantic_prior(training, means, variances)
        for before, after in zip(kept, changed, strict=True):
            np.testing.assert_array_equal(before[own], after[own])
        in_use = semantic_prior(use, means, variances)[0]
        assert np.abs(in_use[own] - semantic_prior(use, zoo.means, zoo.variances)[0][own]).max() > 1


def test_the_option_keeps_the_own_expert(
    make_zoo: MakeZoo, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(steps=1, leave_own_out=False)
    training, use = weights_used(make_zoo(7), config, monkeypatch)
    np.testing.assert_array_equal(training, use)


# The representation


@pytest.mark.parametrize("basis", [5, 6, 64])
def test_a_full_basis_holds_every_expert_exactly(
    make_zoo: MakeZoo, settings: Settings, basis: int
) -> None:
    zoo = make_zoo(6, size=30)
    state = fitted(zoo, settings(basis=basis, steps=1)).state()
    bias = np.ones((6, 1))
    rebuilt = np.hstack([state["coordinates"], bias]) @ state["directions"]
    assert state["coordinates"].shape == (6, 5)
    np.testing.assert_allclose(rebuilt, zoo.means, atol=1e-5)


def test_a_smaller_basis_is_the_best_of_its_size(make_zoo: MakeZoo, settings: Settings) -> None:
    """Eckart and Young: no error is below that of the truncated singular value decomposition."""
    zoo = make_zoo(8, size=30)
    state = fitted(zoo, settings(basis=3, steps=1)).state()
    rebuilt = np.hstack([state["coordinates"], np.ones((8, 1))]) @ state["directions"]
    singular = np.linalg.svd(zoo.means - zoo.means.mean(axis=0), compute_uv=False)
    error = ((rebuilt - zoo.means) ** 2).sum()
    assert error == pytest.approx((singular[3:] ** 2).sum(), rel=1e-4)


def test_experts_in_a_line_need_one_component(make_zoo: MakeZoo, settings: Settings) -> None:
    zoo, along = make_zoo(5), np.linspace(-1, 2, 11)
    line = replace(zoo, means=np.outer(np.arange(5), along).astype(np.float32))
    generator = fitted(line, settings())
    assert generator.state()["coordinates"].shape[1] == 1
    made = generator.generate(zoo.embeddings, 2, 0).adapters
    flat = made.reshape(-1, 11)
    # Whatever is drawn lies on the line.
    np.testing.assert_allclose(flat, np.outer(flat @ along / (along @ along), along), atol=1e-4)


def test_variances_are_those_of_projected_draws(make_zoo: MakeZoo, settings: Settings) -> None:
    """Draws around an expert, written in the basis by least squares."""
    zoo = make_zoo(4, size=20)
    state = fitted(zoo, settings(steps=1)).state()
    noise = np.random.default_rng(0).normal(size=(100_000, 20)) * np.sqrt(zoo.variances[2])
    coordinates, *_ = np.linalg.lstsq(state["directions"][:-1].T, noise.T, rcond=None)
    np.testing.assert_allclose(coordinates.var(axis=1), state["coordinate_variances"][2], rtol=0.05)


def test_units_of_the_adapters_do_not_matter(make_zoo: MakeZoo, settings: Settings) -> None:
    zoo = make_zoo(6)
    large = replace(zoo, means=zoo.means * 1024, variances=zoo.variances * 1024**2)
    one, two = (fitted(z, settings()).generate(zoo.embeddings, 1, 3) for z in (zoo, large))
    np.testing.assert_allclose(two.adapters / 1024, one.adapters, atol=1e-3)


# Seeds


def test_a_function_of_the_seeds(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, queries = make_zoo(6), descriptions()
    one, two, other = (fitted(zoo, settings(), seed) for seed in (1, 1, 2))
    first = one.generate(queries, 2, seed=5).adapters
    np.testing.assert_array_equal(first, two.generate(queries, 2, seed=5).adapters)
    np.testing.assert_array_equal(first, one.generate(queries, 2, seed=5).adapters)
    assert np.abs(first - one.generate(queries, 2, seed=6).adapters).max() > 1e-3
    assert np.abs(first - other.generate(queries, 2, seed=5).adapters).max() > 1e-3


def test_samples_of_one_description_differ(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    made = fitted(make_zoo(6), settings()).generate(descriptions(3), 4, 0).adapters
    assert made.shape == (3, 4, 11)
    for row in made:
        assert min(np.abs(a - b).max() for n, a in enumerate(row) for b in row[:n]) > 1e-4


def test_the_global_generator_is_left_alone(make_zoo: MakeZoo, settings: Settings) -> None:
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    fitted(make_zoo(6), settings()).generate(make_zoo(6).embeddings, 2, 0)
    torch.testing.assert_close(torch.rand(3), wanted)


# What cannot be done


def test_unfitted(settings: Settings, descriptions: Descriptions) -> None:
    generator = SgLora(settings())
    with pytest.raises(GeneratorError, match=r"SGL-600.*sglora has not been fitted"):
        generator.generate(descriptions(), 1, 0)
    with pytest.raises(GeneratorError, match="not been fitted"):
        generator.state()


def test_one_expert_is_too_few(make_zoo: MakeZoo, settings: Settings) -> None:
    with pytest.raises(ZooSizeError, match=r"SGL-502.*the zoo has 1"):
        fitted(make_zoo(1), settings())


def test_two_experts_are_enough(make_zoo: MakeZoo, settings: Settings) -> None:
    made = fitted(make_zoo(2), settings()).generate(make_zoo(2).embeddings, 1, 0)
    assert np.isfinite(made.adapters).all()


def test_equal_experts_are_refused(make_zoo: MakeZoo, settings: Settings) -> None:
    zoo = make_zoo(4)
    with pytest.raises(GeneratorError, match="equal"):
        fitted(replace(zoo, means=np.ones_like(zoo.means)), settings())


def test_training_that_diverges_says_so(make_zoo: MakeZoo, settings: Settings) -> None:
    with pytest.raises(GeneratorError, match=r"diverged.*generator\.lr"):
        fitted(make_zoo(6), settings(lr=1e30))


def test_a_failed_fit_leaves_nothing_usable(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    generator = SgLora(settings(lr=1e30))
    with pytest.raises(GeneratorError, match="diverged"):
        generator.fit(make_zoo(6), 0)
    with pytest.raises(GeneratorError, match="not been fitted"):
        generator.generate(descriptions(), 1, 0)

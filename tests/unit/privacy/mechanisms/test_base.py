"""What all mechanisms share: unfit vectors are refused before a draw; names; sizes on the wire."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
import pytest

from sglora_fed.config.schema import MECHANISMS, PrivacyConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.privacy import (
    KrrMechanism,
    Mechanism,
    NoMechanism,
    SubsetMechanism,
    make_mechanism,
    register_mechanism,
)
from sglora_fed.privacy.mechanisms import PrivUnitMechanism, ProjectedMechanism, Projection

DIM = 384


def unit(*values: float) -> np.ndarray:
    vector = np.zeros(DIM)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


SECRET = 0.7312465


ROWS = np.eye(DIM)[:9]
PROJECTION = Projection(np.zeros(DIM), np.eye(DIM)[:, :12], 1.0)
MAKERS: dict[str, Callable[[], Mechanism]] = {
    "none": lambda: make_mechanism(PrivacyConfig("none"), DIM),
    "gaussian": lambda: make_mechanism(PrivacyConfig("gaussian", 8.0, 1e-6), DIM),
    "privunit": lambda: make_mechanism(PrivacyConfig("privunit", 8.0), DIM),
    "krr": lambda: KrrMechanism(ROWS, 8.0),
    "subset": lambda: SubsetMechanism(ROWS, 8.0, 4),
    "projected_privunit": lambda: ProjectedMechanism(PROJECTION, PrivUnitMechanism(12, 8.0)),
}


@pytest.fixture(params=MAKERS)
def mechanism(request: pytest.FixtureRequest) -> Mechanism:
    return MAKERS[request.param]()


def test_the_name_is_the_one_in_configuration() -> None:
    assert {name: make().name for name, make in MAKERS.items()} == {name: name for name in MAKERS}


def test_a_release_has_the_form_that_is_stated(mechanism: Mechanism) -> None:
    released = [mechanism.release(unit(*vector)) for vector in ([1.0], [3.0, -4.0], [0, 0, 2.0])]
    assert {r.astype(mechanism.form.dtype).nbytes for r in released} == {mechanism.form.nbytes}
    assert {r.shape for r in released} == {mechanism.form.shape}
    assert {r.dtype.kind for r in released} == {np.dtype(mechanism.form.dtype).kind}
    assert mechanism.unit == "one description, local"


@pytest.mark.parametrize(
    ("name", "up", "replies"),
    [
        ("none", 768, 1),
        ("gaussian", 768, 1),
        ("privunit", 768, 1),
        ("krr", 2, 1),
        ("subset", 8, 4),
        ("projected_privunit", 24, 1),
    ],
)
def test_bytes_up_and_replies(name: str, up: int, replies: int) -> None:
    mechanism = MAKERS[name]()
    assert (mechanism.form.nbytes, mechanism.replies) == (up, replies)


def test_none_gives_the_embedding() -> None:
    mechanism = NoMechanism(DIM)
    np.testing.assert_allclose(mechanism.release(unit(3.0, 4.0))[:2], [0.6, 0.8], rtol=1e-6)
    assert (mechanism.epsilon, mechanism.delta) == (None, None)


class TestRefusals:
    @pytest.mark.parametrize(
        ("vector", "reason"),
        [
            (unit(1.0) * np.nan, "NaN or infinity"),
            (unit(1.0) + np.r_[np.inf, np.zeros(DIM - 1)], "NaN or infinity"),
            (np.zeros(DIM), "no unit vector"),
            (unit(1.0)[:-1], r"need floats \(384,\)"),
            (unit(1.0).tolist(), "is a list; need an array"),
            ("my asthma", "is a str; need an array"),
        ],
        ids=["nan", "infinity", "zero", "length", "list", "words"],
    )
    def test_each_reason_has_its_words(
        self, mechanism: Mechanism, vector: np.ndarray, reason: str
    ) -> None:
        with pytest.raises(PrivacyError, match=reason):
            mechanism.release(vector)

    @pytest.mark.parametrize(
        "vector",
        [
            pytest.param(np.full(DIM, np.nan), id="nan"),
            pytest.param(np.r_[SECRET, np.inf, np.zeros(DIM - 2)], id="infinity"),
            pytest.param(np.r_[SECRET, np.zeros(DIM - 1)], id="short of the sphere"),
            pytest.param(np.r_[1e200 * SECRET, np.full(DIM - 1, 1e200)], id="huge"),
            pytest.param(np.zeros(DIM), id="zero"),
            pytest.param(unit(SECRET)[:-1], id="one number less"),
            pytest.param(unit(SECRET)[None], id="a batch"),
            pytest.param(unit(1.0).astype(np.int64), id="integers"),
            pytest.param(unit(1.0).astype(np.complex128), id="complex"),
            pytest.param(unit(1.0).astype(object), id="objects"),
        ],
    )
    def test_unfit_vectors_never_reach_the_noise_nor_the_message(
        self,
        mechanism: Mechanism,
        vector: np.ndarray,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(size: int) -> int:
            raise AssertionError("something was drawn for a vector that must be refused")

        for source in ("randbelow", "randbits", "token_bytes"):
            monkeypatch.setattr(secrets, source, fail)
        with pytest.raises(PrivacyError) as caught:
            mechanism.release(vector)
        assert str(SECRET)[:4] not in str(caught.value)


class TestRegistry:
    @pytest.fixture
    def own(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setattr(MECHANISMS, "_factories", dict(MECHANISMS._factories))
        return "identity"

    def test_a_mechanism_of_ones_own(self, own: str) -> None:
        register_mechanism(own, lambda config, dim: NoMechanism(dim, own, config.epsilon))
        config = PrivacyConfig(own, epsilon=2.0)
        assert config.problems() == []
        assert make_mechanism(config, DIM).epsilon == 2.0

    def test_names_are_taken_once(self) -> None:
        with pytest.raises(PrivacyError, match="'gaussian' is taken"):
            register_mechanism("gaussian", lambda config, dim: NoMechanism(dim))

    def test_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(PrivacyError, match=r"'laplace'.*gaussian.*none"):
            make_mechanism(PrivacyConfig("laplace"), DIM)

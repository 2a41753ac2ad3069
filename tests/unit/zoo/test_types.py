"""A zoo in memory is checked when it is made; identities tell what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import ZooDamagedError
from sglora_fed.zoo import Zoo, ZooIdentity

MakeZoo = Callable[..., Zoo]


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[1, 2] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: {"ids": ("x", "y", "y", "z", "z")}, r"experts \['y', 'z'\] are .* twice"),
        (lambda z: {"ids": ()}, "at least one"),
        (lambda z: {"ids": ("", *z.ids[1:])}, "none empty"),
        (lambda z: {"ids": (7, *z.ids[1:])}, "ids are"),
        (lambda z: {"ids": z.ids[:4]}, r"of 4 experts are float32 \[5, 1, 6\]"),
        (lambda z: {"wordings": z.wordings[:4]}, r"wordings .* \[4, 1, 6\]"),
        (lambda z: {"means": z.means[:, :10]}, r"\[5, 10\]"),
        (lambda z: {"variances": z.variances[:3]}, r"variances .* \[3, 11\]"),
        (lambda z: {"examples": z.examples[:3]}, r"examples .* \[3\]"),
        (lambda z: {"wordings": z.wordings[:, 0]}, r"wordings .* \[5, 6\]"),
        (lambda z: {"means": z.means[0, :5], "variances": z.means[0, :5]}, r"means .* \[5\]"),
        (lambda z: {"examples": z.examples[:, None]}, r"examples .* \[5, 1\]"),
        (lambda z: {"means": np.float32(1)}, r"means .* \[\]"),
        (lambda z: {"means": z.means.astype(np.float64)}, "means .* float64"),
        (lambda z: {"variances": z.variances.astype(np.float16)}, "variances .* float16"),
        (lambda z: {"examples": z.examples.astype(np.int32)}, "examples .* int32"),
        (lambda z: {"examples": z.examples * 0}, "examples hold 0"),
        (lambda z: {"means": with_value(z.means, np.nan)}, "means hold NaN"),
        (lambda z: {"means": with_value(z.means, -np.inf)}, "means hold NaN or inf"),
        (lambda z: {"variances": with_value(z.variances, np.inf)}, "variances hold"),
        (lambda z: {"wordings": with_value(z.wordings[:, 0], np.nan)[:, None]}, "wordings hold"),
        (lambda z: {"variances": with_value(z.variances, -1e-9)}, "variances hold -"),
        (lambda z: {"wordings": z.wordings * 1.01}, "norm 1.01; need 1"),
        (lambda z: {"wordings": z.wordings * 0.5}, "norm 0.5; need 1"),
        (lambda z: {"wordings": np.hstack([z.wordings, -z.wordings])}, "cancel out"),
    ],
)
def test_unusable_arrays_are_refused(
    make_zoo: MakeZoo, change: Callable[[Zoo], dict[str, Any]], message: str
) -> None:
    zoo = make_zoo()
    with pytest.raises(ZooDamagedError, match=message):
        replace(zoo, **change(zoo))


def test_one_short_row_is_named_among_good_ones(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    wordings = np.hstack([zoo.wordings, zoo.wordings])
    wordings[3, 1] *= 0.25
    with pytest.raises(ZooDamagedError, match=r"norm 0\.25"):
        replace(zoo, wordings=wordings)


def test_an_expert_lies_between_its_wordings(make_zoo: MakeZoo) -> None:
    """Unit, and equally near to both of two wordings: so it bisects them."""
    zoo = make_zoo(wordings=2)
    near = np.einsum("ed,ewd->ew", zoo.embeddings, zoo.wordings)
    np.testing.assert_allclose(near[:, 0], near[:, 1], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(zoo.embeddings, axis=1), 1, atol=1e-6)
    half = (1 + np.einsum("ed,ed->e", zoo.wordings[:, 0], zoo.wordings[:, 1])) / 2
    np.testing.assert_allclose(near[:, 0], np.sqrt(half), atol=1e-6)


def test_equal_checkpoints_and_one_example_are_no_damage(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    still = replace(zoo, variances=zoo.variances * 0, examples=zoo.examples * 0 + 1)
    assert still.ids == zoo.ids


def test_a_zoo_does_not_change(make_zoo: MakeZoo) -> None:
    with pytest.raises(FrozenInstanceError):
        make_zoo().ids = ()  # type: ignore[misc]


def test_an_identity_does_not_change(identity: ZooIdentity) -> None:
    with pytest.raises(FrozenInstanceError):
        identity.seed = 8  # type: ignore[misc]


def test_rounding_to_half_precision_is_no_damage(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(dim=384)
    rounded = zoo.wordings.astype(np.float16).astype(np.float32)
    assert replace(zoo, wordings=rounded).size == zoo.size == 11


def test_adapters_of_no_numbers_are_refused(make_zoo: MakeZoo) -> None:
    with pytest.raises(ZooDamagedError, match=r"\[1, 0\]"):
        make_zoo(1, size=0)


def test_select_takes_all_of_an_expert(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    part = zoo.select(np.array([4, 1]))
    assert part.ids == ("e004", "e001")
    for name in ("embeddings", "means", "variances", "examples"):
        for row, source in enumerate((4, 1)):
            np.testing.assert_array_equal(getattr(part, name)[row], getattr(zoo, name)[source])


def test_no_difference_to_itself(identity: ZooIdentity) -> None:
    assert identity.differences(identity) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "clip"),
        ("weights_sha256", "6" * 64),
        ("encoder", "other"),
        ("layout", {"modules": [], "rank": 8, "alpha": 2.0}),
        ("seed", 8),
        ("config_sha256", "d" * 64),
    ],
)
def test_a_difference_names_field_and_both_values(
    identity: ZooIdentity, field: str, value: Any
) -> None:
    other = replace(identity, **{field: value})
    (line,) = identity.differences(other)
    assert line.startswith(f"{field} is {str(value)[:20]}")
    assert str(getattr(identity, field))[:20] in line.split(", not ")[1]


def test_long_values_are_cut_where_they_agree(identity: ZooIdentity) -> None:
    (line,) = identity.differences(replace(identity, encoder="x" * 500 + "END"))
    assert len(line) < 120
    assert "END" in line


def test_all_differences_at_once_but_never_versions(identity: ZooIdentity) -> None:
    other = replace(identity, backbone="x", seed=1, versions={"torch": "3"})
    assert [line.split()[0] for line in identity.differences(other)] == ["backbone", "seed"]


def test_without_owners_everybody_has_a_voice(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(3)
    assert zoo.owners == zoo.ids
    assert zoo.select(np.array([2, 0])).owners == ("e002", "e000")


@pytest.mark.parametrize("names", [{"owners": ("a",)}, {"task_digests": ("1", "2")}])
def test_one_name_for_each_expert(make_zoo: MakeZoo, names: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ZooDamagedError, match="of 3 experts; need one each"):
        replace(make_zoo(3), **names)


def test_the_hash_is_of_everything_that_counts(make_zoo: MakeZoo) -> None:
    zoo = replace(make_zoo(3), owners=("a", "b", "a"))
    assert zoo.sha256 == replace(zoo, owners=("x", "y", "x")).sha256
    others = [
        replace(zoo, owners=("a", "b", "b")),
        replace(zoo, task_digests=("1", "2", "3")),
        replace(zoo, means=zoo.means + 1),
        replace(zoo, examples=zoo.examples + 1),
        zoo.select(np.array([0, 1])),
    ]
    assert len({zoo.sha256, *(other.sha256 for other in others)}) == 6

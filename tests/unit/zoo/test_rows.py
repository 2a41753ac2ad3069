"""A zoo whose numbers stay in their files against the same zoo in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import ZooDamagedError, ZooTooLargeError
from sglora_fed.generators import fit_generator, sglora
from sglora_fed.generators.functional import Functional
from sglora_fed.zoo import Zoo, ZooIdentity, open_zoo, read_store, rows, screening, store, trusted
from sglora_fed.zoo.rows import Rows

MakeZoo = Callable[..., Zoo]


def few() -> GeneratorConfig:
    return GeneratorConfig(neighbours=3, latent=4, hidden=16, steps=30)


@pytest.fixture
def both(
    tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo, monkeypatch: pytest.MonkeyPatch
) -> tuple[Zoo, Zoo]:
    """Experts of three uploads, some removed, in memory and in files; read four at a time."""
    made = open_zoo(tmp_path / "zoo", identity)
    for number, prefix in enumerate("mbx"):
        made.add(make_zoo(5 + number, seed=number, prefix=prefix, wordings=2))
    made.remove(["m001", "x000"])
    whole = made.load()
    monkeypatch.setattr(rows, "CHUNK", 4)
    monkeypatch.setattr(store, "IN_MEMORY", 0)
    return whole, read_store(tmp_path / "zoo").load()


def test_rows_are_those_of_the_array(both: tuple[Zoo, Zoo]) -> None:
    whole, large = both
    assert large.ids == whole.ids
    assert large.sha256 == whole.sha256
    np.testing.assert_array_equal(large.embeddings, whole.embeddings)
    for name in ("wordings", "means", "variances"):
        array, lying = getattr(whole, name), getattr(large, name)
        assert isinstance(lying, Rows)
        assert (lying.shape, lying.dtype, lying.ndim) == (array.shape, array.dtype, array.ndim)
        some = np.array([7, 0, 7, 12])
        for key in (slice(None), slice(3, 9), some, 5, array[:, 0].ravel()[: len(array)] > 0):
            np.testing.assert_array_equal(lying[key], array[key])
        np.testing.assert_array_equal(lying.select(some)[1:3], array[some][1:3])


def test_a_selection_stays_in_files(both: tuple[Zoo, Zoo]) -> None:
    whole, large = both
    some = np.array([3, 1, 15])
    assert isinstance(large.select(some).means, Rows)
    assert large.select(some).sha256 == whole.select(some).sha256


@pytest.mark.parametrize("name", ["soup", "nearest", "adapter_soup", "topk", "ridge", "sglora"])
def test_generators_read_in_pieces(both: tuple[Zoo, Zoo], name: str) -> None:
    wanted, found = (
        fit_generator(few(), name, zoo, 0).generate(both[0].embeddings, 1, 0) for zoo in both
    )
    np.testing.assert_allclose(found.adapters, wanted.adapters, atol=1e-5)
    np.testing.assert_array_equal(found.similarity, wanted.similarity)


def test_rounds_read_in_pieces(both: tuple[Zoo, Zoo], identity: ZooIdentity) -> None:
    layout, made = Layout.from_dict(identity.layout), []
    updates = np.random.default_rng(0).normal(size=(4, both[0].size))
    for zoo in both:
        generator = Functional(GeneratorConfig())
        generator.begin(zoo, layout, np.ones(zoo.size, np.float32))
        generator.learn(np.array([0, 5, 9, 11]), updates)
        made.append(generator.generate(both[0].embeddings, 1, 0).adapters)
    np.testing.assert_allclose(made[1], made[0], atol=1e-6)


def test_screening_reads_in_pieces(
    both: tuple[Zoo, Zoo], identity: ZooIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout.from_dict(identity.layout)
    monkeypatch.setattr(screening, "TOGETHER", 8)
    wanted, found = (trusted(z.embeddings, z.means, layout, z.owners) for z in both)
    np.testing.assert_array_equal(found, wanted)


def test_what_needs_everything_is_refused(
    both: tuple[Zoo, Zoo],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ZooTooLargeError, match=r"SGL-510.*16 experts' numbers in memory"):
        np.asarray(both[1].means)
    with pytest.raises(ZooTooLargeError, match="in memory"):
        fit_generator(few(), "topk", both[1], 0).state()
    monkeypatch.setattr(sglora, "MOST_EXPERTS", 15)
    with pytest.raises(ZooTooLargeError, match="up to 15 experts; the zoo has 16"):
        fit_generator(few(), "sglora", both[0], 0)


def test_files_are_checked_before_they_are_left_where_they_are(
    both: tuple[Zoo, Zoo], tmp_path: Path
) -> None:
    shard = next((tmp_path / "zoo").glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ZooDamagedError, match="sha256"):
        read_store(tmp_path / "zoo").load()


def test_names_lead_to_rows(make_zoo: MakeZoo) -> None:
    np.testing.assert_array_equal(make_zoo(5).rows_of(["e003", "e000"]), [3, 0])

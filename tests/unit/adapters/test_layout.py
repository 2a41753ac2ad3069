"""The flat vector against numpy slices, PEFT's own start, and damaged layouts."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from sglora_fed.adapters.layout import Layout, ModuleShape, check_vectors, initial_vector, layout_of
from sglora_fed.errors import AdapterValueError, LayoutError

TWO = Layout((ModuleShape("first", 3, 2), ModuleShape("second", 1, 4)), rank=2, alpha=6.0)

SHAPES = st.builds(
    ModuleShape, st.text("abc.", min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 5)
)
LAYOUTS = st.builds(
    Layout,
    st.lists(SHAPES, min_size=1, max_size=4, unique_by=lambda m: m.name).map(tuple),
    st.integers(1, 4),
    st.one_of(st.floats(0.01, 100), st.integers(1, 64)),
)


def test_where_each_number_lies() -> None:
    vector = torch.arange(20.0)
    factors = TWO.unpack(vector[None])
    assert TWO.size == 20
    assert factors["first"][0][0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert factors["first"][1][0].tolist() == [[6, 7], [8, 9]]
    assert factors["second"][0][0].tolist() == [[10], [11]]
    assert factors["second"][1][0].tolist() == [[12, 13], [14, 15], [16, 17], [18, 19]]
    assert TWO.scaling == 3.0


@given(LAYOUTS, st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_unpack_then_pack_gives_the_same_vectors(layout: Layout, count: int, seed: int) -> None:
    vectors = torch.randn(count, layout.size, generator=torch.Generator().manual_seed(seed))
    factors = layout.unpack(vectors)
    numbers = sum(a.numel() + b.numel() for a, b in factors.values())
    assert numbers == vectors.numel()
    for row in range(count):
        one = {name: (a[row], b[row]) for name, (a, b) in factors.items()}
        assert torch.equal(layout.pack(one), vectors[row])


def test_gradients_reach_the_vector_through_its_factors() -> None:
    vectors = torch.zeros(2, 20, requires_grad=True)
    TWO.unpack(vectors)["second"][0][1].sum().backward()
    expected = torch.zeros(2, 20)
    expected[1, 10:12] = 1
    assert torch.equal(vectors.grad, expected)


@given(LAYOUTS)
def test_a_layout_survives_json(layout: Layout) -> None:
    back = Layout.from_dict(json.loads(json.dumps(layout.to_dict())))
    assert back == layout
    assert back.fingerprint == layout.fingerprint


def test_fingerprints_differ_when_anything_does() -> None:
    first, second = TWO.modules
    others = [
        Layout((second, first), 2, 6.0),
        Layout((first,), 2, 6.0),
        Layout((first, ModuleShape("second", 4, 1)), 2, 6.0),
        Layout((first, ModuleShape("other", 1, 4)), 2, 6.0),
        Layout(TWO.modules, 3, 6.0),
        Layout(TWO.modules, 2, 6.5),
    ]
    assert len({TWO.fingerprint, *(layout.fingerprint for layout in others)}) == 7


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
ALMOST = st.fixed_dictionaries(
    {
        "modules": JSON | st.lists(st.tuples(st.text(max_size=3), JSON, JSON).map(list)),
        "rank": JSON | st.just(2),
        "alpha": JSON | st.just(6.0),
    }
)


@given(JSON | ALMOST)
def test_damaged_layouts_are_refused_not_repaired(values: Any) -> None:
    try:
        layout = Layout.from_dict(values)
    except LayoutError:
        return
    # As text, because 1 == True to Python; 6 and 6.0 are the same alpha.
    kept = values | {"alpha": float(values["alpha"])}
    assert json.dumps(layout.to_dict(), sort_keys=True) == json.dumps(kept, sort_keys=True)
    assert type(values["alpha"]) in (int, float)


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 2.5},
        {"rank": 2.0},
        {"rank": "2"},
        {"rank": True},
        {"rank": math.inf},
        {"alpha": "6"},
        {"alpha": True},
        {"alpha": None},
        {"alpha": math.nan},
        {"alpha": math.inf},
        {"alpha": 10**400},
        {"more": 1},
        {"modules": "abc"},
        {"modules": []},
        {"modules": ["abc"]},
        {"modules": [["a", 1]]},
        {"modules": [["a", 1, True]]},
        {"modules": [["a", "1", 1]]},
        {"modules": [["a", 1.0, 1]]},
        {"modules": [[1, 1, 1]]},
        {"modules": [[["a"], 1, 1]]},
    ],
)
def test_a_layout_with_one_wrong_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(LayoutError):
        Layout.from_dict(TWO.to_dict() | change)


@pytest.mark.parametrize("lacking", ["modules", "rank", "alpha"])
def test_a_layout_that_lacks_a_field_is_refused(lacking: str) -> None:
    values = {key: value for key, value in TWO.to_dict().items() if key != lacking}
    with pytest.raises(LayoutError, match="need modules, rank and alpha"):
        Layout.from_dict(values)


def test_whole_and_real_alphas_are_one_layout() -> None:
    whole = Layout(TWO.modules, 2, 6)
    assert whole == TWO
    assert whole.fingerprint == TWO.fingerprint


@pytest.mark.parametrize(
    ("modules", "rank", "alpha"),
    [
        ((), 2, 6.0),
        ((ModuleShape("a", 1, 1), ModuleShape("a", 2, 2)), 2, 6.0),
        (TWO.modules, 0, 6.0),
        (TWO.modules, 2, 0.0),
        (TWO.modules, 2, math.nan),
        (TWO.modules, 2, math.inf),
    ],
)
def test_impossible_layouts(modules: tuple[ModuleShape, ...], rank: int, alpha: float) -> None:
    with pytest.raises(LayoutError):
        Layout(modules, rank, alpha)


@pytest.mark.parametrize(("name", "d_in", "d_out"), [("", 1, 1), ("a", 0, 1), ("a", 1, 0)])
def test_impossible_modules(name: str, d_in: int, d_out: int) -> None:
    with pytest.raises(LayoutError):
        ModuleShape(name, d_in, d_out)


@pytest.mark.parametrize("shape", [(20,), (1, 19), (1, 21), (1, 1, 20)])
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match="20"):
        TWO.unpack(torch.zeros(shape))


def test_factors_of_other_modules_or_shapes_are_refused() -> None:
    good = {name: (a[0], b[0]) for name, (a, b) in TWO.unpack(torch.zeros(1, 20)).items()}
    a, b = good["first"]
    missing = {"first": good["first"]}
    for bad in (missing, good | {"third": (a, b)}, good | {"first": (a.T, b)}):
        with pytest.raises(LayoutError):
            TWO.pack(bad)
    with pytest.raises(LayoutError, match="first"):
        TWO.pack(good | {"first": (a, b[:, :1])})


def test_shapes_come_from_the_model() -> None:
    model = nn.ModuleDict({"one": nn.Linear(3, 5), "more": nn.ModuleList([nn.Linear(5, 2)])})
    layout = layout_of(model, ["more.0", "one"], 2, 4)
    assert layout.modules == (ModuleShape("more.0", 5, 2), ModuleShape("one", 3, 5))


@pytest.mark.parametrize(("name", "said"), [("two", "no module"), ("norm", "LayerNorm")])
def test_names_that_carry_no_adapter_are_refused(name: str, said: str) -> None:
    model = nn.ModuleDict({"one": nn.Linear(3, 5), "norm": nn.LayerNorm(5)})
    with pytest.raises(LayoutError, match=said):
        layout_of(model, ["one", name], 2, 4)


def test_the_start_is_distributed_as_pefts() -> None:
    model = nn.ModuleDict({"one": nn.Linear(300, 50)})
    layout = layout_of(model, ["one"], 16, 16)
    ours = layout.unpack(initial_vector(layout, 3)[None])["one"]
    theirs = get_peft_model(model, LoraConfig(r=16, target_modules=["one"]))
    theirs_a = theirs.get_submodule("base_model.model.one.lora_A.default").weight
    assert ours[1].abs().max() == 0
    assert ours[0].abs().max() == pytest.approx(theirs_a.abs().max().item(), rel=0.01)
    assert ours[0].std() == pytest.approx(theirs_a.std().item(), rel=0.05)
    assert abs(ours[0].mean()) < 0.002


def test_the_start_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = initial_vector(TWO, 5)
    torch.manual_seed(2)
    assert torch.equal(first, initial_vector(TWO, 5))
    assert not torch.equal(first, initial_vector(TWO, 6))


def test_unusable_vectors_are_refused() -> None:
    vectors = np.zeros((3, 20), np.float16)
    check_vectors(vectors, TWO, max_norm=1.0)
    check_vectors(vectors[:0], TWO, max_norm=1.0)
    for value in (np.nan, np.inf, -np.inf):
        bad = vectors.copy()
        bad[1, 7] = value
        with pytest.raises(AdapterValueError, match="1 of 60"):
            check_vectors(bad, TWO)
    for shape in [(19,), (3, 21), ()]:
        with pytest.raises(LayoutError):
            check_vectors(np.zeros(shape), TWO)


def test_the_norm_bound_is_per_adapter() -> None:
    vectors = np.zeros((2, 20), np.float32)
    vectors[0, :2] = vectors[1, 3:5] = (3, 4)
    check_vectors(vectors, TWO, max_norm=5.01)
    with pytest.raises(AdapterValueError, match="norm 5;"):
        check_vectors(vectors, TWO, max_norm=4.99)


@pytest.mark.parametrize(("dtype", "value"), [(np.float16, 6e4), (np.float32, 3e38)])
def test_norms_whose_squares_are_beyond_the_type(dtype: Any, value: float) -> None:
    vectors = np.full((2, 20), value, dtype)
    norm = float(dtype(value)) * math.sqrt(20)
    check_vectors(vectors, TWO, max_norm=norm * 1.001)
    with pytest.raises(AdapterValueError, match=f"norm {norm:.4g};".replace("+", r"\+")):
        check_vectors(vectors, TWO, max_norm=norm * 0.999)


def test_numbers_that_float32_cannot_hold_are_refused() -> None:
    vectors = np.zeros((2, 20))
    vectors[0, 3], vectors[1, 4] = 1e39, 1e38
    with pytest.raises(AdapterValueError, match="1 of 40") as raised:
        check_vectors(vectors, TWO)
    assert raised.value.code == 401

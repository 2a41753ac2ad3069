"""Many folded adapters against PEFT, one adapter and one text at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sglora_fed.adapters.batched import AdaptedLinear, adapted, beside
from sglora_fed.adapters.layout import Layout, ModuleShape, layout_of
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.errors import LayoutError
from tests.unit.adapters.conftest import make_reference

TEXTS = [
    ["w1", "w2 w3 w4 w5 w6 w7", "w8 w9"],
    ["w4 w5 w2", "w1 w1", "w3 w5 w7 w9 w11 w13 w15"],
    ["w1", "w2 w3 w4 w5 w6 w7", "w30 w31 w32"],
    ["w39 w38", "w20", "w21 w22"],
    ["w10 w11", "w12 w13 w14 w15", "w16"],
]


def directions(seed: int) -> Tensor:
    """[5, 3, 24] fixed numbers that make one loss of all outputs."""
    return torch.randn(5, 3, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("targets", [("query", "value"), ("value", "output.dense")])
def test_forward_and_backward_equal_peft_one_by_one(
    bert_folder: Path, targets: tuple[str, ...]
) -> None:
    """With adapted queries, and without: then they are prepared with the texts."""
    encoder = MiniLM(bert_folder, targets, scale=5.0)
    layout = layout_of(encoder.model, encoder.adaptable(), 2, 3.0)
    reference = make_reference(bert_folder, layout)
    vectors = np.random.default_rng(1).normal(0, 0.3, (5, layout.size)).astype(np.float32)
    folded = torch.from_numpy(vectors).requires_grad_(True)
    weights = directions(3)
    prepared = encoder.prepare_items([text for texts in TEXTS for text in texts])
    with adapted(encoder.model, layout, folded):
        outputs = encoder.encode_items(prepared, 5).view(5, 3, -1)
        torch.autograd.backward((outputs * weights).sum())
    bare = encoder.encode_items(prepared, 1).view(5, 3, -1)
    for index, texts in enumerate(TEXTS):
        reference.load(vectors[index])
        reference.model.zero_grad()
        expected = reference.embed(texts)
        torch.autograd.backward((expected * weights[index]).sum())
        torch.testing.assert_close(outputs[index], expected, atol=1e-5, rtol=0)
        theirs = reference.flat(gradients=True)
        np.testing.assert_allclose(folded.grad[index], theirs, atol=1e-5, rtol=0)
        # The comparison would be empty if the adapters changed little.
        assert (bare[index] - expected).abs().max() > 0.05
        assert np.abs(theirs).max() > 0.01


def test_only_the_vectors_get_gradients(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray
) -> None:
    folded = torch.from_numpy(vectors[:1]).requires_grad_(True)
    with adapted(encoder.model, layout, folded):
        torch.autograd.backward(encoder.encode_items(encoder.prepare_items(["w1 w2"]), 1).sum())
    assert folded.grad is not None
    assert all(parameter.grad is None for parameter in encoder.model.parameters())


def test_a_zero_b_changes_nothing_and_other_groups_stay_apart(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray
) -> None:
    prepared = encoder.prepare_items(["w1 w2 w3"] * 2)
    mixed = torch.from_numpy(vectors[:2].copy())
    mixed[0] = 0
    bare = encoder.encode_items(prepared, 1)
    with torch.no_grad(), adapted(encoder.model, layout, mixed):
        both = encoder.encode_items(prepared, 2)
    torch.testing.assert_close(both[0], bare[0])
    assert (both[1] - bare[1]).abs().max() > 0.05


def test_inputs_of_any_number_of_axes() -> None:
    base, generator = nn.Linear(3, 2), torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1, 3, generator=generator), torch.randn(2, 2, 1, generator=generator)
    for shape in [(4, 3), (4, 5, 3), (4, 2, 5, 3)]:
        x = torch.randn(shape, generator=generator)
        groups = [x[:2], x[2:]]
        weights = [base.weight + 0.5 * b[g] @ a[g] for g in range(2)]
        expected = [
            nn.functional.linear(rows, w, base.bias)
            for rows, w in zip(groups, weights, strict=True)
        ]
        adapted_ = AdaptedLinear(base, a, b, 0.5)
        torch.testing.assert_close(adapted_(x), torch.cat(expected))
        with torch.no_grad():
            assert torch.equal(adapted_(x), adapted_(x))
            torch.testing.assert_close(adapted_(x), torch.cat(expected))


@pytest.mark.parametrize("learning", [False, True])
def test_modules_beside_one_another_make_what_each_makes_alone(learning: bool) -> None:
    """Adapted ones and a bare one, of several widths."""
    generator = torch.Generator().manual_seed(0)
    plain = [nn.Linear(3, width) for width in (2, 5, 4)]
    with_adapters = [
        AdaptedLinear(
            base,
            torch.randn(2, 1, 3, generator=generator),
            torch.randn(2, base.out_features, 1, generator=generator),
            0.5,
        )
        for base in plain[::2]
    ]
    x = torch.randn(4, 5, 3, generator=generator)
    for modules in ([with_adapters[0], plain[1], with_adapters[1]], plain):
        with torch.set_grad_enabled(learning):
            found = beside(modules, x)
        for module, own in zip(modules, found, strict=True):
            torch.testing.assert_close(own, module(x))


def test_the_model_is_whole_again_even_after_an_error(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray
) -> None:
    before = dict(encoder.model.named_modules())
    bare = encoder.encode_items(encoder.prepare_items(["w1 w2"]), 1)
    with pytest.raises(ZeroDivisionError):
        fail_inside(encoder, layout, vectors)
    after = dict(encoder.model.named_modules())
    assert before.keys() == after.keys()
    assert all(after[name] is module for name, module in before.items())
    assert torch.equal(encoder.encode_items(encoder.prepare_items(["w1 w2"]), 1), bare)


def fail_inside(encoder: MiniLM, layout: Layout, vectors: np.ndarray) -> None:
    with adapted(encoder.model, layout, torch.from_numpy(vectors)):
        raise ZeroDivisionError


def refused(model: nn.Module, layout: Layout, vectors: Tensor) -> str:
    """What the LayoutError says; the model must be as before."""
    before = dict(model.named_modules())
    with pytest.raises(LayoutError) as raised, adapted(model, layout, vectors):
        pass
    assert dict(model.named_modules()) == before
    assert raised.value.code == 400
    return str(raised.value)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (ModuleShape("two", 3, 3), "no module 'two'"),
        (ModuleShape("deep.er", 3, 3), "no module 'deep.er'"),
        (ModuleShape("norm", 3, 3), "LayerNorm"),
        (ModuleShape("more.0", 4, 2), r"(3, 2) wide; the layout has (4, 2)"),
        (ModuleShape("more.0", 3, 5), r"(3, 2) wide; the layout has (3, 5)"),
    ],
)
def test_layouts_of_another_model_are_refused(second: ModuleShape, said: str) -> None:
    more = nn.ModuleList([nn.Linear(3, 2)])
    model = nn.ModuleDict({"one": nn.Linear(3, 3), "more": more, "norm": nn.LayerNorm(3)})
    layout = Layout((ModuleShape("one", 3, 3), second), 1, 1.0)
    assert said in refused(model, layout, torch.zeros(2, layout.size))


def test_vectors_of_another_size_are_refused(encoder: MiniLM, layout: Layout) -> None:
    said = refused(encoder.model, layout, torch.zeros(2, layout.size + 1))
    assert f"[n, {layout.size}]" in said


def test_a_model_carries_one_set_of_adapters_at_a_time(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray
) -> None:
    folded = torch.from_numpy(vectors)
    with adapted(encoder.model, layout, folded):
        assert "AdaptedLinear" in refused(encoder.model, layout, folded)


def test_rows_that_adapters_cannot_share_are_refused() -> None:
    module = AdaptedLinear(nn.Linear(3, 2), torch.zeros(5, 1, 3), torch.zeros(5, 2, 1), 1.0)
    with pytest.raises(LayoutError, match="7 rows cannot be shared equally by 5"):
        module(torch.zeros(7, 4, 3))
    with torch.no_grad(), pytest.raises(LayoutError, match="7 rows cannot be shared equally by 5"):
        beside([module, module], torch.zeros(7, 4, 3))

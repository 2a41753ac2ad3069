"""The fused activation against transformers' own and finite differences."""

from __future__ import annotations

import torch
from transformers.activations import QuickGELUActivation

from sglora_fed.backbones.quick_gelu import QuickGELU, with_fused_activations

VALUES = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([-1e4, -0.0, 1e4])])


def test_values_and_gradients_are_those_of_transformers() -> None:
    found = []
    for module in (QuickGELU(), QuickGELUActivation()):
        x = VALUES.clone().requires_grad_(True)
        made = module(x)
        made.backward(torch.linspace(-1, 2, len(x)))
        found.append((made.detach(), x.grad))
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(QuickGELU()(VALUES.clone()), found[1][0], rtol=1e-5, atol=1e-6)


def test_the_derivative_is_the_slope() -> None:
    x = torch.randn(20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(QuickGELU(), (x,))


def test_it_stands_wherever_the_other_one_stood() -> None:
    inner = torch.nn.Sequential(QuickGELUActivation(), torch.nn.GELU())
    with_fused_activations(torch.nn.ModuleDict({"a": inner}))
    assert [type(module) for module in inner] == [QuickGELU, torch.nn.GELU]

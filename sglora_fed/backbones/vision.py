"""Layers of CLIP's vision tower (Radford et al. 2021), in few passes over memory.

Attention is Vaswani et al. 2017, eq. 1. Every linear part is a module of the model, or an adapted
one in its place.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sglora_fed.adapters.batched import beside


def through(layer: Any, hidden: Tensor) -> Tensor:
    """[n, tokens, width] after a layer of transformers' CLIP."""
    attention = layer.self_attn
    rows = layer.layer_norm1(hidden)
    query, key, value = beside((attention.q_proj, attention.k_proj, attention.v_proj), rows)
    return _completed(layer, hidden, query, key, value)


def first_token(layer: Any, hidden: Tensor) -> Tensor:
    """[n, width] the first token after the last layer: nothing reads what becomes of the others."""
    attention = layer.self_attn
    rows = layer.layer_norm1(hidden)
    query = attention.q_proj(rows[:, :1])
    key, value = beside((attention.k_proj, attention.v_proj), rows)
    return _completed(layer, hidden[:, :1], query, key, value)[:, 0]


def _completed(layer: Any, hidden: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """A layer's rest for the tokens that ask, each [n, its tokens, width]."""
    attention = layer.self_attn

    def heads(rows: Tensor) -> Tensor:
        return rows.view(*rows.shape[:2], attention.num_heads, -1).transpose(1, 2)

    context = nn.functional.scaled_dot_product_attention(heads(query), heads(key), heads(value))
    after: Tensor = hidden + attention.out_proj(context.transpose(1, 2).flatten(2))
    after = after + layer.mlp(layer.layer_norm2(after))
    return after

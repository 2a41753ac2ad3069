"""Many adapters in one batch on a GPU, against stock PEFT one adapter after the other.

    python benchmarks/bench_gpu.py [--experts 64] [--device cuda]

Writes ``benchmarks/results/gpu.json``. A BERT of MiniLM's shape with random weights: the time does
not depend on the values. Each expert has as many texts as in a training batch, each of the same
number of tokens; what is timed are a forward, as in measuring, and a step, as in training. Beside
them the matrix products of the forward alone, which is what the card can do with these shapes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

import machine
from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.layout import Layout, initial_vector, layout_of

RANK, ALPHA, TARGETS = 4, 8.0, ("query", "value")
ITEMS, TOKENS, REPEATS = 16, 32, 9
GOAL_TIMES, GOAL_SHARE = 30.0, 0.5


def bert(layers: int = 6, width: int = 384, heads: int = 12) -> nn.Module:
    """Of MiniLM's shape, with random weights."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "attn_implementation": "sdpa",
    }
    config = BertConfig(**shape)
    made: Any = BertModel(config, add_pooling_layer=False)
    model: nn.Module = made.eval().requires_grad_(False)
    return model


def layout(model: nn.Module) -> Layout:
    """Query and value of every layer."""
    count: int = model.config.num_hidden_layers  # type: ignore[union-attr, assignment]
    names = [
        f"encoder.layer.{i}.attention.self.{target}" for i in range(count) for target in TARGETS
    ]
    return layout_of(model, names, RANK, ALPHA)


def experts_vectors(own: Layout, experts: int) -> Tensor:
    """[n, D] adapters that do something."""
    first = initial_vector(own, 0)
    noise = torch.randn(experts, own.size, generator=torch.Generator().manual_seed(1))
    return first + 0.02 * noise


def encoded(model: nn.Module, tokens: Tensor) -> Tensor:
    """[rows, d] mean of the last layer, of length 1."""
    hidden = model(input_ids=tokens).last_hidden_state
    return nn.functional.normalize(hidden.float().mean(dim=1), dim=-1)


def seconds(work: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Median, after two runs that do not count."""
    times = []
    for repeat in range(repeats + 2):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if repeat > 1:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Folded:
    """All experts' adapters in one batch.

    Args:
        model: on the device.
        own: layout of the adapters.
        vectors: [n, D].
        tokens: [n * ITEMS, TOKENS].
        wanted: [n * ITEMS, d] where training is to bring each text.
    """

    def __init__(
        self, model: nn.Module, own: Layout, vectors: Tensor, tokens: Tensor, wanted: Tensor
    ) -> None:
        self._model, self._layout = model, own
        self._vectors = vectors.clone().requires_grad_()
        self._tokens, self._wanted = tokens, wanted
        self._optimiser = torch.optim.Adam([self._vectors], lr=1e-3, foreach=True)

    @property
    def vectors(self) -> Tensor:
        """[n, D] as they are now, on the CPU."""
        return self._vectors.detach().cpu()

    def _run(self) -> Tensor:
        kind = next(self._model.parameters()).dtype
        with adapted(self._model, self._layout, self._vectors.to(kind)):
            return encoded(self._model, self._tokens)

    @torch.no_grad()
    def forward(self) -> Tensor:
        """As in measuring."""
        return self._run()

    def step(self) -> None:
        """As in training."""
        self._optimiser.zero_grad(set_to_none=True)
        # Each adapter's own mean, so that a step does not depend on how many share the batch.
        loss = ((self._run() - self._wanted) ** 2).sum() / ITEMS
        torch.autograd.backward(loss)
        self._optimiser.step()


class OneByOne:
    """Stock PEFT: one model with one adapter, which each expert has in turn.

    Args:
        model: on the device.
        own: layout of the adapters.
        vectors: [n, D].
        tokens: [n * ITEMS, TOKENS].
        wanted: [n * ITEMS, d].
    """

    def __init__(
        self, model: nn.Module, own: Layout, vectors: Tensor, tokens: Tensor, wanted: Tensor
    ) -> None:
        from peft import LoraConfig, get_peft_model

        names = [module.name for module in own.modules]
        config = LoraConfig(r=own.rank, lora_alpha=int(own.alpha), target_modules=names)
        self._model: Any = get_peft_model(deepcopy(model), config)
        self._layout, self._vectors = own, vectors
        self._tokens, self._wanted = tokens, wanted

    def load(self, expert: int) -> None:
        """An expert's adapter into the model."""
        base = self._model.base_model.model
        for name, (a, b) in self._layout.unpack(self._vectors[expert : expert + 1]).items():
            module = base.get_submodule(name)
            module.lora_A["default"].weight.data.copy_(a[0])
            module.lora_B["default"].weight.data.copy_(b[0])

    def _rows(self, expert: int) -> slice:
        return slice(expert * ITEMS, (expert + 1) * ITEMS)

    @torch.no_grad()
    def forward(self) -> Tensor:
        """As in measuring, expert by expert."""
        made = []
        for expert in range(len(self._vectors)):
            self.load(expert)
            made.append(encoded(self._model, self._tokens[self._rows(expert)]))
        return torch.cat(made)

    def step(self) -> None:
        """One step of each expert, with an optimiser of its own."""
        weights = [p for p in self._model.parameters() if p.requires_grad]
        for expert in range(len(self._vectors)):
            self.load(expert)
            optimiser = torch.optim.Adam(weights, lr=1e-3, foreach=True)
            optimiser.zero_grad(set_to_none=True)
            made = encoded(self._model, self._tokens[self._rows(expert)])
            loss = ((made - self._wanted[self._rows(expert)]) ** 2).sum(dim=1).mean()
            torch.autograd.backward(loss)
            optimiser.step()


def products(model: nn.Module, experts: int, device: torch.device) -> Callable[[], None]:
    """The matrix products of one folded forward, of the same shapes, and nothing else."""
    config: Any = model.config
    kind = next(model.parameters()).dtype
    width, heads, rows = config.hidden_size, config.num_attention_heads, experts * ITEMS * TOKENS

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=kind)

    hidden, inner = some(rows, width), some(rows, 4 * width)
    square, up, down = some(width, width), some(width, 4 * width), some(4 * width, width)
    head = some(experts * ITEMS * heads, TOKENS, width // heads)
    looks = some(experts * ITEMS * heads, TOKENS, TOKENS)
    grouped = hidden.view(experts, -1, width)
    low_a, low_b = some(experts, width, RANK), some(experts, RANK, width)

    @torch.no_grad()
    def work() -> None:
        for _ in range(config.num_hidden_layers):
            for _ in range(4):  # query, key, value, output
                hidden @ square
            torch.bmm(head, head.transpose(1, 2))
            torch.bmm(looks, head)
            hidden @ up
            inner @ down
            for _ in TARGETS:
                torch.bmm(torch.bmm(grouped, low_a), low_b)

    return work


def measure(experts: int, device: torch.device, kind: torch.dtype) -> dict[str, Any]:
    """Both ways in one precision, and whether they give the same."""
    model = bert().to(device, kind)
    own = layout(model)
    vectors = experts_vectors(own, experts).to(device)
    random = torch.Generator().manual_seed(2)
    tokens = torch.randint(1000, 30_000, (experts * ITEMS, TOKENS), generator=random).to(device)
    width: int = model.config.hidden_size  # type: ignore[union-attr, assignment]
    wanted = nn.functional.normalize(torch.randn(len(tokens), width, generator=random), dim=1).to(
        device
    )
    folded = Folded(model, own, vectors, tokens, wanted)
    alone = OneByOne(model, own, vectors.to(kind), tokens, wanted)
    apart = float((folded.forward() * alone.forward()).sum(dim=1).min())
    found: dict[str, Any] = {
        "precision": str(kind).removeprefix("torch."),
        "least_cosine_of_both_ways": round(apart, 6),
        "embeddings": folded.forward().cpu(),
    }
    for name in ("forward", "step"):
        together = seconds(getattr(folded, name), device)
        one_by_one = seconds(getattr(alone, name), device, 3)
        found[name] = {
            "folded_ms": round(1e3 * together, 3),
            "peft_one_by_one_ms": round(1e3 * one_by_one, 3),
            "times": round(one_by_one / together, 1),
        }
    plain = seconds(products(model, experts, device), device)
    found["products_of_a_forward_ms"] = round(1e3 * plain, 3)
    found["share_of_products"] = round(1e3 * plain / found["forward"]["folded_ms"], 3)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure single precision, with TF32 products, and bfloat16; write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--experts", type=int, default=64)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    torch.set_float32_matmul_precision("high")
    rows = [measure(given.experts, device, kind) for kind in (torch.float32, torch.bfloat16)]
    single, half = (row.pop("embeddings") for row in rows)
    best = max(rows, key=lambda row: row["share_of_products"])
    found = {
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else "none",
        "experts": given.experts,
        "texts_of_each": ITEMS,
        "tokens_of_each_text": TOKENS,
        "runs": rows,
        "least_cosine_of_bfloat16_with_single": round(float((single * half).sum(1).min()), 6),
        "reached": {
            "times": {
                row["precision"]: min(row["forward"]["times"], row["step"]["times"]) >= GOAL_TIMES
                for row in rows
            },
            "share": best["share_of_products"] >= GOAL_SHARE,
        },
        "goals": {"times": GOAL_TIMES, "share": GOAL_SHARE},
    }
    print(json.dumps(found, indent=1))
    machine.write("gpu", machine.facts("torch", "transformers", "peft") | found)


if __name__ == "__main__":
    main()

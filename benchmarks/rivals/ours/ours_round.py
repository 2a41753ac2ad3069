"""sglora-fed: the library's own exchanges with all their checks, two nodes for all virtual clients.

PYTHONPATH=.:benchmarks python benchmarks/rivals/ours/ours_round.py noop 20000 OUT
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

import bench_overhead
from rivals import work
from sglora_fed.config import compose
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.run import open_federation
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.private import SHARED
from sglora_fed.federation.shared import (
    SharedReply,
    SharedRequest,
    robust_mean,
    train_shared_round,
)

CORES = 2
client = ClientApp()


@client.train("shared")
def train(message: Message, context: Context) -> Message:
    """The mean of the LoRAs of the clients that are named."""
    request = SharedRequest.parse(message.content, work.node().layout.size)
    return Message(train_shared_round(work.node(), request).pack(), reply_to=message)


def noop(count: int, output: Path) -> None:
    """Both exchanges of the app without a model, through a SuperLink as ``simulate`` has it."""
    seconds = bench_overhead.exchanged(bench_overhead.through_flower, count, work.size(), 2)
    output.write_text(json.dumps({"seconds": sum(seconds[1]), "mean": []}))


def lora(names: tuple[str, ...], folder: Path, grid: Grid) -> work.Round:
    """One round; a node has a share of the clients."""
    config = compose([*work.WORDS, f"federation.nodes={CORES}"])
    federation = open_federation(config, grid, ProgressLog(folder / "progress.jsonl"))
    shares = [names[first::CORES] for first in range(CORES)]
    most = 8 * federation.layout.size + NAME_BYTES * len(names)

    def once() -> np.ndarray:
        asked = {
            node: SharedRequest(work.SEED, 1, share, work.start())
            for node, share in zip(federation.nodes, shares, strict=True)
        }
        replies = federation.ask(SHARED, asked, partial(parsed, federation), most).values()
        counts = np.array([len(reply.ids) for reply in replies], float)
        return robust_mean(np.stack([reply.mean for reply in replies]), counts)

    return once


def parsed(federation: Federation, request: SharedRequest, body: RecordDict) -> SharedReply:
    """A node's mean, of all who were asked.

    Raises:
        MessageError: for what no training could have made.
        SystemError: when clients are missing.
    """
    reply = SharedReply.parse(body, federation.layout.size)
    federation.check_norms(reply.mean[None])
    if reply.ids != request.ids:
        raise SystemError(f"{len(request.ids)} clients, {len(reply.ids)} answered")
    return reply


def main() -> None:
    """Without a model, or a round of the shared LoRA."""
    # Workers import it: what belongs to __main__ would be copied.
    from rivals.flower import flower_round
    from rivals.ours import ours_round

    kind, count, output = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if kind == "noop":
        noop(count, output)
    else:
        made = partial(lora, work.names(count), output.parent)
        flower_round.simulated(ours_round.client, CORES, made)


if __name__ == "__main__":
    main()

"""The server of a toy with the contract of the real app; its first override says what it does."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    overrides = shlex.split(str(context.run_config["overrides"]))
    output = Path(str(context.run_config["output"]))
    if overrides[0] == "refuse":
        (output / "error.json").write_text(json.dumps({"code": 801, "message": "[SGL-801] few"}))
        raise SystemError("refused")
    while len(nodes := list(grid.get_node_ids())) < 2:
        time.sleep(0.1)
    ask = RecordDict({"c": ConfigRecord({"any": 1})})
    replies = grid.send_and_receive([Message(ask, node, "query.where") for node in nodes])
    told = [reply.content["c"] for reply in replies]
    if overrides[0] == "hang":
        (output / "hanging").write_text("")
        time.sleep(600)
    found = {
        "overrides": overrides,
        "goal": context.run_config["goal"],
        "partitions": sorted(one["partition"] for one in told),
        "home": os.environ["FLWR_HOME"],
    }
    (output / "summary.json").write_text(json.dumps(found))

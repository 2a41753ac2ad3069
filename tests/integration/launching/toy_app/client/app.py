"""The client of the toy."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query("where")
def where(message: Message, context: Context) -> Message:
    told = ConfigRecord({"partition": int(context.node_config["partition-id"])})
    return Message(RecordDict({"c": told}), reply_to=message)

"""What leaves of a description is the draw of its mechanism: no other byte depends on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.common.serde import recorddict_to_proto

from sglora_fed.config import compose
from sglora_fed.federation.describe import DescribeRequest, describe
from sglora_fed.federation.node import Node
from sglora_fed.federation.terms import agree
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.privacy.floor import virtual_floor
from sglora_fed.privacy.mechanisms import krr, subset

ENTRIES = ("cars", "money", "trips", "food")

TINY = (
    "experiment=assistant", "family.rule_experts=2", "family.style_experts=0",
    "family.clients_per_split=1",
)  # fmt: skip

Sent = Callable[[str], bytes]


@pytest.fixture
def sent(tmp_path: Path, told: tuple[str, ...]) -> Sent:
    """A function of what all clients say: the whole message of their node, with a fresh ledger."""
    path = tmp_path / "list.json"
    write_catalogue(Catalogue("own", 1, ENTRIES), path)
    overrides = [*TINY, *told, *([f"privacy.catalogue={path}"] if len(told) > 1 else [])]
    config = compose(overrides)

    def message(said: str) -> bytes:
        node = Node(config, 0, 1, None, virtual_floor(config.privacy, 1, tmp_path / said))
        saying = {
            name: replace(task, description=said, paraphrases=())
            for name, task in node.clients.items()
        }
        node.__dict__["clients"] = saying
        request = DescribeRequest(0, agree(config, node.describer).terms)
        body = recorddict_to_proto(describe(node, request).pack())
        return bytes(body.SerializeToString(deterministic=True))

    return message


KRR = ("privacy=krr", "privacy.epsilon=60")
SUBSET = ("privacy=subset", "privacy.epsilon=60", "privacy.replies=2")


@pytest.mark.parametrize("told", [KRR, SUBSET, ("privacy=local",)])
def test_a_draw_that_is_the_same_makes_the_same_message(
    sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(krr, "respond", lambda *_: 1)
    monkeypatch.setattr(subset, "among", lambda *_: [0, 2])
    assert len({sent(said) for said in (*ENTRIES, "a trip by car, for the food")}) == 1


@pytest.mark.parametrize("told", [KRR])
def test_the_draw_would_be_seen(sent: Sent) -> None:
    assert len({sent(said) for said in ENTRIES}) == 4

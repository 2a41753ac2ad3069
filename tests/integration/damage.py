"""What a hostile node does to an honest reply."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, Message, RecordDict

from sglora_fed.federation.wordings import WORDINGS

Damage = Callable[[RecordDict], None]

HONEST, HOSTILE = 0, 1
"""Partitions of the two nodes."""


def field(name: str, value: object) -> Damage:
    def damage(body: RecordDict) -> None:
        body["fields"][name] = value  # type: ignore[index]

    return damage


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(body: RecordDict) -> None:
        arrays: Any = body["arrays"]
        arrays[name] = Array(np.ascontiguousarray(change(arrays[name].numpy())))

    return damage


def raw(name: str, data: Callable[[bytes], bytes]) -> Damage:
    """Other bytes under the same claim of type and shape."""

    def damage(body: RecordDict) -> None:
        arrays: Any = body["arrays"]
        old = arrays[name]
        arrays[name] = Array(old.dtype, old.shape, old.stype, data(old.data))

    return damage


def without(name: str) -> Damage:
    def damage(body: RecordDict) -> None:
        del body["arrays"][name]  # type: ignore[attr-defined]

    return damage


def nothing_at_all(body: RecordDict) -> None:
    body.clear()


def nan_first(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[0] = np.nan
    return values


def doubled(values: np.ndarray) -> np.ndarray:
    return values * 2


def narrower(values: np.ndarray) -> np.ndarray:
    return values[..., 1:]


def in_double(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def empty_but_more_to_come(body: RecordDict) -> None:
    """Experts that remain, but none of them: the server would ask for ever."""
    for name in ("wordings", "means", "variances", "examples"):
        array(name, lambda values: values[:0])(body)
    field("trained", [])(body)


def npy(shape: str) -> bytes:
    """An array's bytes whose own header says something else than the message."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros(3))
    return buffer.getvalue()


def one_method_less(body: RecordDict) -> None:
    array("values", lambda values: values[:, :-1])(body)
    array("seconds", lambda values: values[:-1])(body)


def one_method_more(body: RecordDict) -> None:
    array("values", lambda values: np.concatenate([values, values[:, :1]], axis=1))(body)
    array("seconds", lambda values: np.append(values, 0.0))(body)


def wordings_cancel(body: RecordDict) -> None:
    """Unit vectors all of them, but no direction in their mean."""
    array("wordings", lambda values: values[:, :1] * np.tile([1, -1], WORDINGS // 2)[:, None])(body)
    array("wordings", lambda values: values.astype(np.float32))(body)


def damaging(kind: str, damage: Damage) -> Callable[[Any], Message]:
    """The hostile node damages its first reply of a kind, and all later ones."""

    def between(exchange: Any) -> Message:
        if exchange.kind == kind and exchange.partition == HOSTILE:
            damage(exchange.reply.content)
        reply: Message = exchange.reply
        return reply

    return between

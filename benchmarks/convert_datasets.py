"""Convert public intent data sets into task families on disk (rules or writing styles).

    python benchmarks/convert_datasets.py clinc150 --source DIR --out DIR --as rules

``--source`` holds ``examples.jsonl`` or ``examples.jsonl.gz``; benchmarks/README.md tells its
fields and what to do with the result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import ConfigError, SgloraError, TaskFileError
from sglora_fed.tasks.export import write_family
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.jsonl import choice_of, read_lines, text_of
from sglora_fed.tasks.topics import (
    Part,
    TopicTable,
    Utterance,
    parse_table,
    plain_topics,
    shipped_table,
)
from sglora_fed.tasks.types import TaskFamily

EXPERTS = {"rules": 64, "styles": 40}


@dataclass(frozen=True)
class Source:
    """How a data set's rows are read: its field of the part, and what its values mean."""

    part: str
    parts: Mapping[str, Part | None]
    table: Callable[[], TopicTable]


def hwu64_table() -> TopicTable:
    """The scenarios of HWU64, those with one intent merged."""
    return parse_table((Path(__file__).parent / "tables" / "hwu64.yaml").read_text("utf-8"))


SOURCES = {
    # The validation part stays unused: neither trained on nor tested on.
    "clinc150": Source(
        "split", {"train": "train", "val": None, "test": "test"}, lambda: shipped_table("clinc_oos")
    ),
    "hwu64": Source("fold1", {"train": "train", "test": "test"}, hwu64_table),
}


def convert(name: str, source: Path, config: FamilyConfig) -> TaskFamily:
    """A data set as a family.

    Raises:
        TaskFileError: when the source cannot be read or has none of the data set's intents.
        TaskError: when the data set allows fewer tasks than ``config`` asks for.
    """
    table = SOURCES[name].table()
    topics = plain_topics(_rows(SOURCES[name], source), table)
    if not topics:
        raise TaskFileError(
            f"{source}: none of the intents of {name}, such as {[*table.topic_of][:3]}"
        )
    return build_family(name, topics, config)


def _rows(source: Source, folder: Path) -> Iterator[Utterance]:
    for where, row in read_lines(folder, "examples.jsonl"):
        text, intent = (text_of(where, field, row.get(field)) for field in ("text", "intent"))
        value = choice_of(where, source.part, row.get(source.part), tuple(source.parts))
        part = source.parts[value]
        if part is not None:
            yield Utterance(intent, text, part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert, say what was written, and return the exit code."""
    given = _parser().parse_args(arguments)
    experts = EXPERTS[given.kind] if given.experts is None else given.experts
    config = FamilyConfig(
        seed=given.seed,
        rule_experts=experts if given.kind == "rules" else 0,
        style_experts=experts if given.kind == "styles" else 0,
        clients_per_split=given.clients,
        train_per_client=given.train,
        test_per_client=given.test,
        unseen_forms=given.unseen_forms,
        unseen_styles=given.unseen_styles,
        several_ways=given.several_ways,
    )
    try:
        if problems := config.problems():
            raise ConfigError(problems)
        family = convert(given.dataset, given.source, config)
        write_family(family, given.out)
    except SgloraError as error:
        print(error, file=sys.stderr)
        return 1
    print(summary(family, given.out))
    return 0


def summary(family: TaskFamily, out: Path) -> str:
    """What was written, in words."""
    counts: dict[str, int] = {}
    for task in family.tasks:
        counts[task.split] = counts.get(task.split, 0) + 1
    tasks = ", ".join(f"{count} {split}" for split, count in counts.items())
    examples = sum(len(task.train) + len(task.test) for task in family.tasks)
    return f"{tasks}; {examples} examples in {out.absolute()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    add: Any = parser.add_argument
    add("dataset", choices=sorted(SOURCES))
    add("--source", type=Path, required=True, help="folder with examples.jsonl(.gz)")
    add("--out", type=Path, required=True, help="folder of the family; made when missing")
    add("--as", dest="kind", choices=sorted(EXPERTS), required=True)
    add("--experts", type=int, help=f"default: {EXPERTS}")
    add("--clients", type=int, default=20, help="unseen clients in each split (20)")
    add("--train", type=int, default=320, help="training examples of a task (320)")
    add("--test", type=int, default=120, help="test examples of a task (120)")
    add("--unseen-forms", action="store_true", help="experts have sets of three topics alone")
    add("--unseen-styles", type=int, default=0, help="styles that no expert has (0)")
    add("--several-ways", action="store_true", help="users say each topic in every way")
    add("--seed", type=int, default=0, help="of splits and draws (0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

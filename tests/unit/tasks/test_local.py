"""Families in a folder: what is written comes back, and every mistake names its place."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.errors import ResultsError, TaskError, TaskFileError
from sglora_fed.tasks.export import write_family
from sglora_fed.tasks.jsonl import LONGEST_LINE
from sglora_fed.tasks.local import local_family
from sglora_fed.tasks.types import Example, Task, TaskFamily
from sglora_fed.tasks.visible import is_visible

TASK: dict[str, Any] = {
    "id": "a",
    "description": "Sort my mail.",
    "labels": {"y": "yes", "n": "no"},
    "role": "client",
    "split": "mine",
}
EXAMPLES: list[dict[str, Any]] = [
    {"task": "a", "text": "one", "label": "y", "part": "train"},
    {"task": "a", "text": "two", "label": "n", "part": "train"},
    {"task": "a", "text": "three", "label": "y", "part": "test"},
    {"task": "a", "text": "four", "label": "n", "part": "test"},
]


def lines(values: list[Any]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def folder_with(folder: Path, tasks: list[Any], examples: list[Any]) -> Path:
    (folder / "tasks.jsonl").write_text(lines(tasks))
    (folder / "examples.jsonl").write_text(lines(examples))
    return folder


def changed(**fields: Any) -> dict[str, Any]:
    return {k: v for k, v in (TASK | fields).items() if v is not None}


def example(number: int = 0, **fields: Any) -> list[dict[str, Any]]:
    row = {k: v for k, v in (EXAMPLES[number] | fields).items() if v is not None}
    return [*EXAMPLES[:number], row, *EXAMPLES[number + 1 :]]


# Writing and reading


texts = st.text(min_size=1, max_size=20).filter(is_visible)
hints = st.one_of(texts, st.lists(texts, min_size=1, max_size=3).map(tuple))
keys = st.text("abcXYZ019._-", min_size=1, max_size=6)


@st.composite
def labelled_tasks(draw: st.DrawFn, name: str) -> Task:
    labels = draw(
        st.lists(texts, min_size=2, max_size=4, unique_by=lambda text: text.strip().lower())
    )
    named = {f"k{i}": text for i, text in enumerate(labels)}
    every = [Example(draw(texts), key) for key in named]
    extra = draw(st.lists(st.builds(Example, texts, st.sampled_from(sorted(named))), max_size=3))
    role = draw(st.sampled_from(["expert", "client"]))
    return Task(
        id=name,
        description=draw(texts),
        labels=named,
        train=tuple(every + extra) if role == "expert" or draw(st.booleans()) else (),
        test=tuple(extra + every) if role == "client" or draw(st.booleans()) else (),
        role=role,
        split="expert" if role == "expert" else draw(keys.filter(lambda t: t != "expert")),
        paraphrases=tuple(draw(st.lists(texts, max_size=3))),
        hints=draw(st.dictionaries(st.sampled_from(sorted(named)), hints)),
    )


@st.composite
def families(draw: st.DrawFn) -> TaskFamily:
    names = draw(st.lists(keys, min_size=1, max_size=4, unique=True))
    return TaskFamily("family", tuple(draw(labelled_tasks(name)) for name in names))


@settings(max_examples=60, deadline=None)
@given(families())
def test_a_family_survives_the_disk(family: TaskFamily) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "family"
        write_family(family, folder)
        assert local_family(folder, seed=0) == family


def picture(folder: Path, name: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"any")
    return str(path.resolve())


def captioned(images: list[str]) -> Task:
    pairs = tuple(Example(image, f"caption of {number}") for number, image in enumerate(images))
    return Task("pics", "Find my pictures.", {}, pairs, pairs, kind="retrieval", modality="image")


def test_captions_survive_and_the_folder_can_move(tmp_path: Path) -> None:
    images = [picture(tmp_path / "old", f"images/{n}.png") for n in range(3)]
    task = replace(captioned(images), split="unseen")
    write_family(TaskFamily("old", (task,)), tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    (read,) = local_family(tmp_path / "new", seed=0).tasks
    moved = [str(tmp_path / "new" / "images" / f"{n}.png") for n in range(3)]
    assert [e.item for e in read.test] == moved
    assert read == replace(captioned(moved), split="unseen")


def test_labelled_images(tmp_path: Path) -> None:
    picture(tmp_path, "cat.png")
    rows = [{**row, "image": "cat.png"} for row in EXAMPLES]
    for row in rows:
        del row["text"]
    (task,) = local_family(folder_with(tmp_path, [TASK], rows), seed=0).tasks
    assert (task.kind, task.modality) == ("labelled", "image")
    assert {e.item for e in task.train} == {str(tmp_path / "cat.png")}


def test_the_same_family_gives_the_same_bytes(tmp_path: Path) -> None:
    family = local_family(folder_with(tmp_path, [TASK], EXAMPLES), seed=0)
    for name in ("one", "two"):
        write_family(family, tmp_path / name)
    for name in ("tasks.jsonl", "examples.jsonl.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_nothing_is_written_beside_a_file_of_the_other_form(tmp_path: Path) -> None:
    family = local_family(folder_with(tmp_path, [TASK], EXAMPLES), seed=0)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ResultsError, match=r"examples\.jsonl is in the way"):
        write_family(family, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_compressed_files_and_a_byte_order_mark(tmp_path: Path) -> None:
    for name, values in (("tasks.jsonl", [TASK]), ("examples.jsonl", EXAMPLES)):
        text = "\ufeff" + lines(values) + "\n\n"
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    (task,) = local_family(tmp_path, seed=0).tasks
    assert [e.item for e in task.test] == ["three", "four"]
    assert (task.role, task.split) == ("client", "mine")


# Roles


def test_without_roles_a_split_is_made_by_the_seed(tmp_path: Path) -> None:
    tasks = [changed(id=f"t{n}", role=None, split=None) for n in range(12)]
    rows = [{**row, "task": task["id"]} for task in tasks for row in EXAMPLES]
    folder = folder_with(tmp_path, tasks, rows)
    clients = {t.id for t in local_family(folder, seed=0).of_role("client")}
    assert len(clients) == 3
    assert clients == {t.id for t in local_family(folder, seed=0).of_role("client")}
    assert any(
        clients != {t.id for t in local_family(folder, seed).of_role("client")} for seed in (1, 2)
    )


def test_a_role_without_a_split(tmp_path: Path) -> None:
    tasks = [changed(split=None), changed(id="b", role="expert", split=None)]
    rows = EXAMPLES + [{**row, "task": "b"} for row in EXAMPLES]
    read = local_family(folder_with(tmp_path, tasks, rows), seed=0).tasks
    assert [(t.role, t.split) for t in read] == [("client", "unseen"), ("expert", "expert")]


# Mistakes

BAD_TASKS: list[tuple[dict[str, Any], str]] = [
    (changed(id=None), r"tasks\.jsonl:1: id is None"),
    (changed(id="a/../b"), r"tasks\.jsonl:1: id 'a/\.\./b'"),
    (changed(description="  "), r"tasks\.jsonl:1: description is '  '"),
    (changed(colour="red"), r"tasks\.jsonl:1: unknown fields \['colour'\]; allowed are"),
    (changed(labels=["yes", "no"]), r"tasks\.jsonl:1: labels is \['yes', 'no'\]"),
    (changed(labels={"y": 1, "n": "no"}), r"tasks\.jsonl:1: labels\['y'\] is 1"),
    (changed(labels={"y": "", "n": "no"}), r"tasks\.jsonl:1: labels\['y'\] is ''"),
    (changed(labels={"y": "No ", "n": "no"}), r"tasks\.jsonl:1: .*duplicate label texts"),
    (changed(hints=["no", "yes"]), r"tasks\.jsonl:1: hints is \['no', 'yes'\]; need texts"),
    (changed(hints={"n": []}), r"tasks\.jsonl:1: .*empty list of hints for \['n'\]"),
    (changed(hints={"n": ["a", 3]}), r"tasks\.jsonl:1: hints\['n'\]"),
    (changed(hints={"z": "zero"}), r"tasks\.jsonl:1: .*hints for unknown labels \['z'\]"),
    (changed(paraphrases="one"), r"tasks\.jsonl:1: paraphrases is 'one'"),
    (changed(paraphrases=["ok", 3]), r"tasks\.jsonl:1: a paraphrase is 3"),
    (changed(role="boss"), r"tasks\.jsonl:1: role is 'boss'; need one of expert, client"),
    (changed(role=["expert"]), r"tasks\.jsonl:1: role is \['expert'\]"),
    (changed(role=None), r"tasks\.jsonl:1: split 'mine' without a role"),
    (changed(split=7), r"tasks\.jsonl:1: split is 7"),
    (changed(role="expert"), r"tasks\.jsonl:1: a task of role 'expert' in split 'mine'"),
    (changed(split="expert"), r"tasks\.jsonl:1: a task of role 'client' in split 'expert'"),
]


@pytest.mark.parametrize(("task", "message"), BAD_TASKS)
def test_a_wrong_task_is_named(tmp_path: Path, task: dict[str, Any], message: str) -> None:
    with pytest.raises((TaskFileError, TaskError), match=message):
        local_family(folder_with(tmp_path, [task], EXAMPLES), seed=0)


INVISIBLE = {
    "zero width": "\u200b\u200d\ufeff",
    "blank Braille": "\u2800 \u2800",
    "Hangul filler": "\u3164",
    "combining marks": "\u0301\u0488\u0903",
    "controls": "\x01\x7f",
    "unassigned": "\U0003fffe",
    "spaces": "\u00a0\u2028\u3000",
}


@pytest.mark.parametrize("text", INVISIBLE.values(), ids=INVISIBLE)
@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("description", lambda text: text),
        ("labels", lambda text: {"y": "yes", "n": text}),
        ("hints", lambda text: {"y": text}),
        ("hints", lambda text: {"y": ["travel", text]}),
        ("paraphrases", lambda text: ["Mail, please.", text]),
    ],
)
def test_words_that_show_nothing_are_named_by_line(
    tmp_path: Path, text: str, field: str, place: Callable[[str], Any]
) -> None:
    tasks = [TASK, changed(**{"id": "b", field: place(text)})]
    with pytest.raises(TaskFileError, match=r"tasks\.jsonl:2: .*(paraphrase|description|\[)"):
        local_family(folder_with(tmp_path, tasks, EXAMPLES), seed=0)


@pytest.mark.parametrize("text", INVISIBLE.values(), ids=INVISIBLE)
def test_an_example_that_shows_nothing_is_named_by_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(TaskFileError, match=r"examples\.jsonl:3: text is"):
        local_family(folder_with(tmp_path, [TASK], example(2, text=text)), seed=0)


@pytest.mark.parametrize(
    "text", ["!", "7", "\u00e9", "e\u0301", "\U0001f600", "\u0639", "\u4eba", "a\u200b", "\u2026"]
)
def test_one_visible_character_is_a_text(tmp_path: Path, text: str) -> None:
    rows = example(2, text=text)
    (task,) = local_family(folder_with(tmp_path, [changed(description=text)], rows), 0).tasks
    assert (task.description, task.test[0].item) == (text, text)


BAD_EXAMPLES: list[tuple[list[dict[str, Any]], str]] = [
    (example(1, label="maybe"), r"examples\.jsonl:2: label 'maybe'; .* are \['y', 'n'\]"),
    (example(1, task="b"), r"examples\.jsonl:2: task 'b' is not in tasks\.jsonl"),
    (example(2, part="dev"), r"examples\.jsonl:3: part is 'dev'; need one of train, test"),
    (example(0, text=None), r"examples\.jsonl:1: has neither of text and image"),
    (example(0, image="x.png"), r"examples\.jsonl:1: has both of text and image"),
    (example(0, label=None), r"examples\.jsonl:1: has neither of label and caption"),
    (example(0, label=None, caption="c"), r"examples\.jsonl:1: a caption belongs to an image"),
    (example(3, text=""), r"examples\.jsonl:4: text is ''"),
    (example(3, text="\ud800"), r"examples\.jsonl:4: text is .* surrogates"),
    (example(3, weight=1), r"examples\.jsonl:4: unknown fields \['weight'\]"),
    (example(3, text=None, image="no.png"), r"examples\.jsonl:4: a labelled image example"),
    (example(3, label="y"), r"tasks\.jsonl:1: .* all test examples have the label"),
    (EXAMPLES[:2], r"tasks\.jsonl:1: client 'a' has no test examples"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_EXAMPLES)
def test_a_wrong_example_is_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises((TaskFileError, TaskError), match=message):
        local_family(folder_with(tmp_path, [TASK], rows), seed=0)


def test_one_label_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "label": "y"} for row in EXAMPLES]
    with pytest.raises(TaskError, match=r"tasks\.jsonl:1: .*1 label"):
        local_family(folder_with(tmp_path, [changed(labels={"y": "yes"})], rows), seed=0)


def test_an_expert_needs_training_examples(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [changed(role="expert", split=None)], EXAMPLES[2:])
    with pytest.raises(TaskError, match="expert 'a' has no train examples"):
        local_family(folder, seed=0)


def test_the_same_id_twice_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match=r"jsonl:2: id 'a' is already at .*jsonl:1"):
        local_family(folder_with(tmp_path, [TASK, TASK], EXAMPLES), seed=0)


def test_some_roles_only(tmp_path: Path) -> None:
    tasks = [TASK, changed(id="b", role=None, split=None)]
    rows = EXAMPLES + [{**row, "task": "b"} for row in EXAMPLES]
    with pytest.raises(TaskFileError, match=r"jsonl:2: no role, but 1 of 2"):
        local_family(folder_with(tmp_path, tasks, rows), seed=0)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "link.png", "a\0b", "none.png"])
def test_an_image_must_be_a_file_inside(tmp_path: Path, name: str) -> None:
    picture(tmp_path, "secret.png")
    folder = tmp_path / "family"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    rows = [{"task": "a", "image": name, "caption": "c", "part": "test"}]
    with pytest.raises(TaskFileError, match=r"examples\.jsonl:1: image"):
        local_family(folder_with(folder, [changed(labels=None)], rows), seed=0)


def test_captions_and_labels_do_not_mix(tmp_path: Path) -> None:
    picture(tmp_path, "x.png")
    rows = [{"task": "a", "image": "x.png", "caption": "c", "part": "test"}]
    with pytest.raises(TaskError, match=r"tasks\.jsonl:1: a task with captions has no labels"):
        local_family(folder_with(tmp_path, [TASK], rows), seed=0)


def damage_truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damage_block(data: bytes) -> bytes:
    return data[:10] + b"\xff" + data[11:]  # no deflate block has this type


def damage_checksum(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


def damage_plain(data: bytes) -> bytes:
    return gzip.decompress(data)


DAMAGES = [damage_truncate, damage_block, damage_checksum, damage_plain]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_gzip(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder_with(tmp_path, [TASK], [])
    (tmp_path / "examples.jsonl").unlink()
    whole = gzip.compress(lines(EXAMPLES).encode())
    (tmp_path / "examples.jsonl.gz").write_bytes(damage(whole))
    with pytest.raises(TaskFileError, match=r"examples\.jsonl\.gz cannot be read"):
        local_family(tmp_path, seed=0)


BAD_LINES = [
    (b"{", "not JSON"),
    (b"[1]", "a JSON list; need an object"),
    (b"\xff\xfe", "not UTF-8"),
    (b'{"id": "a", "id": "b"}', "the key 'id' occurs twice"),
    (b"[" * 100_000, "not JSON"),
    (b'"' + b"x" * LONGEST_LINE + b'"', "longer than"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES, ids=[m for _, m in BAD_LINES])
def test_a_line_that_is_no_object(tmp_path: Path, line: bytes, message: str) -> None:
    folder_with(tmp_path, [TASK], EXAMPLES)
    (tmp_path / "tasks.jsonl").write_bytes(b"\n" + line + b"\n")
    with pytest.raises(TaskFileError, match=rf"tasks\.jsonl:2: .*{message}"):
        local_family(tmp_path, seed=0)


def test_both_forms_or_neither(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match=r"neither of tasks\.jsonl and tasks\.jsonl\.gz"):
        local_family(tmp_path, seed=0)
    with pytest.raises(TaskFileError, match="nowhere is no folder"):
        local_family(tmp_path / "nowhere", seed=0)
    folder_with(tmp_path, [TASK], EXAMPLES)
    (tmp_path / "tasks.jsonl.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(TaskFileError, match="both"):
        local_family(tmp_path, seed=0)


def test_no_tasks(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match="holds no task"):
        local_family(folder_with(tmp_path, [], []), seed=0)

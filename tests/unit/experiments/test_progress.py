"""Progress written by one side and drawn by the other."""

from __future__ import annotations

import io
import json
from pathlib import Path
from threading import Event, RLock, Thread

import pytest
from rich.console import Console
from rich.progress import Task, TaskID

from sglora_fed.errors import ResultsError
from sglora_fed.experiments.progress import ProgressLog, _Left, follow


def drawn(path: Path) -> str:
    """The last state that a follower draws of what is in a file."""
    stop, text = Event(), io.StringIO()
    stop.set()
    follow(path, stop, Console(file=text, width=100, force_terminal=True))
    return text.getvalue().rpartition("\r")[2]


def told(path: Path) -> list[str]:
    """What somebody reads who has no terminal."""
    stop, text = Event(), io.StringIO()
    stop.set()
    follow(path, stop, Console(file=text, width=40))
    first, *lines = text.getvalue().splitlines()
    assert first == "starting"
    return lines


def test_lines_say_what_was_done(tmp_path):
    path = tmp_path / "new" / "progress.jsonl"
    report = ProgressLog(path).reporter("experts")
    report(1, 4)
    report(4, 4)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["stage"], line["done"], line["total"]) for line in lines] == [
        ("experts", 1, 4),
        ("experts", 4, 4),
    ]
    assert 0 <= lines[0]["seconds"] <= lines[1]["seconds"]


def test_an_older_file_is_emptied(tmp_path):
    path = tmp_path / "progress.jsonl"
    ProgressLog(path).reporter("experts")(1, 2)
    ProgressLog(path)
    assert path.read_text() == ""


def test_bars_show_each_stage(tmp_path):
    log = ProgressLog(tmp_path / "p")
    log.reporter("experts")(20, 20)
    log.reporter("[red]evaluate")(3, 7)
    text = drawn(tmp_path / "p")
    assert "20/20" in text
    assert "3/7" in text
    assert "[red]evaluate" in text


def test_a_stage_starts_again_for_the_next_seed(tmp_path):
    log = ProgressLog(tmp_path / "p")
    log.reporter("experts")(20, 20)
    log.reporter("evaluate")(5, 5)
    log.reporter("experts")(4, 16)
    text = drawn(tmp_path / "p")
    assert "4/16" in text
    assert text.count("experts") == 1


def test_what_is_left_goes_by_the_mean_speed(tmp_path):
    """A message brings many at once: the speed of that moment says nothing."""
    task = Task(TaskID(0), "evaluate", 120, 40, _get_time=lambda: 60.0, _lock=RLock())
    task.start_time = 0.0
    task.fields["before"] = 0
    assert _Left().render(task).plain == "about 0:02:00 left"
    task.fields["before"] = 30  # recalled
    assert _Left().render(task).plain == "about 0:08:00 left"
    task.completed = 120
    task.finished_time = 90.0
    assert _Left().render(task).plain == ""


def test_a_log_gets_lines_of_each_stage_and_not_of_each_step(tmp_path):
    steps = [("experts", 0, 0.0), ("experts", 5, 3.0), ("experts", 9, 12.5), ("experts", 20, 15.0)]
    steps += [("[red]evaluate", 1, 15.5), ("[red]evaluate", 2, 16.0)]
    lines = [
        json.dumps({"stage": stage, "done": done, "total": 20, "seconds": seconds})
        for stage, done, seconds in steps
    ]
    (tmp_path / "p").write_text("".join(f"{line}\n" for line in lines))
    assert told(tmp_path / "p") == [
        "experts 0/20 at 0 s",
        "experts 9/20 at 12 s, about 0:00:15 left",
        "experts 20/20 at 15 s",
        "[red]evaluate 1/20 at 16 s",
    ]


def test_what_was_recalled_is_no_speed(tmp_path):
    """Half of the clients within a second, then one in ten seconds."""
    steps = [("recalled", 25, 0.5), ("recalled", 50, 1.0), ("evaluate", 50, 1.0)]
    lines = [
        json.dumps({"stage": stage, "done": done, "total": 100, "seconds": seconds})
        for stage, done, seconds in [*steps, ("evaluate", 51, 11.0)]
    ]
    (tmp_path / "p").write_text("".join(f"{line}\n" for line in lines))
    assert told(tmp_path / "p")[-1] == "evaluate 51/100 at 11 s, about 0:08:10 left"


def test_half_a_line_is_not_read(tmp_path):
    path = tmp_path / "p"
    ProgressLog(path).reporter("experts")(2, 9)
    with path.open("a") as file:
        file.write('{"stage": "experts", "do')
    assert "2/9" in drawn(path)


def test_a_follower_waits_for_the_file_and_ends_when_told(tmp_path):
    stop, text = Event(), io.StringIO()
    console = Console(file=text, width=100)
    thread = Thread(target=follow, args=(tmp_path / "p", stop, console), daemon=True)
    thread.start()
    ProgressLog(tmp_path / "p").reporter("fit")(1, 2)
    stop.set()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert "1/2" in text.getvalue()


def test_an_unwritable_place_is_our_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="file"):
        ProgressLog(tmp_path / "file" / "progress.jsonl")

"""Bodies of requests and replies that are steered by which lines of the two parsers they reach.

    pip install atheris
    python benchmarks/fuzz_atheris.py [--runs 150000]

Where ``fuzz_serving.py`` changes honest requests blindly, here libFuzzer keeps what has reached a
new branch and changes that further. Each parser runs in a process of its own, with a small encoder
and layout, so that few bytes decide. Writes ``guided`` into ``results/fuzz-serving.json``: how many
bodies, how they ended, how many branches were reached. Whatever a parser raises besides its own
error, or takes and reads differently the second time, ends the run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import machine

DIM, PLACES, CATALOGUE = 4, 300, "c" * 8
LAYOUT = {"modules": [["q", 2, 3]], "rank": 1, "alpha": 1.0}
LONGEST = 4200
COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")

Outcome = str


def honest_requests(wire: Any) -> list[bytes]:
    """What clients send; the first byte names the type of content."""
    embedding = wire.AdapterRequest(np.array([0.5, -0.5, 0.5, 0.5], np.float16))
    places = wire.AdapterRequest(np.array([0, 7, 299], np.uint16), CATALOGUE)
    read = wire.AdapterRequest(np.array([7], np.uint16), CATALOGUE, 8)
    some = (embedding, places, read)
    return [b"j" + wire.as_json(one) for one in some] + [b"s" + one.pack() for one in some]


def request(wire: Any, data: bytes) -> Outcome:
    """Read a request as the endpoint does; one that is taken must mean the same when sent again."""
    from sglora_fed.errors import RequestError

    accepted = wire.Accepted(DIM, PLACES, CATALOGUE)
    content = wire.JSON if data[:1] < b"p" else wire.SAFETENSORS
    try:
        found = wire.parse_request(data[1:], content, accepted)
    except RequestError:
        return "refused"
    for body, kind in ((found.pack(), wire.SAFETENSORS), (wire.as_json(found), wire.JSON)):
        again = wire.parse_request(body, kind, accepted)
        if again.form != found.form or not np.array_equal(again.released, found.released):
            raise AssertionError("read differently the second time")
    return "taken"


def honest_replies(wire: Any) -> list[bytes]:
    """What the endpoint answers."""
    return [wire.pack_reply(np.full((1, 5), 0.01, np.float32), "g" * 8)]


def reply(wire: Any, data: bytes) -> Outcome:
    """Read a reply as a client does; one that is taken is finite and within the bound."""
    from sglora_fed.adapters.layout import Layout
    from sglora_fed.errors import ReplyError

    layout = Layout.from_dict(LAYOUT)
    try:
        made, _ = wire.parse_reply(data, 1, layout, 1.0)
    except ReplyError:
        return "refused"
    if made.shape != (1, layout.size) or not np.linalg.norm(made) <= 1.001:
        raise AssertionError(f"taken: {made}")
    return "taken"


TARGETS = {"request": (request, honest_requests), "reply": (reply, honest_replies)}


def fuzz(name: str, runs: int, folder: Path) -> None:
    """Read so many bodies in this process, which ends with the last; counts go to a file."""
    import atheris

    with atheris.instrument_imports(include=["sglora_fed.serving.wire", "sglora_fed.tensors"]):
        from sglora_fed.serving import wire
    target, honest = TARGETS[name]
    corpus = folder / name
    corpus.mkdir()
    for number, body in enumerate(honest(wire)):
        (corpus / str(number)).write_bytes(body)
    seen = Counter[Outcome]()

    def one(data: bytes) -> None:
        seen[target(wire, data)] += 1
        if seen.total() % 1000 == 0 or seen.total() >= runs:
            (folder / f"{name}.json").write_text(json.dumps(seen))

    options = [
        f"-runs={runs}",
        f"-max_len={LONGEST}",
        "-seed=1",
        "-timeout=10",
        "-use_value_profile=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], one)
    atheris.Fuzz()


def measured(name: str, runs: int, folder: Path) -> dict[str, Any]:
    """One parser in a process of its own."""
    started = time.monotonic()
    command = [sys.executable, __file__, "--runs", str(runs), "--one", name, str(folder)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-3000:]}")
    outcomes = json.loads((folder / f"{name}.json").read_text())
    branches, features, kept = map(int, COVERED.findall(done.stderr)[-1])
    return {
        "bodies": sum(outcomes.values()),
        "outcomes": outcomes,
        "branches": branches,
        "features": features,
        "kept": kept,
        "seconds": round(time.monotonic() - started, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz both parsers and add what was found to what ``fuzz_serving.py`` has written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=150_000, help="of each parser")
    parser.add_argument("--one", nargs=2, metavar=("TARGET", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        fuzz(given.one[0], given.runs, Path(given.one[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measured(name, given.runs, Path(folder)) for name in TARGETS}
    path = machine.RESULTS / "fuzz-serving.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    machine.write("fuzz-serving", before | {"guided": machine.facts("atheris") | found})


if __name__ == "__main__":
    main()

"""The pages can be followed: their code runs, their commands parse, their links lead somewhere.

Every ```python block runs, the blocks of a page one after the other in one empty folder. A block
that needs what an earlier command makes is marked ```python no-run.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from sglora_fed.cli import app
from sglora_fed.config import compose, config_folder
from sglora_fed.config.building import option_types
from sglora_fed.config.schema import GENERATORS, MECHANISMS
from sglora_fed.errors import ConfigError
from sglora_fed.experiments.sweep import expand

DOCS = Path(__file__).parents[3] / "docs"
README = "../README.md"
PAGES = {page.relative_to(DOCS).as_posix(): page.read_text() for page in DOCS.rglob("*.md")}
PAGES[README] = (DOCS / README).read_text()

FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`]+)`")
OVERRIDE = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)=(\S+)")
REGISTERED = re.compile(r'register_(generator|mechanism)\("(\w+)"')

PREPARE = {
    # Stands in for the adapter that the tutorial's commands make.
    "tutorial/first-run.md": (
        "from pathlib import Path\n"
        "from sglora_fed.adapters.layout import initial_vector\n"
        "from sglora_fed.adapters.peft_io import write_peft\n"
        "from sglora_fed.backbones.weights import base_model\n"
        "from sglora_fed.config import compose\n"
        "from sglora_fed.federation.layouts import run_layout\n"
        "layout = run_layout(compose())\n"
        "vector = initial_vector(layout, 0).numpy()\n"
        "base = base_model('package:cameras', None)\n"
        "write_peft(vector, layout, base, Path('results/first-adapter'))\n"
    ),
}

# One process for all pages, because importing torch takes longer than what they do.
RUNNER = """
import json, os, sys, traceback
failures = {}
for name, folder, codes in json.load(sys.stdin):
    os.makedirs(folder)
    os.chdir(folder)
    values = {"__name__": "__main__"}
    try:
        for code in codes:
            exec(compile(code, name, "exec"), values)
    except BaseException:
        failures[name] = traceback.format_exc()
with open(sys.argv[1], "w") as file:
    json.dump(failures, file)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind its fence, its text, and the line of its first line."""

    info: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    for found in FENCE.finditer(PAGES[page]):
        yield Block(found[1].strip(), found[2], PAGES[page].count("\n", 0, found.start(2)) + 1)


def snippets(page: str) -> list[str]:
    """The page's code, moved to its own lines so that a traceback names the page's."""
    return ["\n" * (b.line - 1) + b.text for b in blocks(page) if b.info == "python"]


WITH_CODE = sorted(page for page in PAGES if snippets(page))


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Page -> traceback, for the pages whose code fails, and for one that must."""
    root = tmp_path_factory.mktemp("snippets")
    jobs = [
        (page, str(root / page.replace("/", "-")), [PREPARE.get(page, ""), *snippets(page)])
        for page in WITH_CODE
    ]
    jobs.append(("planted", str(root / "planted"), ["x = 1", "\n\nx / 0"]))
    report = root / "failures.json"
    command = [sys.executable, "-c", RUNNER, str(report)]
    run = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True)
    assert report.exists(), run.stderr
    return json.loads(report.read_text())


def test_pages_have_code() -> None:
    pages = ("tutorial/first-run", "how-to/own-data", "how-to/own-generator", "how-to/clip")
    assert {f"{page}.md" for page in pages} <= set(WITH_CODE)


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs(page: str, failures: dict[str, str]) -> None:
    assert page not in failures, failures[page]


def test_code_that_fails_is_noticed(failures: dict[str, str]) -> None:
    assert "ZeroDivisionError" in failures["planted"]
    assert "line 3" in failures["planted"]


def commands(page: str) -> list[list[str]]:
    """The commands that a page shows, word by word."""
    shown = [b.text for b in blocks(page) if not b.info.startswith("python")]
    lines = "\n".join(shown).replace("\\\n", " ").splitlines()
    lines += [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", PAGES[page]))]
    wanted = re.compile(r"(?:[A-Z_]+=\S+ )*((?:sglora-fed|flwr run) .*)")
    return [shlex.split(found[1], comments=True) for line in lines if (found := wanted.match(line))]


def run_files(page: str) -> list[list[str]]:
    """The overrides of each run file that a page shows."""
    files = [tomllib.loads(b.text) for b in blocks(page) if b.info == "toml"]
    return [shlex.split(file["overrides"]) for file in files if "overrides" in file]


def composed(words: list[str]) -> list[tuple[str, ...]]:
    """Each configuration's overrides: a sweep has several."""
    overrides = overrides_of(words)
    if words[1] == "sweep":
        return [everything for _, everything in expand(overrides)]
    return [tuple(overrides)]


def overrides_of(words: list[str]) -> list[str]:
    """What a command is given; raises a usage error for an option that does not exist."""
    if words[0] == "flwr":
        told = re.search(r'overrides="([^"]*)"', " ".join(words))
        return shlex.split(told[1]) if told else []
    command, rest = typer.main.get_command(app), words[1:]
    while hasattr(command, "commands"):
        if rest[0] in {name for one in command.params for name in one.opts}:
            return []  # what the whole command line takes, such as --version
        command = command.commands[rest.pop(0)]
    if not rest:  # only named, not shown with what it takes
        return []
    return list(command.make_context(words[0], rest).params.get("overrides") or [])


@pytest.fixture
def _their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators and mechanisms that the pages make, known by name as they say."""
    found = [pair for text in PAGES.values() for pair in REGISTERED.findall(text)]
    names = {"generator": GENERATORS, "mechanism": MECHANISMS}
    for kind, known in names.items():
        more = [name for which, name in found if which == kind]
        assert more
        own = {name: known.get(next(iter(known))) for name in more}
        monkeypatch.setattr(known, "_factories", known._factories | own)


@pytest.mark.usefixtures("_their_own_names")
def test_every_command_can_be_typed() -> None:
    shown = {
        overrides: f"{page}: {shlex.join(words)}"
        for page in PAGES
        for words in commands(page)
        for overrides in composed(words)
    }
    shown |= {tuple(found): f"{page}: a run file" for page in PAGES for found in run_files(page)}
    assert len(shown) > 10
    for overrides, where in shown.items():
        try:
            compose(overrides)
        except ConfigError as error:
            raise AssertionError(f"{where}: {error}") from error


def test_every_override_names_a_real_option() -> None:
    options, count = option_types(), 0
    fields = {name.partition(".")[0] for name in options}
    for page, text in PAGES.items():
        for code in INLINE.findall(FENCE.sub("", text)):
            for key, value in OVERRIDE.findall(code) if OVERRIDE.fullmatch(code) else []:
                group = config_folder() / key
                known = (group / f"{value}.yaml").is_file() if group.is_dir() else key in options
                if key.partition(".")[0] in fields:
                    assert known, f"{page}: {code}"
                count += known
    assert count > 30


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_link_leads_somewhere(page: str) -> None:
    for link in LINK.findall(FENCE.sub("", PAGES[page])):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (DOCS / page).parent / path if path else DOCS / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link

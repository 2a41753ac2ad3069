"""Write docs/reference/configuration.md and errors.md from the code.

python docs/generate_reference.py            # write both pages
python docs/generate_reference.py --check    # exit code 1 when a page is out of date
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from sglora_fed import errors
from sglora_fed.config import RunConfig, config_folder
from sglora_fed.config.building import type_name

REFERENCE = Path(__file__).resolve().parent / "reference"
NOTICE = "<!-- Made by docs/generate_reference.py; change the code, not this page. -->\n"

GLOBAL = "# @package _global_\n"
"""First line of a file that sets options of any group."""

CONFIGURATION = """# Configuration

Every option has a default; the run's experiment, `cameras` unless another is named, chooses some
others, `experiment=assistant` none. Override any of them, in any number, on the command line or in
`flwr run`:

```
sglora-fed simulate generator=topk privacy=gaussian privacy.epsilon=4 "seeds=[0,1,2]"
FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1 \\
  flwr run . --run-config 'overrides="generator=topk privacy=gaussian privacy.epsilon=4"'
```

`GROUP=FILE` takes all settings of a group from `configs/GROUP/FILE.yaml`; `group.option=VALUE`
sets one of them. A list is written `[a,b]`, nothing is `null`, and text with special characters
goes in single quotes: `"family.path='/data/a=b'"`. All mistakes are reported at once (error
[SGL-100](errors.md#sgl-100)).
"""

ERRORS = """# Errors

Every error of sglora-fed derives from `sglora_fed.errors.SgloraError` and starts with its code.
Codes never change their meaning. A process that ends with one has a non-zero exit code. Whatever
fails on a client travels to the server as its code alone.
"""


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them with the code; returns the exit code."""
    pages = {"configuration.md": configuration_page(), "errors.md": errors_page()}
    if arguments == ["--check"]:
        stale = [name for name, text in pages.items() if not _is(REFERENCE / name, text)]
        for name in stale:
            print(f"docs/reference/{name} is out of date; run: python docs/generate_reference.py")
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def configuration_page() -> str:
    """All options by group, with type, default and meaning."""
    run = RunConfig()
    sections = [NOTICE + CONFIGURATION, _table("Run", run, "")]
    for item in fields(run):
        group = getattr(run, item.name)
        if is_dataclass(group):
            sections.append(_table(f"`{item.name}`", group, f"{item.name}.") + _files(item.name))
    return "\n".join(sections)


def _table(title: str, group: Any, prefix: str) -> str:
    rows = "".join(_rows(group, prefix))
    head = "| option | type | default | meaning |\n| --- | --- | --- | --- |\n"
    return f"## {title}\n\n{(group.__doc__ or '').strip()}\n\n{head}{rows}"


def _rows(group: Any, prefix: str) -> Iterator[str]:
    """A line for each option; ``group`` is one with every option at its default."""
    hints = typing.get_type_hints(type(group))
    for item in fields(group):
        usual = getattr(group, item.name)
        if not is_dataclass(usual):
            columns = (f"`{prefix}{item.name}`", type_name(hints[item.name]), f"`{_plain(usual)}`")
            yield f"| {' | '.join(columns)} | {item.metadata['doc']} |\n"
        elif not isinstance(group, RunConfig):
            yield from _rows(usual, f"{prefix}{item.name}.")


def _files(group: str) -> str:
    """The ready-made settings of a group; each file's first line says what they are for."""
    paths = sorted((config_folder() / group).glob("*.yaml"))
    return "\nReady-made:\n\n" + "".join(
        f"- `{group}={path.stem}`: {_file(path)}\n" for path in paths
    )


def _file(path: Path) -> str:
    """A settings file in one line: its purpose, and what differs from the defaults."""
    text = path.read_text(encoding="utf-8")
    run = RunConfig()
    usual = asdict(run if text.startswith(GLOBAL) else getattr(run, path.parent.name))
    sets = ", ".join(_settings(yaml.safe_load(text) or {}, usual))
    purpose = text.removeprefix(GLOBAL).splitlines()[0].removeprefix("# ")
    return purpose + (f" Sets {sets}." if sets else "")


def _settings(values: dict[str, Any], usual: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """An override for each value that differs."""
    for name, value in values.items():
        if name in ("defaults", "name", "mechanism"):
            continue
        if isinstance(value, dict):
            yield from _settings(value, usual[name], f"{prefix}{name}.")
        elif value != _listed(usual[name]):
            yield f"`{prefix}{name}={_plain(value)}`"


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> str:
    """A value as an override writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{','.join(map(str, value))}]"
    return str(value)


def errors_page() -> str:
    """All errors in the order of their codes."""
    return "\n".join([NOTICE + ERRORS, *map(_error, error_classes())])


def error_classes() -> list[type[errors.SgloraError]]:
    """Every class of errors that has a code of its own."""
    found = [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, errors.SgloraError) and item.code
    ]
    return sorted(found, key=lambda item: item.code)


def _error(kind: type[errors.SgloraError]) -> str:
    return (
        f"## SGL-{kind.code}\n\n`{kind.__name__}`: {kind.title}.\n\n{(kind.__doc__ or '').strip()}"
        f"\n\n**How to resolve.** {kind.resolve}\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

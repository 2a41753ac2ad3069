"""The environment of a run: what its processes are told, and what cannot work is refused."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from sglora_fed.config import home as sglora_home
from sglora_fed.config.plugins import PLUGINS
from sglora_fed.errors import InterpreterPathError, PathNameError, ProxyError
from sglora_fed.launching.processes import CONNECTIONS, MARK

LOOPBACK = ("127.0.0.1", "localhost")

SAFE_PATH = re.compile(r"[\w@%+=:,./~-]+")
"""Paths that a shell reads as one word: Ray starts its workers through one, without quotes."""


def check_environment(texts: Sequence[str]) -> None:
    """Refuse what would fail later, in one of Flower's processes and without a reason.

    Args:
        texts: what the user named: paths and overrides.

    Raises:
        InterpreterPathError: when Ray cannot start a worker with this interpreter.
        PathNameError: for a path or an override that is not UTF-8.
        ProxyError: for a proxy that Flower's HTTP client cannot use.
        HomeMissingError: when there is no home directory to keep zoos in.
    """
    check_interpreter(sys.executable)
    for text in (*texts, str(sglora_home()), os.environ.get(PLUGINS, "")):
        check_utf8(text)
    check_proxies()


def say_who_may_enter(console: Console) -> None:
    """Where a SuperLink cannot tell who calls it, say so before it starts."""
    if not CONNECTIONS.exists():
        console.print(
            "This system does not tell a server who calls it: until the run ends, other users of"
            " this machine can run code as you through its SuperLink. Do not run on a shared one,"
            " or run in a container.",
            soft_wrap=True,
        )


def check_interpreter(path: str) -> None:
    """Raise ``InterpreterPathError`` for an interpreter that Ray's workers cannot start with."""
    if not SAFE_PATH.fullmatch(path):
        found = sorted(set(SAFE_PATH.sub("", path)))
        raise InterpreterPathError(
            f"{path} holds {' '.join(map(repr, found))}; letters, digits and @ % + = : , . / ~ _ -"
            " are allowed"
        )


def check_utf8(text: str) -> None:
    """Raise ``PathNameError`` for what came from the system as bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(text).decode(errors="backslashreplace")
        raise PathNameError(f"{shown} is not UTF-8; rename it") from error


def check_proxies() -> None:
    """Raise ``ProxyError`` for a proxy of the environment that Flower cannot be started with."""
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError) as error:
        raise ProxyError(f"{_proxies()}: {error}") from error


def _proxies() -> str:
    names = ("all_proxy", "http_proxy", "https_proxy")
    found = {name: value for name, value in os.environ.items() if name.lower() in names and value}
    # Without user and password.
    return ", ".join(f"{name}={value.rpartition('@')[2]}" for name, value in sorted(found.items()))


def child_environment(home: Path) -> dict[str, str]:
    """Environment of every process of a run, for another working folder than ours.

    Args:
        home: the run's own folder, by which its processes are found again.
    """
    tools = str(Path(sys.executable).parent)
    return {
        **_user(home),
        **os.environ,
        **_absolute_paths(),
        **_without_proxy_on_loopback(os.environ),
        # SuperLink starts its own commands by name; the environment may not be activated.
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        MARK: str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        # What looks for work that has been submitted: a run starts with it, so not once a second.
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(home),
        "RAY_DEDUP_LOGS": "0",
        # Workers started ahead fit no node, whose environment is another one.
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        **_ray_token(),
        "PYTHONWARNINGS": "ignore",
    }


def _ray_token() -> dict[str, str]:
    """Ray listens on every interface, and runs the code of whoever has its token.

    A cluster that the user started has the user's own settings.
    """
    if "RAY_ADDRESS" in os.environ:
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _absolute_paths() -> dict[str, str]:
    plugins = filter(None, os.environ.get(PLUGINS, "").split(os.pathsep))
    absolute = [str(Path(name).expanduser().absolute()) for name in plugins]
    return {"SGLORA_FED_HOME": str(sglora_home()), PLUGINS: os.pathsep.join(absolute)}


def _without_proxy_on_loopback(env: Mapping[str, str]) -> dict[str, str]:
    """The processes of a run talk to one another; all else still goes through the proxy."""
    named = env.get("no_proxy") or env.get("NO_PROXY") or ""
    hosts = [host for host in named.split(",") if host.strip()]
    value = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
    return {"no_proxy": value, "NO_PROXY": value}


def _user(home: Path) -> dict[str, str]:
    """What libraries ask the system for, where a container's user has no entry there."""
    try:
        Path.home(), getpass.getuser()
    except (RuntimeError, KeyError, OSError):
        return {"HOME": str(home), "USER": f"uid-{os.getuid()}"}
    return {}

"""What a run's processes are told, and what is refused before any of them starts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from sglora_fed.errors import InterpreterPathError, PathNameError, ProxyError
from sglora_fed.launching import environment
from sglora_fed.launching.environment import (
    check_environment,
    check_interpreter,
    check_proxies,
    child_environment,
    say_who_may_enter,
)


class TestInterpreter:
    @pytest.mark.parametrize("folder", ["a b", "a(b)", "a[b]", "a'b", 'a"b', "a&b", "a$b", "a\\b"])
    def test_a_path_that_a_shell_would_take_apart_is_refused(self, folder: str) -> None:
        with pytest.raises(InterpreterPathError, match="letters, digits"):
            check_interpreter(f"/home/me/{folder}/bin/python")

    @pytest.mark.parametrize("folder", ["münchen", "v1.2+x@y", "a~b", "a_b-c"])
    def test_any_other_path_is_taken_and_a_shell_reads_it_as_one_word(self, folder: str) -> None:
        path = f"/home/me/{folder}/bin/python"
        check_interpreter(path)
        # What Ray does with it.
        told = subprocess.run(["bash", "-c", f"printf %s {path}"], capture_output=True, check=True)
        assert told.stdout.decode() == path

    def test_the_refusal_names_what_is_wrong(self) -> None:
        with pytest.raises(InterpreterPathError, match=r"/a b\(x\)/python holds ' ' '\(' '\)';"):
            check_interpreter("/a b(x)/python")


@pytest.mark.parametrize("where", ["output", "SGLORA_FED_HOME", "SGLORA_FED_PLUGINS"])
def test_a_name_that_is_not_utf8_is_refused(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"/tmp/caf\xe9")
    if where != "output":
        monkeypatch.setenv(where, name)
    with pytest.raises(PathNameError, match=r"/tmp/caf\\xe9 is not UTF-8"):
        check_environment([name] if where == "output" else [])


@pytest.mark.parametrize("table", ["there", "absent"])
def test_where_callers_are_unknown_a_line_says_so(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").write_text("")
    monkeypatch.setattr(environment, "CONNECTIONS", tmp_path / table)
    console = Console(file=io.StringIO())
    say_who_may_enter(console)
    said = console.file.getvalue()
    assert said.count("\n") == (table == "absent")
    assert ("run in a container" in said) == (table == "absent")


class TestProxies:
    @pytest.fixture(autouse=True)
    def _none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)

    def test_loopback_is_reached_directly_and_all_else_through_the_proxy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
        monkeypatch.setenv("NO_PROXY", "intern.example")
        for name, value in child_environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        proxies = httpx._utils.get_environment_proxies()
        assert proxies["http://"] == "http://proxy.example:3128"
        direct = {pattern.rpartition("*")[2] for pattern, proxy in proxies.items() if proxy is None}
        assert any("127.0.0.1" in pattern for pattern in direct)
        assert any("intern.example" in pattern for pattern in direct)

    def test_one_that_the_client_cannot_use_is_refused_without_its_password(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", "socks4://me:secret@proxy.example:1080")
        with pytest.raises(ProxyError, match=r"ALL_PROXY=proxy\.example:1080") as caught:
            check_proxies()
        assert "secret" not in str(caught.value)

    def test_an_ordinary_one_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
        check_proxies()


class TestChildren:
    def test_relative_paths_mean_ours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "me"))
        monkeypatch.setenv("SGLORA_FED_HOME", "kept")
        monkeypatch.setenv("SGLORA_FED_PLUGINS", f"mine.py{os.pathsep}~/other.py")
        env = child_environment(tmp_path / "run")
        assert env["SGLORA_FED_HOME"] == str(tmp_path / "kept")
        plugins = env["SGLORA_FED_PLUGINS"].split(os.pathsep)
        assert plugins == [str(tmp_path / "mine.py"), str(tmp_path / "me" / "other.py")]

    def test_rays_token_is_new_for_each_run(self, tmp_path: Path) -> None:
        first, second = child_environment(tmp_path), child_environment(tmp_path)
        assert first["RAY_AUTH_MODE"] == second["RAY_AUTH_MODE"] == "token"
        assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]

    def test_a_cluster_of_the_users_keeps_its_own_settings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "first:6379")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
        env = child_environment(tmp_path)
        assert "RAY_AUTH_MODE" not in env
        assert env["RAY_AUTH_TOKEN"] == "theirs"


WITHOUT_AN_ENTRY = """
import getpass, os, sys
from pathlib import Path
from sglora_fed.launching.environment import check_environment, child_environment
check_environment([])  # all is imported while the interpreter's folders can be read
os.setuid(54321)
check_environment([])
env = child_environment(Path(sys.argv[1]))
os.environ.clear()
os.environ.update(env)
print(Path.home(), getpass.getuser())
"""


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root may be another user")
class TestUserWithoutAnEntry:
    def ask(self, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **more}
        command = [sys.executable, "-c", WITHOUT_AN_ENTRY, str(home)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def test_without_a_home_the_run_has_one_of_its_own(self) -> None:
        told = self.ask(Path("/tmp/run"), SGLORA_FED_HOME="/tmp/kept")
        assert told.stdout.split() == ["/tmp/run", "uid-54321"], told.stderr

    def test_without_a_folder_for_zoos_the_run_is_refused(self) -> None:
        told = self.ask(Path("/tmp/run"))
        assert "HomeMissingError: [SGL-101]" in told.stderr

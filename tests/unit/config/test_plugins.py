"""A user's own module is known in every process that composes a configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sglora_fed.config import compose
from sglora_fed.config.plugins import PLUGINS
from sglora_fed.errors import PluginError

PLUGIN = """
from sglora_fed.generators import register_generator
from sglora_fed.generators.merges import Merge

register_generator("mine", lambda config: Merge("soup", config))
"""

PROGRAM = """
from sglora_fed.config import compose
from sglora_fed.generators import make_generator

for _ in range(2):
    config = compose(["generator.name=mine", "experiment.methods=[zero_shot,mine]"])
print(make_generator(config.generator).name)
"""


def test_another_process_knows_the_generator_of_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(PLUGIN)
    env = os.environ | {PLUGINS: f"own.py{os.pathsep}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout == "soup\n", done.stderr
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert "must be one of" in done.stderr


def test_a_plugin_that_is_not_there_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLUGINS, str(tmp_path / "gone.py"))
    with pytest.raises(PluginError, match=r"gone\.py; it must be a Python file"):
        compose([])


PACKAGE = """
from sglora_fed.backbones import load_backbone, register_backbone
from sglora_fed.generators import register_generator
from sglora_fed.generators.merges import Merge
from sglora_fed.privacy import register_mechanism
from sglora_fed.privacy.mechanisms import NoMechanism
from sglora_fed.tasks import load_family, register_family


def register():
    register_generator("mine", lambda config: Merge("soup", config))
    register_mechanism("mine", lambda config, dim: NoMechanism(dim, "mine"))
    register_family("mine", lambda config: load_family(type(config)()))
    default = lambda backbone, adapter: load_backbone(type(backbone)(), adapter)
    register_backbone("mine", default, "text")
"""

EVERY_KIND = """
from sglora_fed.backbones import load_backbone
from sglora_fed.config import compose
from sglora_fed.experiments.checks import check_runnable
from sglora_fed.generators import make_generator
from sglora_fed.privacy import make_mechanism
from sglora_fed.tasks import load_family

groups = ("generator.name", "privacy.mechanism", "family.name", "backbone.name")
config = compose(["experiment=assistant", *(f"{option}=mine" for option in groups)])
check_runnable(config)
print(make_generator(config.generator).name, make_mechanism(config.privacy, 3).name)
print(load_family(config.family).name, load_backbone(config.backbone, config.adapter).id)
"""

DIGEST = "from sglora_fed.config.plugins import plugins_sha256; print(plugins_sha256())"


def install(folder: Path, point: str, code: str, version: str = "1.0") -> dict[str, str]:
    """A distribution of one package with an entry point; gives the environment that knows it."""
    (folder / "own_package").mkdir(parents=True)
    (folder / "own_package" / "__init__.py").write_text("")
    (folder / "own_package" / "plugin.py").write_text(code)
    info = folder / f"own_package-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: own-package\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text(f"[sglora_fed.plugins]\nown = {point}\n")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parents[3]}"}


def run(program: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=env, capture_output=True, text=True)


class TestEntryPoints:
    def test_an_installed_package_brings_one_of_every_kind(self, tmp_path: Path) -> None:
        env = install(tmp_path, "own_package.plugin:register", PACKAGE)
        done = run(EVERY_KIND, env)
        assert done.stdout == "soup mine\nassistant all-MiniLM-L6-v2\n", done.stderr

    def test_a_module_registers_when_it_is_imported(self, tmp_path: Path) -> None:
        env = install(tmp_path, "own_package.plugin", PLUGIN)
        assert run(PROGRAM, env).stdout == "soup\n"

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
            ("def register(): return 1 / 0", "ZeroDivisionError: division by zero"),
            ("", "AttributeError: module 'own_package.plugin' has no attribute 'register'"),
            ("register = 3", "TypeError: 'int' object is not callable"),
            (
                PLUGIN.replace("mine", "ridge"),
                "GeneratorError: [SGL-600] the name 'ridge' is taken",
            ),
        ],
    )
    def test_one_that_fails_is_named_with_its_reason(
        self, tmp_path: Path, code: str, reason: str
    ) -> None:
        env = install(tmp_path, "own_package.plugin:register", code)
        program = "import sys; sys.argv[1:] = ['simulate']; from sglora_fed.cli import main; main()"
        done = run(program, env)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        where = "own = own_package.plugin:register of own-package 1.0"
        assert line.startswith(f"error [SGL-102] entry point {where}: {reason}")


class TestDigest:
    def test_it_is_of_the_code_the_version_and_nothing_else(self, tmp_path: Path) -> None:
        point = "own_package.plugin"
        none = run(DIGEST, dict(os.environ)).stdout
        first = run(DIGEST, install(tmp_path / "a", point, PLUGIN)).stdout
        elsewhere = run(DIGEST, install(tmp_path / "b", point, PLUGIN)).stdout
        newer = run(DIGEST, install(tmp_path / "c", point, PLUGIN, "1.1")).stdout
        changed = run(DIGEST, install(tmp_path / "d", point, PLUGIN + "# changed")).stdout
        assert first == elsewhere
        assert len({none, first, newer, changed}) == 4
        assert all(len(digest.strip()) == 64 for digest in (none, first))

    def test_a_file_counts_by_its_content_wherever_it_lies(self, tmp_path: Path) -> None:
        def digest(*names: str) -> str:
            paths = os.pathsep.join(str(tmp_path / name) for name in names)
            return run(DIGEST, os.environ | {PLUGINS: paths}).stdout

        (tmp_path / "own.py").write_text(PLUGIN)
        (tmp_path / "moved.py").write_text(PLUGIN)
        (tmp_path / "other.py").write_text("# nothing")
        assert digest("own.py") == digest("moved.py") != digest("other.py")
        assert digest("own.py", "other.py") == digest("other.py", "own.py") != digest("own.py")


def test_a_file_that_fails_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.setenv(PLUGINS, str(tmp_path / "broken.py"))
    with pytest.raises(PluginError, match=r"broken\.py: ZeroDivisionError: division by zero"):
        compose([])

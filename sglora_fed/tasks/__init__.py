"""Task families: embedded, from a folder, or from the hub."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.digest import tasks_sha256
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.hub import hub_family
from sglora_fed.tasks.local import local_family, write_family
from sglora_fed.tasks.types import Example, Task, TaskFamily

__all__ = [
    "Example",
    "Task",
    "TaskFamily",
    "build_family",
    "known_tasks_sha256",
    "load_family",
    "write_family",
]


@lru_cache(maxsize=2)
def load_family(config: FamilyConfig) -> TaskFamily:
    """The configured task family, once per process.

    Raises:
        TaskFileError, TaskError: when it cannot be read or is unusable.
    """
    if config.name == "local":
        return local_family(_folder(config), config.seed)
    if config.name == "hub":
        return hub_family(config)
    return build_family("assistant", load_topics(), config)


@lru_cache(maxsize=2)
def known_tasks_sha256(config: FamilyConfig) -> str:
    """A hash of the experts' tasks where a server can know them, else an empty string.

    The hub's data sets are pinned by their revision, a folder may lie on the nodes alone.

    Raises:
        TaskFileError, TaskError: when a folder that is here is unusable.
    """
    if config.name == "hub" or (config.name == "local" and not _folder(config).is_dir()):
        return ""
    return tasks_sha256(load_family(config).of_role("expert"))


def _folder(config: FamilyConfig) -> Path:
    return Path(str(config.path)).expanduser().absolute()

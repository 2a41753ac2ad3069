"""Task families: embedded, from a folder, or from the hub."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from sglora_fed.config.schema import FAMILIES, FamilyConfig
from sglora_fed.tasks.digest import tasks_sha256
from sglora_fed.tasks.local import configured_folder
from sglora_fed.tasks.types import Example, Task, TaskFamily

__all__ = [
    "Example",
    "Task",
    "TaskFamily",
    "known_tasks_sha256",
    "load_family",
    "register_family",
    "unspoilt_family",
]


def register_family(name: str, load: Callable[[FamilyConfig], TaskFamily]) -> None:
    """Make a task family of your own known by name: ``family.name=NAME``.

    Args:
        name: in configuration.
        load: the family for a configuration; the same on every machine of a run.

    Raises:
        TaskError: when the name is taken.
    """
    FAMILIES.add(name, load)


@lru_cache(maxsize=2)
def load_family(config: FamilyConfig) -> TaskFamily:
    """The configured task family, once per process.

    Raises:
        TaskFileError, TaskError: when it cannot be read or is unusable, or nobody knows its name.
    """
    family: TaskFamily = FAMILIES.get(config.name)(config)
    return family


def unspoilt_family(config: FamilyConfig) -> TaskFamily | None:
    """The configured tasks with what is there in place of what clients see of it.

    Returns:
        None for a family that only knows what clients see.

    Raises:
        TaskError: as for the family.
    """
    if config.name != "cameras":
        return None
    from sglora_fed.tasks.cameras.family import unspoilt_family as unspoilt_cameras

    return unspoilt_cameras(config)


@lru_cache(maxsize=2)
def known_tasks_sha256(config: FamilyConfig) -> str:
    """A hash of the experts' tasks where a server can know them, else an empty string.

    The hub's data sets are pinned by their revision, a folder may lie on the nodes alone.

    Raises:
        TaskFileError, TaskError: when a folder that is here is unusable.
    """
    if config.name == "hub" or (config.name == "local" and not configured_folder(config).is_dir()):
        return ""
    return tasks_sha256(load_family(config).of_role("expert"))

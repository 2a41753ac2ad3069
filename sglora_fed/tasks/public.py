"""Captions that anybody may know: the list with which private training compares each pair."""

from __future__ import annotations

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskFileError
from sglora_fed.tasks.cameras.captions import CAPTIONS
from sglora_fed.tasks.local import configured_folder

LIST = "captions.txt"


def public_captions(config: FamilyConfig) -> tuple[str, ...]:
    """All captions of the `cameras`; of a `local` family what its ``captions.txt`` lists, if any.

    Raises:
        TaskFileError: for a list that cannot be read, or names a caption twice.
    """
    if config.name == "cameras":
        return CAPTIONS
    path = configured_folder(config) / LIST
    if config.name != "local" or not path.exists():
        return ()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise TaskFileError(f"{path} cannot be read: {error}") from error
    captions = [line for line in lines if line]
    if len(set(captions)) < len(captions):
        raise TaskFileError(f"{path} names a caption twice")
    return tuple(captions)

"""The embedded family."""

from __future__ import annotations

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.types import TaskFamily


def assistant_family(config: FamilyConfig) -> TaskFamily:
    """What ``family.name=assistant`` means.

    Raises:
        TaskError: when the topics allow fewer tasks than are asked for.
    """
    return build_family("assistant", load_topics(), config)

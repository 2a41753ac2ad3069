"""What a scene is called: ``a small red circle at the top left``."""

from __future__ import annotations

import re

from sglora_fed.errors import TaskError
from sglora_fed.tasks.cameras.scenes import COLOURS, PLACES, SCENES, SHAPES, SIZES, Scene


def caption(scene: Scene) -> str:
    """The one caption of a scene."""
    return f"a {scene.size} {scene.colour} {scene.shape} {_WHERE[scene.place]}"


def parse(text: str) -> Scene:
    """The inverse of :func:`caption`.

    Raises:
        TaskError: for a text that is no caption.
    """
    found = _CAPTION.fullmatch(text)
    if found is None:
        raise TaskError(f"{text!r} is no caption of a scene, as {CAPTIONS[0]!r} is")
    size, colour, shape, where = found.groups()
    return Scene(size, colour, shape, next(p for p, words in _WHERE.items() if words == where))


_WHERE = {place: "in the centre" if place == "centre" else f"at the {place}" for place in PLACES}

CAPTIONS = tuple(caption(scene) for scene in SCENES)
"""Of ``SCENES``, in their order."""

_PARTS = ("|".join(names) for names in (SIZES, COLOURS, SHAPES, _WHERE.values()))
_CAPTION = re.compile("a ({}) ({}) ({}) ({})".format(*_PARTS))

WORDS = tuple(sorted({word for text in CAPTIONS for word in text.split()}))
"""Every word of a caption."""

"""How owners say what is wrong with their cameras: authored clauses and frames of sentences.

``{g}``, ``{c}`` and ``{o}`` are clauses about geometry, colours and optics. Nobody may show the
clauses and frames of ``OTHER`` to an expert: they are another author's, for clients whose words
are new.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sglora_fed.tasks.cameras.conditions import Condition

Clauses = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Author:
    """One person's words.

    Attributes:
        frames: of sentences.
        geometry: key of ``GEOMETRY`` -> clauses that say it.
        colour: key of ``COLOUR`` -> clauses.
        optics: key of ``OPTICS`` -> clauses.
    """

    frames: Sequence[str]
    geometry: Clauses
    colour: Clauses
    optics: Clauses


def sentences(
    author: Author, condition: Condition, count: int, rng: np.random.Generator
) -> tuple[str, ...]:
    """Different ways in which an author says a condition.

    A frame or clause comes again only when all others have come as often.

    Args:
        author: whose words.
        condition: what is said.
        count: sentences.
        rng: source of the choices.
    """
    parts = (
        author.frames,
        author.geometry[condition.geometry],
        author.colour[condition.colour],
        author.optics[condition.optics],
    )
    drawn = [_drawn(part, count, rng) for part in parts]
    return tuple(_sentence(f.format(g=g, c=c, o=o)) for f, g, c, o in zip(*drawn, strict=True))


def _drawn(texts: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    rounds = -(-count // len(texts))
    order = np.concatenate([rng.permutation(len(texts)) for _ in range(rounds)])
    return [texts[index] for index in order[:count]]


def _sentence(text: str) -> str:
    """With capital letters if it ends with a full stop; what is typed in haste stays as it is."""
    if not text.endswith("."):
        return text
    return re.sub(r"(^|\. )([a-z])", lambda found: found[1] + found[2].upper(), text)


OWNERS = Author(
    frames=(
        "My camera: {g}, {c}, {o}.",
        "{g}, {c} and {o}.",
        "Please adapt to my camera; {g}. Also, {c}, and {o}.",
        "With this camera {c}. Besides, {g}, and {o}.",
        "hi, {o}, {g} and {c}",
        "Note three things: {g}; {c}; {o}.",
        "I know that {g}, that {c} and that {o}.",
        "{o}. {c}. {g}.",
        "Find the right picture although {g}, {c} and {o}.",
        "In what I send you {c}, {g}, and {o}.",
        "Mind that {c}; {o}; {g}.",
        "about my webcam: {g}, {o}, {c}",
    ),
    geometry={
        "upright": (
            "the camera stands upright",
            "it is mounted the right way up",
            "the picture is upright",
            "nothing is turned or mirrored",
            "the image is the right way round",
            "the view has its normal orientation",
            "it hangs straight",
            "the image needs no turning",
            "the video is upright",
            "the footage is neither rotated nor flipped",
            "frames come the right way up",
            "the shot is oriented as usual",
        ),
        "upside_down": (
            "the camera hangs upside down",
            "the picture stands on its head",
            "the image is rotated by 180 degrees",
            "it is mounted upside down",
            "the view is turned by half a turn",
            "everything appears upside down",
            "it is screwed to the ceiling upside down",
            "the picture is turned by 180 degrees",
            "the video is upside down",
            "the footage is rotated by half a turn",
            "frames come out standing on their head",
            "the shot is 180 degrees off",
        ),
        "mirrored": (
            "the picture is mirrored",
            "left is where right should be",
            "it looks into a mirror",
            "the image is flipped horizontally",
            "everything is seen as in a mirror",
            "left is swapped with right",
            "the picture is a mirror image",
            "the view is mirrored from left to right",
            "the video is mirrored",
            "the footage has its left side on the right",
            "frames are flipped left to right",
            "the shot is reversed sideways as in a mirror",
        ),
        "quarter_left": (
            "the picture is turned a quarter to the left",
            "the image is rotated by 90 degrees counter-clockwise",
            "the view is tipped over to the left",
            "the picture is turned left by 90 degrees",
            "everything is turned left by a right angle",
            "it gives everything a quarter turn to the left",
            "the image leans over to the left by 90 degrees",
            "the scene has been given a quarter turn counter-clockwise",
            "the video is rotated to the left by a quarter",
            "the footage lies sideways with its top on the left",
            "frames are turned anticlockwise by 90 degrees",
            "the shot is tilted 90 degrees leftwards",
        ),
        "quarter_right": (
            "the picture is turned a quarter to the right",
            "the image is rotated by 90 degrees clockwise",
            "the view is tipped over to the right",
            "the picture is turned right by 90 degrees",
            "everything is turned right by a right angle",
            "it gives everything a quarter turn to the right",
            "the image leans over to the right by 90 degrees",
            "the scene has been given a quarter turn clockwise",
            "the video is rotated to the right by a quarter",
            "the footage lies sideways with its top on the right",
            "frames are turned clockwise by 90 degrees",
            "the shot is tilted 90 degrees rightwards",
        ),
        "flipped": (
            "the picture is flipped from top to bottom",
            "top is where bottom should be",
            "the image is mirrored vertically",
            "top is swapped with bottom",
            "it sees a reflection in water from top to bottom",
            "what is at the top appears at the bottom",
            "the view is flipped vertically",
            "everything is flipped over with its top edge down",
            "the video is flipped from its top to its bottom",
            "the footage has its top at the bottom",
            "frames are mirrored top to bottom",
            "the shot is reversed vertically",
        ),
    },
    colour={
        "true": (
            "the colours are right",
            "colours are true",
            "red is red and blue is blue",
            "hues come out as they are",
            "no colour is changed",
            "the colours look natural",
            "it shows every colour correctly",
            "there is nothing wrong with the colours",
            "the video has correct colours",
            "the sensor shows colours faithfully",
            "every colour is as it should be",
            "hues are accurate",
        ),
        "red_blue": (
            "red and blue are swapped",
            "red comes out blue and blue comes out red",
            "the red channel is exchanged with the blue one",
            "blue is shown where red should be, and the other way round",
            "the blue and the red wire are mixed up",
            "it takes red for blue and blue for red",
            "reds look blue while blues look red",
            "strawberries appear blue and the sky appears red",
            "the video has red for blue and blue for red",
            "the sensor interchanges red with blue",
            "red objects turn blue and blue ones red",
            "red has traded places with blue",
        ),
        "red_green": (
            "red and green are swapped",
            "red comes out green and green comes out red",
            "the red channel is exchanged with the green one",
            "green is shown where red should be, and the other way round",
            "the green and the red wire are mixed up",
            "it takes red for green and green for red",
            "reds look green while greens look red",
            "strawberries appear green and grass appears red",
            "the video has red for green and green for red",
            "the sensor interchanges red with green",
            "red objects turn green and green ones red",
            "red has traded places with green",
        ),
        "green_blue": (
            "green and blue are swapped",
            "green comes out blue and blue comes out green",
            "the green channel is exchanged with the blue one",
            "blue is shown where green should be, and the other way round",
            "the blue and the green wire are mixed up",
            "it takes green for blue and blue for green",
            "greens look blue while blues look green",
            "grass appears blue and the sky appears green",
            "the video has green for blue and blue for green",
            "the sensor interchanges green with blue",
            "green objects turn blue and blue ones green",
            "green has traded places with blue",
        ),
        "rotated": (
            "the three colour channels are rotated",
            "red turns into green, green into blue, blue into red",
            "all colours have moved on by one channel",
            "red is shown as green, green as blue and blue as red",
            "the colour channels are shifted in a circle",
            "strawberries appear green, grass appears blue and the sky appears red",
            "the wiring of the colour channels is off by one place",
            "the colour channels go round in a cycle",
            "the video shifts red to green, green to blue, blue to red",
            "the sensor rotates the colours by one channel",
            "red objects turn green, green ones blue, blue ones red",
            "each of red, green and blue has moved one channel further",
        ),
        "negative": (
            "the picture is a negative",
            "colours are inverted",
            "every colour is turned into its opposite",
            "light and dark are reversed, as on a film negative",
            "white looks black and red looks cyan",
            "all colours appear as their complements",
            "the image is inverted like a film negative",
            "bright becomes dark and colours become their opposites",
            "the video looks like a photographic negative",
            "the sensor inverts all colours",
            "black objects turn white and white ones black",
            "hues have become their opposites, a negative",
        ),
    },
    optics={
        "clean": (
            "the lens is clean",
            "the picture is sharp and well lit",
            "the light is fine",
            "the image is clear",
            "the lens is in good order",
            "there is enough light and nothing is blurred",
            "sharpness and brightness are as they should be",
            "the glass is spotless",
            "the video is crisp and bright",
            "the optics are good",
            "focus and light are right",
            "the shot has no blur and enough light",
        ),
        "dark": (
            "the picture is dark",
            "there is hardly any light",
            "the image is underexposed",
            "everything looks dim",
            "it sees the world as if at dusk",
            "brightness is far too low",
            "the scene is badly lit",
            "the exposure is much too short",
            "the video is nearly black",
            "the optics let too little light through",
            "it is too dark to see much",
            "the shot was made at night",
        ),
        "blurred": (
            "the picture is blurred",
            "the lens is out of focus",
            "the image is soft and fuzzy",
            "edges are smeared",
            "it does not focus any more",
            "everything looks unsharp",
            "the glass is greasy, so contours run",
            "details are lost in a blur",
            "the video is blurry",
            "the optics give no sharp focus",
            "everything is out of focus",
            "the shot is unsharp",
        ),
        "washed_out": (
            "the picture is washed out",
            "the image is pale",
            "contrast is very low",
            "everything looks faded",
            "it looks through fog, all is whitish",
            "the light is glaring, so colours are bleached",
            "the exposure is too long and the picture nearly white",
            "a milky veil lies over everything",
            "the video is overexposed",
            "the optics make everything pale",
            "all is faded and whitish",
            "the shot has hardly any contrast",
        ),
    },
)
"""The words of the experts, and of clients unless their words are to be new."""

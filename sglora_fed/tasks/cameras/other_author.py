"""The words of an author whom no expert has read: clients of the split `new_words` use them."""

from __future__ import annotations

from sglora_fed.tasks.cameras.wording import Author

OTHER = Author(
    frames=(
        "Setup report. {g}; {c}; {o}.",
        "I'd like captions matched for a webcam where {g}, {c}, {o}.",
        "Heads-up: {o}, {c}, {g}.",
        "so {g}, {c} as well as {o}, can you cope",
        "Because {c} and {g}, retrieval goes wrong; moreover {o}.",
        "Deal with it, would you: {g}, while {c}, plus {o}.",
        "Webcam in the hall. {c}; {o}; {g}.",
        "quick warning, {c}, {o}, {g}",
    ),
    geometry={
        "upright": (
            "the webcam is set up straight",
            "no frame has to be rotated or flipped",
            "every frame is upright",
            "its footage is the right way up",
        ),
        "upside_down": (
            "the webcam was fixed upside down",
            "each frame comes out rotated 180°",
            "its footage is upside down",
            "frames show the world on its head",
        ),
        "mirrored": (
            "each frame is mirrored left-right",
            "the webcam acts like a mirror",
            "the left side is where the right side should be",
            "its footage is horizontally flipped",
        ),
        "quarter_left": (
            "each frame is rotated 90° to the left",
            "its footage is turned left by a quarter",
            "frames come out tipped sideways to the left",
            "the webcam rotates the view a quarter anticlockwise",
        ),
        "quarter_right": (
            "each frame is rotated 90° to the right",
            "its footage is turned right by a quarter",
            "frames come out tipped sideways to the right",
            "the webcam rotates the view a quarter clockwise",
        ),
        "flipped": (
            "each frame is flipped vertically",
            "the top of the scene is found at the bottom",
            "its footage is mirrored top-down",
            "frames are turned over from bottom to top",
        ),
    },
    colour={
        "true": (
            "its colours are correct",
            "the sensor gets every colour right",
            "colours are faithful",
            "the palette is unchanged",
        ),
        "red_blue": (
            "the sensor confuses red with blue",
            "red and blue have changed places",
            "anything red looks blue, anything blue looks red",
            "the palette has its reds and blues interchanged",
        ),
        "red_green": (
            "the sensor confuses red with green",
            "red and green have changed places",
            "anything red looks green, anything green looks red",
            "the palette has its reds and greens interchanged",
        ),
        "green_blue": (
            "the sensor confuses green with blue",
            "green and blue have changed places",
            "anything green looks blue, anything blue looks green",
            "the palette has its greens and blues interchanged",
        ),
        "rotated": (
            "the sensor cycles the channels, red to green to blue to red",
            "anything red looks green, anything green blue, anything blue red",
            "the palette is rotated by one channel",
            "red, green and blue have each moved one place on",
        ),
        "negative": (
            "the sensor gives a photographic negative",
            "every colour is inverted",
            "the palette is inverted to its complements",
            "anything white looks black, like a negative",
        ),
    },
    optics={
        "clean": (
            "the optics are fine",
            "the footage is crisp and bright enough",
            "exposure and focus are good",
            "no dirt is on the lens",
        ),
        "dark": (
            "the footage is nearly black",
            "the room is too dark",
            "it is like filming at night",
            "far too little light reaches the sensor",
        ),
        "blurred": (
            "focus is off",
            "outlines are blurry",
            "the footage is out of focus",
            "the optics give soft, blurry frames",
        ),
        "washed_out": (
            "the footage is overexposed and pale",
            "contrast is lost, all looks whitish",
            "the footage is faded",
            "the optics wash everything out",
        ),
    },
)
"""Another author's words."""

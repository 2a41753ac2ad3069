"""Picture files as a person sees them in a viewer: upright, opaque, eight bits a colour."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION

from sglora_fed.errors import BackboneInputError
from sglora_fed.tasks.types import Item

PIXEL_LIMIT = 50_000_000
"""Pixels of the largest picture read: beyond it a small file can fill the memory."""

SIDES_LIMIT = 50
"""How many times longer than wide a picture may be: models scale the shorter side to theirs, so a
strip of 200,000 x 1 pixels would become one of 6,400,000 x 32."""

TAIL = 4096
"""Last bytes of a JPEG file that are searched for its end mark."""

# What Pillow raises for a file that is missing, no picture, cut off, damaged, or far too large.
ERRORS = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)


def read_picture(path: str) -> Image.Image:
    """The picture in a file, RGB.

    Turned as its EXIF orientation says, on white where it is transparent, 16 bits of grey and
    floats from 0 to 1 scaled to 8 bits. Colour profiles are not applied.

    Raises:
        BackboneInputError: naming the file, when it is no picture, is damaged, has too many
            pixels, is a strip, or holds numbers whose black and white nobody knows.
    """
    with _opened(path) as image:
        # In place: a turned copy would not know its file's format.
        ImageOps.exif_transpose(image, in_place=True)
        scaled = _SCALES.get(image.mode)
        return _opaque(scaled(image) if scaled else image)


def pixels_of(item: Item) -> np.ndarray:
    """[height, width, 3] uint8 of a file, as :func:`read_picture` sees it, or of such an array.

    Raises:
        BackboneInputError: for a file that is no readable picture, or another array.
    """
    if isinstance(item, str):
        return np.asarray(read_picture(item))
    if item.ndim != 3 or item.shape[2] != 3 or not item.size or item.dtype != np.uint8:
        raise BackboneInputError(
            f"a picture in memory is {item.dtype} {list(item.shape)}; need [height, width, 3] uint8"
        )
    return item


def check_picture(path: str) -> None:
    """Refuse a file that :func:`read_picture` would refuse, at the price of reading it.

    A PNG or JPEG file with all its marks in place is not decoded, so that thousands can be checked
    in a second; damage between the marks is left to be found when it is.

    Raises:
        BackboneInputError: naming the file.
    """
    with _opened(path) as image:
        is_whole = _MARKS.get(image.format or "")
        whole = is_whole is not None and is_whole(image, Path(path))
    if not whole:
        read_picture(path)


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            _check_size(path, *image.size)
            yield image
    except ERRORS as error:
        reason = f"{type(error).__name__}: {error}"
        raise BackboneInputError(f"{path} is no readable picture ({reason})") from error


def _check_size(path: str, width: int, height: int) -> None:
    if width * height > PIXEL_LIMIT:
        raise BackboneInputError(
            f"{path} has {width * height} pixels; at most {PIXEL_LIMIT} are read"
        )
    if max(width, height) > SIDES_LIMIT * min(width, height):
        raise BackboneInputError(
            f"{path} has {width} x {height} pixels; one side may be {SIDES_LIMIT} times the other:"
            " cut it to what matters"
        )


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image, np.float64)
    if _tiff_white_is_zero(image):
        values = 65535 - values
    return _grey(values / 257)


def _from_integers(image: Image.Image) -> Image.Image:
    """Pillow scales a PGM file of up to 16 bits to 65535; other files of integers have no scale."""
    if image.format != "PPM":
        raise ValueError("32-bit integers have no white; save it with 8 or 16 bits")
    return _from_16_bits(image)


def _from_floats(image: Image.Image) -> Image.Image:
    values = np.asarray(image, np.float64)
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= 1:
        raise ValueError(f"floats from {low:g} to {high:g}; only 0 (black) to 1 (white) are read")
    return _grey(values * 255)


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8))


def _tiff_white_is_zero(image: Image.Image) -> bool:
    return bool(getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0)


_SCALES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **dict.fromkeys(("I;16", "I;16B", "I;16L"), _from_16_bits),
    "I": _from_integers,
    "F": _from_floats,
}


def _png_is_whole(image: Image.Image, path: Path) -> bool:
    """Whether every block is there with its checksum."""
    try:
        image.verify()
    except ERRORS:
        return False
    return True


def _jpeg_is_whole(image: Image.Image, path: Path) -> bool:
    """Whether the end mark stands near the end; cameras write things behind it."""
    with path.open("rb") as file:
        file.seek(-min(TAIL, path.stat().st_size), 2)
        return b"\xff\xd9" in file.read()


_MARKS: dict[str, Callable[[Image.Image, Path], bool]] = {
    "PNG": _png_is_whole,
    "JPEG": _jpeg_is_whole,
    "MPO": _jpeg_is_whole,
}

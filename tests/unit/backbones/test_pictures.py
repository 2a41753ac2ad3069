"""Files as people have them, drawn by numpy, against the colours that a viewer shows."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sglora_fed.backbones.clip import Clip
from sglora_fed.backbones.pictures import check_picture, read_picture
from sglora_fed.errors import BackboneInputError

ORIENTATION = 0x0112
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)


def seen(path: Path) -> np.ndarray:
    check_picture(str(path))
    image = read_picture(str(path))
    assert image.mode == "RGB"
    return np.asarray(image)


def saved(picture: Image.Image, path: Path, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def refused(path: Path, said: str) -> None:
    for read in (check_picture, read_picture):
        with pytest.raises(BackboneInputError, match=rf"SGL-302.*{path.name}.*{said}"):
            read(str(path))


def grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[:, :, None], 3, axis=2)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_of_grey_are_scaled(tmp_path: Path, ending: str) -> None:
    picture = Image.fromarray(RAMP.astype(np.uint16) * 257)
    np.testing.assert_array_equal(seen(saved(picture, tmp_path / f"grey.{ending}")), grey(RAMP))


def test_a_tiff_in_which_white_is_zero(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RAMP.astype(np.uint16) * 257), tmp_path / "negative.tif")
    one = struct.pack("<HHI", 262, 3, 1)  # tag, type, count; then the value
    data = path.read_bytes()
    assert data.count(one + b"\1") == 1
    path.write_bytes(data.replace(one + b"\1", one + b"\0"))
    np.testing.assert_array_equal(seen(path), grey(255 - RAMP))


def test_floats_from_black_to_white(tmp_path: Path) -> None:
    picture = Image.fromarray(RAMP.astype(np.float32) / 255)
    np.testing.assert_array_equal(seen(saved(picture, tmp_path / "floats.tif")), grey(RAMP))


@pytest.mark.parametrize("values", [[0.0, 255.0], [-0.5, 0.5], [0.0, np.nan], [0.0, np.inf]])
def test_floats_without_a_scale_are_refused(tmp_path: Path, values: list[float]) -> None:
    picture = Image.fromarray(np.array([values, values], np.float32))
    refused(saved(picture, tmp_path / "floats.tif"), "0 .black. to 1 .white.")


def test_integers_without_a_scale_are_refused(tmp_path: Path) -> None:
    picture = Image.fromarray(RAMP.astype(np.int32) * 257)
    refused(saved(picture, tmp_path / "integers.tif"), "no white")


def test_printing_colours(tmp_path: Path) -> None:
    inks = np.stack([RAMP, RAMP.T, 255 - RAMP, np.full_like(RAMP, 0)], axis=2)
    picture = Image.fromarray(inks, mode="CMYK")
    np.testing.assert_array_equal(seen(saved(picture, tmp_path / "inks.tif")), 255 - inks[..., :3])
    black = Image.new("CMYK", (8, 8), (0, 0, 0, 255))
    for name in ("black.tif", "black.jpg"):
        assert seen(saved(black, tmp_path / name)).max() <= 2
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    expected = np.broadcast_to([0, 255, 255], (8, 8, 3))
    np.testing.assert_allclose(seen(saved(cyan, tmp_path / "cyan.jpg")), expected, atol=2)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    alpha = RAMP.T
    picture = Image.fromarray(np.dstack([COLOURS, alpha]), mode="RGBA")
    share = alpha[..., None] / 255
    expected = COLOURS * share + 255 * (1 - share)
    np.testing.assert_allclose(seen(saved(picture, tmp_path / "soft.png")), expected, atol=1)
    faint = Image.fromarray(np.dstack([RAMP, alpha]), mode="LA")
    expected = RAMP[..., None] * share + 255 * (1 - share)
    found = seen(saved(faint, tmp_path / "faint.png"))
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1)


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_a_transparent_colour_of_a_palette(tmp_path: Path, ending: str) -> None:
    picture = Image.fromarray((RAMP % 2).astype(np.uint8), mode="P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    found = seen(saved(picture, tmp_path / f"palette.{ending}", transparency=0))
    expected = np.where(RAMP[..., None] % 2, [200, 100, 50], [255, 255, 255])
    np.testing.assert_array_equal(found, expected)
    found = seen(saved(picture, tmp_path / f"opaque.{ending}"))
    np.testing.assert_array_equal(
        found, np.where(RAMP[..., None] % 2, [200, 100, 50], [10, 20, 30])
    )


def test_a_transparent_colour_of_a_plain_picture(tmp_path: Path) -> None:
    for mode, key in (("L", 7), ("RGB", (7, 7, 7))):
        picture = Image.new(mode, (4, 4), key)
        picture.putpixel((1, 2), 0)
        found = seen(saved(picture, tmp_path / f"{mode}.png", transparency=key))
        assert (found[2, 1].tolist(), found[0, 0].tolist()) == ([0, 0, 0], [255, 255, 255])


# How the stored rows and columns lie in what a person sees (EXIF 2.32, orientation).
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored.transpose(1, 0, 2), 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_upright(tmp_path: Path, orientation: int, ending: str) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16], stored[8:, :16], stored[:8, 16:] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if ending == "webp" else {"quality": 100, "subsampling": 0}
    path = tmp_path / f"turned.{ending}"
    found = seen(saved(Image.fromarray(stored), path, exif=exif, **options))
    np.testing.assert_allclose(found, TURNS[orientation](stored), atol=3)


def test_sixteen_bits_are_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture = Image.fromarray(RAMP[:8].astype(np.uint16) * 257)
    found = seen(saved(picture, tmp_path / "turned.png", exif=exif))
    np.testing.assert_array_equal(found, grey(np.rot90(RAMP[:8], -1)))


@pytest.mark.parametrize("size", [(200_000, 1), (1, 200_000), (51 * 8, 8)])
def test_a_strip_is_refused_before_it_is_scaled(tmp_path: Path, size: tuple[int, int]) -> None:
    refused(saved(Image.new("RGB", size), tmp_path / "strip.png"), f"{size[0]} x {size[1]} pixels")


def test_a_panorama_is_no_strip(tmp_path: Path) -> None:
    assert seen(saved(Image.new("RGB", (50 * 8, 8)), tmp_path / "wide.png")).shape == (8, 400, 3)


NOISE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
FORMATS = ["png", "jpg", "webp", "tif", "bmp", "gif"]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, ending: str, kept: float) -> None:
    path = saved(Image.fromarray(NOISE), tmp_path / f"cut.{ending}")
    assert seen(path).shape == (200, 200, 3)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    refused(path, "no readable picture")


def test_what_stands_behind_the_end_mark_does_no_harm(tmp_path: Path) -> None:
    for ending in ("jpg", "png"):
        path = saved(Image.fromarray(COLOURS), tmp_path / f"more.{ending}")
        for behind in (b"\0" * 100, b"\0" * 100_000):
            path.write_bytes(path.read_bytes() + behind)
            assert seen(path).shape == (16, 16, 3)


def test_a_png_that_lacks_its_end_alone_is_read_as_viewers_do(tmp_path: Path) -> None:
    path = saved(Image.fromarray(COLOURS), tmp_path / "end.png")
    path.write_bytes(path.read_bytes()[:-12])
    np.testing.assert_array_equal(seen(path), COLOURS)


@pytest.mark.filterwarnings("ignore")
def test_any_orientation_block_is_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = Image.Exif()
    whole[ORIENTATION] = 6
    data = bytearray(whole.tobytes())
    for number in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        path = saved(Image.fromarray(COLOURS), tmp_path / f"{number}.jpg", exif=bytes(damaged))
        with suppress(BackboneInputError):
            assert read_picture(str(path)).size == (16, 16)


def test_no_file_and_a_folder_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.png", "FileNotFound")
    refused(tmp_path, "IsADirectory")


def test_the_encoder_sees_what_a_person_sees(clip_folder: Path, tmp_path: Path) -> None:
    """One picture in five files: its 16-bit, transparent, turned and printed forms encode alike."""
    side = np.kron(RAMP[::4, ::4], np.ones((8, 8), np.uint8))
    plain = saved(Image.fromarray(grey(side)), tmp_path / "plain.png")
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    inks = np.dstack([255 - grey(side), np.zeros_like(side)])
    files = [
        saved(Image.fromarray(side.astype(np.uint16) * 257), tmp_path / "deep.png"),
        saved(Image.fromarray(side.astype(np.float32) / 255), tmp_path / "floats.tif"),
        saved(Image.fromarray(np.rot90(grey(side), 2).copy()), tmp_path / "turned.png", exif=exif),
        saved(Image.fromarray(inks, mode="CMYK"), tmp_path / "inks.tif"),
    ]
    encoder = Clip(clip_folder)
    first, *others = encoder.prepare_items([str(plain), *map(str, files)])
    assert first.std() > 0.5
    for other in others:
        assert (first - other).abs().max() < 1e-6

"""Decoding: each kind of file gives the values that another library reads, and each damaged one a line of error."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.images import read_rgb, read_thermal
from utils.errors import UserError

HEIGHT, WIDTH = 40, 48
Y, X = np.mgrid[:HEIGHT, :WIDTH]
NOISE = np.random.default_rng(0)
GREY = NOISE.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
COLOUR = NOISE.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
COUNTS = (7000 + 40 * X + Y).astype(np.uint16)  # as of a thermal camera: a small part of the scale
SMOOTH = np.stack([5 * X, 6 * Y, 2 * X + 2 * Y], axis=-1).astype(np.uint8)


def save(folder: Path, name: str, pixels: np.ndarray, mode: str | None = None, **options) -> str:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(folder / name, **options)
    return str(folder / name)


def write_png(path: Path, size: tuple[int, int], depth: int, colour_type: int, rows: bytes) -> str:
    """Write a PNG of (width, height) with right check sums, whatever its rows are."""
    head = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))
    return str(path)


def save_png_16(folder: Path, pixels: np.ndarray) -> str:
    """Write 16 bits of 2, 3 or 4 channels, which Pillow cannot."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    colour_type = {2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    return write_png(folder / "a.png", (WIDTH, HEIGHT), 16, colour_type, rows)


def save_tiff(folder: Path, pixels: np.ndarray, sample_format: int = 1, order: str = "<") -> str:
    """Write an uncompressed TIFF of any number of bits and channels, in either byte order."""
    num = pixels.shape[2] if pixels.ndim == 3 else 1
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    bits = 8 * pixels.dtype.itemsize
    many = struct.pack(f"{order}{num}H", *[bits] * num)
    tags = {256: WIDTH, 257: HEIGHT, 258: bits if num == 1 else 8 + len(data), 259: 1, 262: 2 if num == 3 else 1}
    tags |= {273: 8, 277: num, 278: HEIGHT, 279: len(data), 339: sample_format}
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in tags.items():
        if tag in (273, 279) or (tag == 258 and num > 1):
            kind, amount, field = (4, 1, struct.pack(f"{order}I", value))
            kind, amount = (3, num) if tag == 258 else (kind, amount)
        else:
            kind, amount, field = 3, 1, struct.pack(f"{order}HH", value, 0)
        directory += struct.pack(f"{order}HHI", tag, kind, amount) + field
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(data) + len(many))
    (folder / "a.tif").write_bytes(start + data + many + directory + bytes(4))
    return str(folder / "a.tif")


def check_refused(read, path: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: expected ")
    assert "\n" not in message
    assert words in message, message


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "jpg", "jpeg"])
def test_eight_bits(tmp_path, suffix):
    grey, colour = save(tmp_path, f"grey.{suffix}", GREY), save(tmp_path, f"colour.{suffix}", SMOOTH)
    level = 6 if suffix.startswith("j") else 0  # JPEG libraries may differ by their ways to scale the colours
    thermal, rgb, three = read_thermal(grey).numpy(), read_rgb(colour).numpy(), read_rgb(grey).numpy()
    assert thermal.dtype == rgb.dtype == np.uint8
    assert (thermal.shape, rgb.shape, three.shape) == ((1, HEIGHT, WIDTH), (3, HEIGHT, WIDTH), (3, HEIGHT, WIDTH))
    np.testing.assert_allclose(thermal[0].astype(int), np.array(Image.open(grey), dtype=int), atol=level)
    np.testing.assert_allclose(rgb.transpose(1, 2, 0).astype(int), np.array(Image.open(colour), dtype=int), atol=level)
    assert all((channel == thermal[0]).all() for channel in three)
    check_refused(read_thermal, colour, "thermal image with one channel or three equal ones, found channels that")


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_three_equal_channels_are_a_thermal_image(tmp_path, suffix):
    path = save(tmp_path, f"a.{suffix}", np.stack([GREY] * 3, axis=-1))
    expected = np.array(Image.open(path), dtype=int)[..., 0]
    np.testing.assert_allclose(read_thermal(path).numpy()[0].astype(int), expected, atol=1)


def stretched(counts: np.ndarray, dark: float, bright: float) -> np.ndarray:
    return np.clip(np.round(255 * (counts.astype(float) - dark) / (bright - dark)), 0, 255)


SIXTEEN = {
    "png": lambda folder, counts: save(folder, "a.png", counts),
    "tif": lambda folder, counts: save(folder, "a.tif", counts),
    "tif, LZW": lambda folder, counts: save(folder, "a.tif", counts, compression="tiff_lzw"),
    "tif, other byte order": lambda folder, counts: save_tiff(folder, counts, order=">"),
    "png, with opacity": lambda f, counts: save_png_16(f, np.stack([counts, 0 * counts + 65535], axis=-1)),
    "png, three channels": lambda folder, counts: save_png_16(folder, np.stack([counts] * 3, axis=-1)),
    "png, four channels": lambda f, counts: save_png_16(f, np.stack([counts] * 3 + [0 * counts + 65535], axis=-1)),
}


@pytest.mark.parametrize("kind", SIXTEEN)
def test_sixteen_bits(tmp_path, kind):
    path = SIXTEEN[kind](tmp_path, COUNTS)
    image = read_thermal(path).numpy()
    assert (image.shape, image.dtype) == ((1, HEIGHT, WIDTH), np.uint8)
    np.testing.assert_array_equal(image[0], stretched(COUNTS, *np.percentile(COUNTS, [0.1, 99.9])))
    assert (image.min(), image.max()) == (0, 255)
    np.testing.assert_array_equal(read_thermal(path, (7100, 8000)).numpy()[0], stretched(COUNTS, 7100, 8000))
    rgb = read_rgb(path).numpy()
    assert rgb.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_allclose(rgb[0].astype(float), COUNTS / 257, atol=0.51)
    assert (rgb[0] == rgb[1]).all()


def test_the_stretch_keeps_the_order(tmp_path):
    image = read_thermal(save(tmp_path, "a.png", COUNTS)).numpy()[0].ravel()
    order = np.argsort(COUNTS.ravel(), kind="stable")
    assert (np.diff(image[order].astype(int)) >= 0).all()


def test_a_dead_pixel_does_not_set_the_scale(tmp_path):
    counts = COUNTS.copy()
    counts[0, 0] = 65535
    one, other = (read_thermal(save(tmp_path, f"{c[0, 0]}.png", c)).numpy() for c in (COUNTS, counts))
    assert np.abs(one.astype(int) - other)[0].ravel()[1:].max() <= 2


def test_a_constant_image(tmp_path):
    path = save(tmp_path, "a.png", np.full((HEIGHT, WIDTH), 30000, dtype=np.uint16))
    assert (read_thermal(path).numpy() == 0).all()
    assert (read_thermal(path, (20000, 40000)).numpy() == 128).all()


def test_counts_leave_eight_bits_as_they_are(tmp_path):
    assert (read_thermal(save(tmp_path, "a.png", GREY), (7000, 8000)).numpy()[0] == GREY).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "png.jpg"])
def test_a_table_of_colours_is_read_as_its_colours(tmp_path, name):
    table = Image.fromarray(SMOOTH).quantize(16)
    table.save(tmp_path / name, format="TIFF" if name == "a.tif" else "PNG")
    expected = np.array(table.convert("RGB"))
    np.testing.assert_array_equal(read_rgb(str(tmp_path / name)).numpy().transpose(1, 2, 0), expected)
    check_refused(read_thermal, str(tmp_path / name), "one channel or three equal ones")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_table_of_greys_is_a_thermal_image(tmp_path, suffix):
    table = Image.fromarray(GREY // 32 * 32).quantize(16)
    table.save(tmp_path / f"a.{suffix}")
    image = read_thermal(str(tmp_path / f"a.{suffix}")).numpy()
    np.testing.assert_array_equal(image[0], np.array(table.convert("RGB"))[..., 0])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_opacity_is_left_out(tmp_path, suffix):
    rgba = save(tmp_path, f"rgba.{suffix}", np.dstack([COLOUR, GREY]))
    np.testing.assert_array_equal(read_rgb(rgba).numpy().transpose(1, 2, 0), COLOUR)
    grey = save(tmp_path, f"grey.{suffix}", np.dstack([GREY, GREY]), "LA")
    np.testing.assert_array_equal(read_thermal(grey).numpy()[0], GREY)
    np.testing.assert_array_equal(read_rgb(grey).numpy()[2], GREY)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path, suffix):
    path = save(tmp_path, f"a.{suffix}", SMOOTH, "CMYK", **({"quality": 95} if suffix == "jpg" else {}))
    rgb = read_rgb(path).numpy().transpose(1, 2, 0).astype(int)
    np.testing.assert_allclose(rgb, np.array(Image.open(path).convert("RGB")), atol=6)
    assert np.abs(rgb - SMOOTH).mean() < 5


def test_one_bit(tmp_path):
    for suffix in ("png", "tif"):
        image = read_thermal(save(tmp_path, f"a.{suffix}", GREY > 99)).numpy()[0]
        np.testing.assert_array_equal(image, 255 * (GREY > 99))


REFUSED_TIFF = {
    "32 bits": (COUNTS.astype(np.uint32), 1, "found 1 of 32 bits"),
    "float": (COUNTS.astype(np.float32), 3, "found 1 of 32 bits"),
    "with sign": (COUNTS.astype(np.int16), 2, "without sign, found 1 of 16 bits"),
}


@pytest.mark.parametrize("kind", REFUSED_TIFF)
def test_tiff_of_other_numbers_is_refused(tmp_path, kind):
    pixels, sample_format, words = REFUSED_TIFF[kind]
    path = save_tiff(tmp_path, pixels, sample_format)
    check_refused(read_thermal, path, words)
    check_refused(read_rgb, path, words)


def test_three_channels_of_sixteen_bits_in_tiff(tmp_path):
    path = save_tiff(tmp_path, np.stack([COUNTS] * 3, axis=-1))
    check_refused(read_thermal, path, "one channel of 16 without sign, found 3 of 16 bits")
    np.testing.assert_array_equal(read_rgb(path).numpy()[1], COUNTS // 256)  # a photograph: the upper eight bits


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["8.png", "16.png", "table.png", "8.tif", "16.tif", "lzw.tif", "8.jpg"])
def test_cut_files(tmp_path, kind, share):
    if kind == "table.png":
        Image.fromarray(COLOUR).quantize(64).save(tmp_path / kind)
    else:
        pixels = NOISE.integers(0, 65535, GREY.shape, dtype=np.uint16) if kind == "16.png" else GREY
        save(tmp_path, kind, pixels, **({"compression": "tiff_lzw"} if kind == "lzw.tif" else {}))
    path = tmp_path / kind
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for read in (read_rgb, read_thermal):
        check_refused(read, str(path), "cannot be decoded (")


@pytest.mark.parametrize("kind", ["8.png", "16.png", "table.png"])
def test_damaged_png(tmp_path, kind):
    """Without its check sums torchvision 0.29 ends the process on some of these, and reads others."""
    if kind == "table.png":
        Image.fromarray(COLOUR).quantize(64).save(tmp_path / kind)
    else:
        save(tmp_path, kind, COUNTS if kind == "16.png" else SMOOTH)
    whole = (tmp_path / kind).read_bytes()
    for place in range(30, len(whole) - 12, 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x5A
        (tmp_path / "a.png").write_bytes(damaged)
        check_refused(read_rgb, str(tmp_path / "a.png"), "cannot be decoded (")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "(an empty file)"), (b"Not Found", "(neither JPEG nor PNG nor TIFF)"), (None, "No such file")],
)
def test_no_image(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for read in (read_rgb, read_thermal):
        check_refused(read, str(tmp_path / name), words)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_other_formats_under_a_known_name(tmp_path, form, name):
    path = save(tmp_path, name, COLOUR, format=form)
    check_refused(read_rgb, path, "neither JPEG nor PNG nor TIFF")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_known_format_under_another_name_is_read(tmp_path, form, name):
    path = save(tmp_path, name, GREY, format=form)
    expected = np.array(Image.open(path), dtype=int)
    np.testing.assert_allclose(read_thermal(path).numpy()[0].astype(int), expected, atol=6)


def test_the_reason_names_no_place_in_a_library(tmp_path):
    path = Path(save(tmp_path, "a.jpg", SMOOTH))
    path.write_bytes(path.read_bytes()[:-300])
    check_refused(read_rgb, str(path), "cannot be decoded (Image is incomplete or truncated)")


@pytest.mark.parametrize(("colour_type", "depth"), [(2, 8), (0, 8), (0, 16), (2, 16)])
def test_png_of_too_few_pixels(tmp_path, colour_type, depth):
    """These end a process that hands them to torchvision."""
    path = write_png(tmp_path / "few.png", (80, 64), depth, colour_type, bytes(1000))
    for read in (read_rgb, read_thermal):
        check_refused(read, path, "cannot be decoded")


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    check_refused(read_rgb, str(tmp_path / "pipe.png"), "a folder or a pipe")

"""From maps of a scene to what a camera and a thermal sensor make of it: light, air, lens, noise, 8 bits.

Shapes: maps are float32 (h, w), the image with its margin; images are (H, W) without it. Lengths called "of 640" are
pixels of a 640 pixel wide picture, so that a smaller picture is the same scene through the same lens.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from datasets.scenes.canvas import MARGIN, Camera, Point
from datasets.scenes.conditions import Condition

POOL = 2**20  # numbers of white noise that all pictures take turns in
TILE = 512  # side of the tile of smooth noise
FADING = 3.0  # -ln(0.05): at the visibility's distance 5 % of the contrast are left
TARGET, MOST_GAIN = 0.33, 14.0  # mean brightness that exposure aims at, and how far it can go
SHOT_NOISE = 0.02  # at full white
LEAST_SPAN = 9.0  # degrees between black and white of the thermal picture, however even the scene is
MAX_SHIFT = 3.0  # pixels by which the two pictures are misregistered at most


@cache
def _white() -> np.ndarray:
    return np.random.RandomState(7).standard_normal(POOL).astype(np.float32)


@cache
def _tile() -> np.ndarray:
    """Return smooth noise of mean 0 and deviation 1, patches of 2 to 64 pixels, repeating at its edges."""
    total = np.zeros((TILE, TILE), np.float32)
    for side in (8, 16, 32, 64, 128, 256):
        coarse = np.random.RandomState(side).standard_normal((side, side)).astype(np.float32)
        total += np.asarray(Image.fromarray(np.pad(coarse, 2, "wrap")).resize(
            (TILE + 4 * TILE // side,) * 2, Image.Resampling.BICUBIC
        ))[2 * TILE // side :, 2 * TILE // side :][:TILE, :TILE]  # fmt: skip
    return (total - total.mean()) / total.std()


def white_noise(shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
    start, size = random.randint(POOL), int(np.prod(shape))
    return np.take(_white(), np.arange(start, start + size), mode="wrap").reshape(shape)


def smooth_noise(shape: tuple[int, int], width: int, random: np.random.RandomState) -> np.ndarray:
    """Return the tile's patches, 2 to 64 pixels of 640, from a random place on."""
    step = 640 / width
    rows, columns = ((random.randint(TILE) + np.arange(side) * step).astype(np.int64) % TILE for side in shape)
    return _tile()[rows[:, None], columns[None]]


def slow_noise(shape: tuple[int, int], random: np.random.RandomState) -> np.ndarray:
    """Return noise that changes a few times over the picture, about -1 to 1."""
    coarse = random.uniform(-1, 1, (4, 4)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))


def blur(image: np.ndarray, pixels: float) -> np.ndarray:
    """Blur rows and columns with about the deviation given, by repeated small kernels."""
    passes = int(np.ceil(2 * pixels**2)) if pixels > 0.05 else 0
    side = min(pixels**2 / (2 * passes), 0.25) if passes else 0.0
    for _ in range(passes):
        for axis in (0, 1):
            padded = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in range(image.ndim)], "edge")
            before, after = (padded[:-2], padded[2:]) if axis == 0 else (padded[:, :-2], padded[:, 2:])
            image = image + side * (before + after - 2 * image)
    return image


def crop(image: np.ndarray, camera: Camera, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Cut off the margin, moved by whole pixels (x, y)."""
    left, top = MARGIN + shift[0], MARGIN + shift[1]
    return image[top : top + camera.height, left : left + camera.width]


def camera_image(
    maps: dict[str, np.ndarray],
    condition: Condition,
    camera: Camera,
    lights: list[tuple[Point, float]],
    shift: tuple[float, float],
    random: np.random.RandomState,
) -> np.ndarray:
    """Return the colour picture, uint8 (H, W, 3).

    Args:
        maps: as `Canvas.maps`.
        lights: headlights that bloom, as (place in the picture, distance in metres).
        shift: how far the camera looks beside the thermal sensor, in pixels (x, y).
    """
    shape = maps["depth"].shape
    rows, columns = np.indices(shape, dtype=np.float32) - MARGIN
    rough = 1 + maps["texture"] * smooth_noise(shape, camera.width, random)
    light = _daylight(shape, condition, camera, random) + _night_light(
        maps["depth"], rows, columns, condition, camera, random
    )
    seen = np.exp(-FADING * maps["depth"] / condition.visibility)
    veil = 0.8 * condition.sky_light * (1 - seen) + _dazzle(rows, columns, condition, camera, lights, random)
    light, lamp = light * rough * seen, maps["lamp"] * seen
    balance = random.uniform(0.92, 1.08, 3)
    radiance = np.stack(
        [(maps[c] * light + lamp * tint + veil) * b
         for c, tint, b in zip(("red", "green", "blue"), (1.0, 0.93, 0.8), balance)], axis=-1
    )  # fmt: skip
    radiance = _shifted(radiance, camera, shift)
    gain = min(TARGET / float(radiance[::2, ::2].mean()), MOST_GAIN)
    image = blur(radiance * gain, condition.camera_blur * camera.width / 640)
    image = image + _rain(condition, camera, random) if condition.streaks else image
    image = image * _vignette(camera, random.uniform(0.1, 0.35))[..., None]
    deviation = condition.camera_noise * (0.3 + 0.7 * gain / MOST_GAIN) + SHOT_NOISE * np.sqrt(np.clip(image, 0, 1))
    image = image + deviation * white_noise(image.shape, random)
    return (255 * np.sqrt(np.clip(image, 0, 1)) + 0.5).astype(np.uint8)


def thermal_image(
    maps: dict[str, np.ndarray], condition: Condition, camera: Camera, random: np.random.RandomState
) -> np.ndarray:
    """Return the thermal picture, white hot, contrast set by the scene (AGC), uint8 (H, W)."""
    shape = maps["depth"].shape
    heat = maps["temperature"] + maps["thermal_texture"] * condition.clutter * smooth_noise(shape, camera.width, random)
    seen = np.exp(-FADING * np.minimum(maps["depth"], 300.0) / condition.thermal_visibility)
    heat = condition.air + (heat - condition.air) * seen
    heat = crop(blur(heat, condition.thermal_blur * camera.width / 640), camera)
    size = (camera.height, camera.width)
    heat = heat + condition.drift * slow_noise(size, random) - 2 * condition.drift * (1 - _vignette(camera, 0.3))
    heat = heat + condition.banding * white_noise((1, camera.width), random)
    heat = heat + condition.thermal_noise * white_noise(size, random)
    low, high = np.percentile(heat[::3, ::3], (1, 99.5))
    spare = max(LEAST_SPAN - (high - low), 0) / 2
    scaled = (heat - low + spare) / (high - low + 2 * spare)
    return (255 * np.clip(scaled, 0, 1) + 0.5).astype(np.uint8)


def _daylight(shape, condition: Condition, camera: Camera, random: np.random.RandomState) -> np.ndarray:
    """Return sky and sun light; in a shadow (of a house, a bridge) most of both is gone."""
    light = np.full(shape, condition.sky_light + condition.sun_light, np.float32)
    if not condition.shadow:
        return light
    mask = Image.new("L", shape[::-1])
    low, width = random.uniform(-0.1, 0.7) * camera.width, random.uniform(0.3, 0.6) * camera.width
    lean, top = random.uniform(-0.3, 0.3) * camera.width, random.uniform(0.0, 0.6) * camera.horizon
    corners = [(low, top), (low + width, top), (low + width + lean, camera.height + 9), (low + lean, camera.height + 9)]
    ImageDraw.Draw(mask).polygon([(x + MARGIN, y + MARGIN) for x, y in corners], fill=255)
    dark = blur(np.asarray(mask, dtype=np.float32) / 255, 1.0)
    return light * (1 - dark * random.uniform(0.9, 0.97))


def _night_light(depth, rows, columns, condition: Condition, camera: Camera, random) -> np.ndarray | float:
    """Return what our headlights and street lamps throw on the scene."""
    if not condition.headlights + condition.lamps:
        return 0.0
    aside = (columns - camera.centre) / camera.width
    above = np.clip((camera.horizon - rows) / camera.height, 0, 1)
    beam = np.minimum((10.0 / depth) ** 1.5, 2.0) * np.exp(-((aside / 0.3) ** 2)) * np.exp(-((above / 0.12) ** 2))
    pools = np.zeros_like(beam)
    for _ in range(3):
        x = random.uniform(0, camera.width)
        pools += np.exp(-(((columns - x) / (0.08 * camera.width)) ** 2))
    return condition.headlights * beam + condition.lamps * pools


def _dazzle(rows, columns, condition: Condition, camera: Camera, lights, random) -> np.ndarray:
    """Return the veil that lights leave in the lens: headlights that bloom, a low sun in front."""
    veil = np.zeros_like(rows)
    for (x, y), distance in lights if condition.bloom else []:
        r = np.hypot(columns - x, rows - y) / camera.width * np.sqrt(distance) / 0.15
        veil += 1.5 * np.exp(-(r**2)) + 0.12 / (1 + r**2)
    if condition.glare:
        x, y = random.uniform(0.1, 0.9) * camera.width, random.uniform(0.4, 1.0) * camera.horizon
        r = np.hypot(columns - x, rows - y) / camera.width
        veil += condition.glare * (np.exp(-((r / 0.1) ** 2)) + 0.3 * np.exp(-r / 0.22))
    return veil


def _shifted(image: np.ndarray, camera: Camera, shift: tuple[float, float]) -> np.ndarray:
    """Cut the picture out at a shift in fractions of a pixel, bilinearly."""
    (x, dx), (y, dy) = ((int(np.floor(s)), s - np.floor(s)) for s in shift)
    rows = [crop(image, camera, (x, y + i)) * (1 - dx) + crop(image, camera, (x + 1, y + i)) * dx for i in (0, 1)]
    return rows[0] * (1 - dy) + rows[1] * dy


def _rain(condition: Condition, camera: Camera, random: np.random.RandomState) -> np.ndarray:
    """Return the light of falling drops, (H, W, 1)."""
    image = Image.new("L", (camera.width, camera.height))
    draw, lean = ImageDraw.Draw(image), random.uniform(-0.2, 0.2)
    for _ in range(int(condition.streaks * camera.width * camera.height / 1000)):
        x, y = random.uniform(0, camera.width), random.uniform(0, camera.height)
        length = random.uniform(0.01, 0.05) * camera.width
        draw.line((x, y, x + lean * length, y + length), fill=int(random.uniform(15, 60)))
    return np.asarray(image, dtype=np.float32)[..., None] / 255


def _vignette(camera: Camera, strength: float) -> np.ndarray:
    rows, columns = np.ogrid[-1 : 1 : camera.height * 1j, -1 : 1 : camera.width * 1j]
    return (1 - strength * (rows**2 + columns**2) / 2).astype(np.float32)

"""Pictures of the generated clips: a coloured disc that moves, and a depth map in which a place comes nearer or goes.

Shapes: T frames, H, W size of a frame.
"""

import numpy as np

COLOURS = ((215, 70, 60), (60, 180, 70), (70, 90, 220))  # red, green, blue; 0 to 255
COLOUR_JITTER, NOISE = 20, 6  # levels of 255
MOTIONS = ("across", "down", "round")
RADIUS, REACH = 0.14, 0.28  # of a disc and of its way to either side, as shares of the height
CYCLES = (1.0, 1.8)  # that a clip shows
PLACES = ((0.3, 0.25), (0.3, 0.75), (0.5, 0.5), (0.7, 0.25), (0.7, 0.75))  # y and x of what comes nearer, shares
PLACE_JITTER = 0.06
FAR, NEAR = 70, 215  # levels of 255


def moving_disc(random: np.random.Generator, num_frames: int, size: tuple[int, int], colour: int, motion: int):
    """Draw a disc of one of `COLOURS` in one of `MOTIONS`, before a grey one in any; uint8 (T, H, W, 3)."""
    shade = random.uniform(40, 120) * (1 + 0.4 * _grid(size)[random.integers(2)])
    frames = np.repeat(np.broadcast_to(shade[None, ..., None], (1, *size, 3)), num_frames, axis=0)
    grey = np.full(3, random.uniform(90, 200))
    tint = np.array(COLOURS[colour]) + random.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3)
    for paint, way in ((grey, int(random.integers(len(MOTIONS)))), (tint, motion)):
        inside = _discs(size, _path(random, num_frames, way), RADIUS * random.uniform(0.8, 1.2))
        frames = np.where(inside[..., None], paint, frames)
    return _pixels(frames + random.normal(0, NOISE, frames.shape))


def depth_map(random: np.random.Generator, num_frames: int, size: tuple[int, int], place: int, goes: int):
    """Draw a blot at one of `PLACES` that comes nearer, so brighter, or `goes`; uint8 (T, H, W)."""
    levels = np.linspace(FAR, NEAR, num_frames) + random.uniform(-15, 15)
    aspect = size[1] / size[0]
    y, x = np.array(PLACES[place]) + random.uniform(-PLACE_JITTER, PLACE_JITTER, 2)
    path = np.broadcast_to((y, x * aspect), (num_frames, 2))
    inside = _discs(size, path, random.uniform(0.16, 0.22))
    frames = np.where(inside, (levels[::-1] if goes else levels)[:, None, None], random.uniform(20, 50))
    return _pixels(frames + random.normal(0, NOISE, frames.shape))


def _grid(size: tuple[int, int]) -> np.ndarray:
    """Return y and x of each pixel's middle, as shares of the height, (2, H, W)."""
    return (np.indices(size) + 0.5) / size[0]


def _path(random: np.random.Generator, num_frames: int, motion: int) -> np.ndarray:
    """Return y and x of a disc in each frame (T, 2), as shares of the height."""
    angles = 2 * np.pi * (random.random() + np.linspace(0, random.uniform(*CYCLES), num_frames))
    swings = REACH * np.stack((np.sin(angles), np.cos(angles)), axis=1)
    moves = {"across": (0, 1), "down": (1, 0), "round": (1, random.choice((-1, 1)))}[MOTIONS[motion]]
    return random.uniform(0.42, 0.58, 2) + swings * moves


def _discs(size: tuple[int, int], path: np.ndarray, radius: float) -> np.ndarray:
    """Return which pixels lie in the disc of each frame, bool (T, H, W)."""
    y, x = _grid(size)
    return (y - path[:, :1, None]) ** 2 + (x - path[:, 1:, None]) ** 2 < radius**2


def _pixels(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)

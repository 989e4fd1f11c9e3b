"""A painter's canvas that holds numbers of parts: both sensors, masks and boxes come from one drawing.

Each part of the scene (a coat, a tyre, a window) has one row of a table: colour, lamp light, temperature, distance and
roughness. Painting writes the row's number, far things first; looking up the table gives every map at once, aligned to
the pixel.

Shapes: h, w the image with its margin; sub-pixels are SUBPIXELS times as many. World coordinates are metres: X right,
Y up from the ground, Z ahead of the camera.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

SUBPIXELS = 2  # per pixel and axis; edges are smooth and thin things fade instead of breaking
MARGIN = 4  # pixels around the image, from which the misregistered sensor takes what lies beyond its edge
COLUMNS = ("red", "green", "blue", "lamp", "temperature", "depth", "texture", "thermal_texture")
ON_THE_GROUND = -1.0  # as a depth: that of the ground, row by row
Point = tuple[float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole over the ground: focal length and horizon in pixels, height in metres."""

    width: int
    height: int
    focal: float
    horizon: float
    centre: float
    above_ground: float

    def project(self, x: float, y: float, z: float) -> Point:
        """Return the pixel (column, row) of a point; z is at least 0.5 m."""
        z = max(z, 0.5)
        return self.centre + self.focal * x / z, self.horizon + self.focal * (self.above_ground - y) / z


@dataclass
class Canvas:
    """Parts painted so far. Points are pixels of the image; the margin is added here."""

    camera: Camera
    rows: list[tuple[float, ...]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def __post_init__(self):
        size = ((self.camera.width + 2 * MARGIN) * SUBPIXELS, (self.camera.height + 2 * MARGIN) * SUBPIXELS)
        self.image = Image.new("I", size)
        self.draw = ImageDraw.Draw(self.image)
        self.owner = 0  # of the parts that follow: 0 is scenery

    def part(
        self,
        colour: Colour,
        temperature: float,
        depth: float,
        texture: float = 0.05,
        thermal_texture: float = 0.3,
        lamp: float = 0.0,
    ) -> int:
        """Add a part; returns its number.

        Args:
            colour: reflected share of red, green, blue light, 0..1.
            temperature: degrees Celsius.
            depth: metres, or ON_THE_GROUND.
            texture: relative roughness of the colour.
            thermal_texture: roughness of the temperature in degrees.
            lamp: own light, in units of full daylight on white.
        """
        self.rows.append((*colour, lamp, temperature, depth, texture, thermal_texture))
        self.owners.append(self.owner)
        return len(self.rows) - 1

    def polygon(self, points: list[Point], part: int) -> None:
        self.draw.polygon([_sub(p) for p in points], fill=part)

    def ellipse(self, centre: Point, radius_x: float, radius_y: float, part: int) -> None:
        (x, y), rx, ry = _sub(centre), radius_x * SUBPIXELS, radius_y * SUBPIXELS
        self.draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=part)

    def ring(self, centre: Point, radius_x: float, radius_y: float, width: float, part: int) -> None:
        (x, y), rx, ry = _sub(centre), radius_x * SUBPIXELS, radius_y * SUBPIXELS
        box = (x - rx, y - ry, x + rx, y + ry)
        self.draw.ellipse(box, outline=part, width=max(1, round(width * SUBPIXELS)))

    def line(self, points: list[Point], width: float, part: int) -> None:
        self.draw.line([_sub(p) for p in points], fill=part, width=max(1, round(width * SUBPIXELS)), joint="curve")

    def parts_map(self) -> np.ndarray:
        """Return the part of every sub-pixel, int32 (h * SUBPIXELS, w * SUBPIXELS)."""
        return np.asarray(self.image)

    def maps(self, parts: np.ndarray) -> dict[str, np.ndarray]:
        """Return one float32 (h, w) map per column: the table looked up, then averaged over sub-pixels."""
        table = np.asarray(self.rows, dtype=np.float32)
        fine = {name: table[:, i][parts] for i, name in enumerate(COLUMNS)}
        fine["depth"] = np.where(fine["depth"] == ON_THE_GROUND, self._ground_depth()[:, None], fine["depth"])
        return {name: _average(values) for name, values in fine.items()}

    def _ground_depth(self) -> np.ndarray:
        """Return the distance of the ground in every row of sub-pixels."""
        rows = (np.arange(self.image.height, dtype=np.float32) + 0.5) / SUBPIXELS - MARGIN
        below = np.maximum(rows - self.camera.horizon, 0.1)
        return np.minimum(self.camera.focal * self.camera.above_ground / below, 300.0)


def _sub(point: Point) -> Point:
    return (point[0] + MARGIN) * SUBPIXELS, (point[1] + MARGIN) * SUBPIXELS


def _average(fine: np.ndarray) -> np.ndarray:
    rows = fine[::2] + fine[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * 0.25

"""Street, buildings and vegetation: what objects stand on, hide behind and are mistaken for.

Everything is painted far to near. Walls and hedges may be as warm as a body (a local failure of the thermal sensor).
Shapes: world metres as in canvas.py; `side` is -1 (left) or 1 (right).
"""

import numpy as np

from datasets.scenes.canvas import ON_THE_GROUND, Canvas, Colour
from datasets.scenes.conditions import Condition

FAR = 150.0  # metres: where the ground meets the horizon
WALL_COLOURS = ((0.55, 0.42, 0.34), (0.62, 0.58, 0.5), (0.42, 0.42, 0.44), (0.5, 0.3, 0.24), (0.7, 0.68, 0.64))
LEAVES = ((0.16, 0.24, 0.09), (0.2, 0.28, 0.12), (0.1, 0.18, 0.08), (0.3, 0.28, 0.12))
BODY = 29.0  # degrees that a warm wall imitates: clothes and skin seen from afar


class Street:
    """The lie of a street: half widths of road and pavement, how far the walls stand, the direction it runs in."""

    def __init__(self, random: np.random.RandomState):
        self.road = random.uniform(3.2, 5.5)
        self.pavement = self.road + random.uniform(1.5, 3.5)
        self.wall = {side: self.pavement + random.uniform(0.0, 7.0) for side in (-1, 1)}
        self.bend = random.uniform(-0.08, 0.08)  # metres to the side per metre ahead

    def at(self, x: float, z: float) -> float:
        """Return the world X of a place `x` metres from the street's middle at distance z."""
        return x + self.bend * z


def jitter(colour: Colour, random: np.random.RandomState, by: float = 0.15) -> Colour:
    """Return the colour, lighter or darker as a whole and a little in each channel."""
    whole = random.uniform(1 - by, 1 + by)
    return tuple(float(np.clip(c * whole * random.uniform(0.95, 1.05), 0.02, 0.95)) for c in colour)


def paint_sky(canvas: Canvas, condition: Condition, random: np.random.RandomState) -> None:
    camera = canvas.camera
    overcast = condition.sun_light < 0.35
    colour = (0.75, 0.77, 0.8) if overcast else (0.5, 0.66, 0.88)
    cold = condition.air - random.uniform(6, 12) if overcast else condition.air - random.uniform(15, 30)
    sky = canvas.part(jitter(colour, random, 0.1), cold, 2000.0, texture=0.03, thermal_texture=0.6)
    low = camera.horizon + 2
    canvas.polygon([(-9, -9), (camera.width + 9, -9), (camera.width + 9, low), (-9, low)], sky)


def paint_ground(canvas: Canvas, street: Street, condition: Condition, random: np.random.RandomState) -> None:
    """Paint verges, pavements, road and its dashed middle line."""
    grass = jitter(LEAVES[random.randint(len(LEAVES))], random)
    stone, tar = jitter((0.4, 0.39, 0.37), random), jitter((0.2, 0.2, 0.21), random)
    warmth = [condition.sun_heat * f for f in (0.2, random.uniform(0.5, 0.9), random.uniform(0.7, 1.1))]
    widths = (400.0, street.pavement, street.road)
    for colour, above, half, rough in zip((grass, stone, tar), warmth, widths, (0.3, 0.08, 0.12)):
        part = canvas.part(colour, condition.surface(above), ON_THE_GROUND, rough, 0.5)
        _ground(canvas, street, (-half, half), (1.0, FAR), part)
    colour = jitter((0.75, 0.75, 0.7), random, 0.1)
    paint = canvas.part(colour, condition.surface(warmth[2] - 0.5), ON_THE_GROUND, 0.15, 0.3)
    for start in np.arange(random.uniform(2, 6), 60.0, 6.0):
        _ground(canvas, street, (-0.08, 0.08), (start, start + 3.0), paint)


def _ground(canvas: Canvas, street: Street, across: tuple[float, float], along: tuple[float, float], part: int) -> None:
    (left, right), (near, far) = across, along
    corners = ((left, near), (right, near), (right, far), (left, far))
    canvas.polygon([canvas.camera.project(street.at(x, z), 0, z) for x, z in corners], part)


def paint_buildings(canvas: Canvas, street: Street, condition: Condition, random: np.random.RandomState) -> None:
    """Paint rows of houses with windows on both sides, and a block across the end of the street."""
    across = jitter(WALL_COLOURS[random.randint(len(WALL_COLOURS))], random)
    end = canvas.part(across, condition.surface(0.4 * condition.sun_heat), 110.0, 0.1, 0.8)
    top, reach = random.uniform(4, 14), random.uniform(15, 60)
    middle = street.at(random.uniform(-15, 15), 110.0)
    canvas.polygon([canvas.camera.project(middle + x, y, 110.0) for x, y in rectangle(-reach, reach, 0, top)], end)
    for side in (-1, 1):
        spans = []
        z = random.uniform(3.0, 10.0)
        while z < 90.0:
            length = random.uniform(7.0, 22.0)
            if random.uniform() < 0.75:
                spans.append((z, z + length))
            z += length + random.choice([0.0, random.uniform(1.0, 12.0)])
        for near, far in reversed(spans):
            _house(canvas, street, condition, side, (near, far), random)


def _house(canvas: Canvas, street: Street, condition: Condition, side: int, span: tuple, random) -> None:
    (near, far), x = span, side * street.wall[side]
    height, colour = random.uniform(4.0, 15.0), jitter(WALL_COLOURS[random.randint(len(WALL_COLOURS))], random)
    temperature = condition.surface(random.uniform(0.2, 1.0) * condition.sun_heat + random.uniform(0, 2))
    lit = random.uniform(0.7, 1.0)
    wall = canvas.part(tuple(c * lit for c in colour), temperature, (near * far) ** 0.5, 0.12, 0.9)
    front = canvas.part(colour, temperature - 0.5, near, 0.12, 0.9)
    project, at = canvas.camera.project, street.at
    canvas.polygon([project(at(x, z), y, z) for z, y in rectangle(near, far, 0, height)], wall)
    outside = x + side * 12.0
    canvas.polygon([project(at(xx, near), y, near) for xx, y in rectangle(x, outside, 0, height)], front)
    glass = canvas.part((0.1, 0.12, 0.15), temperature + random.uniform(-5, 5), near, 0.1, 0.5)
    night = condition.sky_light < 0.05
    shining = canvas.part((0.3, 0.25, 0.15), temperature + 2, near, 0.1, 0.5, lamp=random.uniform(0.01, 0.06) * night)
    floors = np.arange(1.2, height - 1.5, 3.0)
    for z in np.linspace(near, far, max(2, int((far - near) / 4)) + 1)[:-1]:
        for floor in floors[:4]:
            window = shining if night and random.uniform() < 0.25 else glass
            corners = rectangle(z + 0.8, z + 2.2, floor, floor + 1.5)
            canvas.polygon([project(at(x, zz), y, zz) for zz, y in corners], window)


def rectangle(low: float, high: float, bottom: float, top: float) -> tuple:
    """Return the corners of a rectangle, in turn."""
    return (low, bottom), (high, bottom), (high, top), (low, top)


def paint_tree(canvas: Canvas, condition: Condition, x: float, z: float, random: np.random.RandomState) -> None:
    """Paint a trunk with a crown of leaves, or a bush."""
    scale = canvas.camera.focal / z
    leaves = canvas.part(jitter(LEAVES[random.randint(len(LEAVES))], random), condition.air + 0.5, z, 0.45, 0.8)
    bush = random.uniform() < 0.4
    foot, crown = 0.0, random.uniform(0.4, 0.8)
    if not bush:
        trunk = canvas.part((0.2, 0.15, 0.1), condition.surface(0.3 * condition.sun_heat + 0.5), z, 0.2, 0.5)
        foot, crown = random.uniform(2.0, 3.5), random.uniform(1.0, 2.2)
        points = [canvas.camera.project(x, 0, z), canvas.camera.project(x, foot + crown, z)]
        canvas.line(points, random.uniform(0.15, 0.35) * scale, trunk)
    for _ in range(6):
        across, up = random.uniform(-0.8, 0.8) * crown, random.uniform(0.0, 1.4) * crown
        radius = random.uniform(0.4, 0.8) * crown * scale
        canvas.ellipse(canvas.camera.project(x + across, foot + crown * 0.5 + up, z), radius, radius, leaves)


def paint_pole(canvas: Canvas, condition: Condition, x: float, z: float, random: np.random.RandomState) -> None:
    """Paint a lamp post or a sign: upright and thin like a person, often as warm as its coat."""
    scale, high = canvas.camera.focal / z, random.uniform(2.2, 6.0)
    metal = canvas.part(jitter((0.35, 0.36, 0.37), random), condition.surface(random.uniform(0, 6)), z, 0.05, 0.2)
    points = [canvas.camera.project(x, 0, z), canvas.camera.project(x, high, z)]
    canvas.line(points, random.uniform(0.08, 0.16) * scale, metal)
    if random.uniform() < 0.5:
        board = canvas.part(jitter((0.6, 0.3, 0.25), random, 0.4), condition.surface(0.3 * condition.sun_heat), z)
        across, up = random.uniform(0.25, 0.5), random.uniform(0.3, 0.7)
        corners = rectangle(x - across, x + across, high - up, high)
        canvas.polygon([canvas.camera.project(xx, y, z) for xx, y in corners], board)


def paint_warm_wall(canvas: Canvas, random: np.random.RandomState) -> None:
    """Paint a wall or hedge as warm as a body, with a body's unevenness, behind a good part of the scene."""
    camera, z = canvas.camera, random.uniform(33.0, 45.0)
    scale = camera.focal / z
    left, width = random.uniform(-0.1, 0.6) * camera.width, random.uniform(0.3, 0.6) * camera.width
    bottom, top = camera.project(0, 0, z)[1], camera.project(0, random.uniform(2.5, 4.5), z)[1]
    colour = jitter(WALL_COLOURS[random.randint(len(WALL_COLOURS))], random)
    columns = max(3, int(width / scale / 1.5))
    for i in range(columns):
        part = canvas.part(colour, BODY + random.uniform(-3, 3), z, 0.12, 1.5)
        x0, x1 = left + width * i / columns, left + width * (i + 1) / columns
        canvas.polygon([(x0, bottom), (x1, bottom), (x1, top), (x0, top)], part)

"""People, bikes and cars: shapes with pose, clothes and heat, painted from polygons and lines.

Shapes: world metres as in canvas.py. A person's own frame has u to the right of the picture and v up, both in metres.
"""

import math

import numpy as np

from datasets.scenes.canvas import Camera, Canvas, Point
from datasets.scenes.conditions import Condition
from datasets.scenes.surroundings import jitter, rectangle

CLOTHES = ((0.08, 0.08, 0.1), (0.15, 0.18, 0.3), (0.5, 0.1, 0.1), (0.6, 0.58, 0.5), (0.25, 0.3, 0.2), (0.7, 0.7, 0.72))
CLOTHES += ((0.3, 0.3, 0.32), (0.65, 0.5, 0.12), (0.1, 0.3, 0.45))
SKIN = ((0.62, 0.44, 0.35), (0.45, 0.3, 0.2), (0.25, 0.16, 0.11))
PAINT = (
    (0.75, 0.75, 0.76),
    (0.06, 0.06, 0.07),
    (0.4, 0.41, 0.43),
    (0.5, 0.06, 0.06),
    (0.1, 0.16, 0.4),
    (0.55, 0.52, 0.45),
)
SKIN_TEMPERATURE = 32.5  # degrees Celsius, of a face


class Person:
    """Somebody who walks, stands or rides: size, clothes and pose."""

    def __init__(self, random: np.random.RandomState, riding: bool = False):
        self.height = random.uniform(1.55, 1.92) if random.uniform() < 0.88 or riding else random.uniform(1.0, 1.4)
        self.coat, self.trousers = (jitter(CLOTHES[random.randint(len(CLOTHES))], random) for _ in range(2))
        self.skin, self.hair = jitter(SKIN[random.randint(len(SKIN))], random), jitter((0.12, 0.09, 0.06), random, 0.5)
        self.stride = 0.0 if random.uniform() < 0.3 else random.uniform(-0.3, 0.3)
        self.breadth = random.uniform(0.75, 1.1)  # of the shoulders: seen from the side or from the front
        self.warmth = random.uniform(0.15, 0.6)  # of the skin's excess over the air that shows through the clothes
        self.swing = random.uniform(-0.25, 0.25)

    def paint(self, canvas: Canvas, condition: Condition, x: float, z: float) -> None:
        """Paint somebody on foot at (x, z)."""
        h, w = self.height, 0.2 * self.breadth
        knee, foot = 0.5 * self.stride * h, self.stride * h * 0.6
        limbs = self._parts(canvas, condition, z)
        body = _Body(canvas, x, z, 1, 0.0)
        for sign in (-1, 1):
            hip = sign * 0.05 * h * self.breadth
            steps = [(hip, 0.5 * h), (hip + sign * knee * 0.5, 0.27 * h), (hip + sign * foot * 0.5, 0.03 * h)]
            body.limb(steps, 0.085 * h, limbs["trousers"])
            body.limb([steps[-1], (steps[-1][0] + 0.03, 0.02 * h)], 0.05 * h, limbs["shoes"])
            arm = [(sign * w, 0.8 * h), (sign * (w + 0.03) + self.swing * 0.1, 0.62 * h)]
            hand = (sign * (w + 0.02) + self.swing * sign * 0.3, 0.47 * h)
            body.limb([*arm, hand], 0.06 * h, limbs["coat"])
            body.disc(hand, 0.028 * h, limbs["skin"])
        body.shape([(-w, 0.82 * h), (w, 0.82 * h), (w * 0.75, 0.47 * h), (-w * 0.75, 0.47 * h)], limbs["coat"])
        self._head(body, (0.0, 0.92 * h), limbs)

    def paint_riding(self, canvas: Canvas, condition: Condition, x: float, z: float, bike: "Bike") -> None:
        """Paint somebody on a bike's saddle."""
        h, limbs = self.height, self._parts(canvas, condition, z)
        body = _Body(canvas, x, z, bike.heading, bike.narrowness)
        hip, neck, hand = (-0.22, 0.98), (0.12, 0.98 + 0.33 * h), (0.42, 1.02)
        for turn in (bike.pedal, bike.pedal + math.pi):
            pedal = (-0.05 + 0.17 * math.cos(turn), 0.3 + 0.17 * math.sin(turn))
            body.limb([hip, (0.22, (hip[1] + pedal[1]) / 2 + 0.12), pedal], 0.13, limbs["trousers"])
        body.limb([hip, neck], max(0.3 * self.breadth, 0.22), limbs["coat"])
        body.limb([(0.1, neck[1] - 0.08), (0.28, 1.12), hand], 0.09, limbs["coat"])
        self._head(body, (0.18, neck[1] + 0.1 * h), limbs)

    def _parts(self, canvas: Canvas, condition: Condition, z: float) -> dict[str, int]:
        excess = max(SKIN_TEMPERATURE - condition.air, 1.0)
        dry = 1 - 0.7 * condition.wetness

        def part(colour, share):
            return canvas.part(colour, condition.air + excess * share * dry, z, 0.1, 0.5)

        return {
            "coat": part(self.coat, self.warmth),
            "trousers": part(self.trousers, self.warmth * 0.85),
            "skin": part(self.skin, 0.95),
            "hair": part(self.hair, 0.6),
            "shoes": part((0.08, 0.07, 0.07), 0.25),
        }

    def _head(self, body: "_Body", centre: Point, limbs: dict[str, int]) -> None:
        radius = 0.065 * self.height
        body.disc((centre[0], centre[1] + 0.2 * radius), radius * 1.12, limbs["hair"])
        body.disc((centre[0], centre[1] - 0.25 * radius), radius * 0.85, limbs["skin"])


class Bike:
    """A bicycle: thin, at the air's temperature but for its tyres; parked, or under a rider."""

    def __init__(self, random: np.random.RandomState, ridden: bool):
        self.heading = random.choice([-1, 1])
        self.narrowness = random.choice([random.uniform(0.0, 0.4), random.uniform(0.4, 1.2)])  # radians from side view
        self.colour = jitter(PAINT[random.randint(len(PAINT))], random, 0.3)
        self.pedal = random.uniform(0, 2 * math.pi)
        self.tyre_heat = random.uniform(1.5, 4.0) if ridden else random.uniform(-0.5, 1.0)
        self.basket = random.uniform() < 0.3

    def paint(self, canvas: Canvas, condition: Condition, x: float, z: float) -> None:
        body = _Body(canvas, x, z, self.heading, self.narrowness)
        tyre = canvas.part((0.06, 0.06, 0.06), condition.surface(self.tyre_heat), z, 0.05, 0.2)
        metal = canvas.part(self.colour, condition.surface(0.3 * condition.sun_heat - 1.0), z, 0.05, 0.2)
        rear, front, pedals = (-0.52, 0.34), (0.52, 0.34), (-0.05, 0.3)
        saddle, head, bar = (-0.2, 0.95), (0.36, 0.9), (0.4, 1.05)
        for hub in (rear, front):
            body.wheel(hub, 0.34, 0.05, tyre)
        for points in ([rear, pedals, head, front], [rear, saddle, pedals], [(-0.16, 0.82), head, bar]):
            body.limb(points, 0.045, metal)
        body.limb([(saddle[0] - 0.1, 0.97), (saddle[0] + 0.12, 0.97)], 0.07, tyre)
        body.limb([(bar[0] - 0.06, 1.06), (bar[0] + 0.08, 1.04)], 0.05, tyre)
        if self.basket:
            body.shape([(0.42, 0.75), (0.68, 0.75), (0.7, 1.0), (0.4, 1.0)], metal)


class _Body:
    """A flat figure at (x, z), turned away from the picture's plane by `turn` radians, mirrored by `heading`."""

    def __init__(self, canvas: Canvas, x: float, z: float, heading: int, turn: float):
        self.canvas, self.scale, self.across = canvas, canvas.camera.focal / z, heading * max(math.cos(turn), 0.15)
        self.foot = canvas.camera.project(x, 0, z)

    def _place(self, point: Point) -> Point:
        return self.foot[0] + point[0] * self.across * self.scale, self.foot[1] - point[1] * self.scale

    def limb(self, points: list[Point], width: float, part: int) -> None:
        self.canvas.line([self._place(p) for p in points], width * self.scale, part)

    def shape(self, points: list[Point], part: int) -> None:
        self.canvas.polygon([self._place(p) for p in points], part)

    def disc(self, centre: Point, radius: float, part: int) -> None:
        self.canvas.ellipse(self._place(centre), radius * self.scale, radius * self.scale * 1.15, part)

    def wheel(self, hub: Point, radius: float, width: float, part: int) -> None:
        radii = radius * max(abs(self.across), 0.12) * self.scale, radius * self.scale
        self.canvas.ring(self._place(hub), *radii, width * self.scale, part)


class Car:
    """A car or van as two boxes, body and cabin, seen in perspective; driving ones have warm engine, tyres, exhaust."""

    def __init__(self, random: np.random.RandomState, driving: bool, yaw: float, x: float, z: float):
        self.x, self.z = x, z
        van = random.uniform() < 0.15
        self.length, self.width = random.uniform(3.8, 4.9), random.uniform(1.68, 1.9)
        self.height, self.waist = (2.0, 1.15) if van else (random.uniform(1.4, 1.7), random.uniform(0.85, 1.0))
        self.cabin = (-0.48, 0.3) if van else (random.uniform(-0.48, -0.38), random.uniform(0.12, 0.25))  # of length
        self.colour = jitter(PAINT[random.randint(len(PAINT))], random, 0.25)
        self.driving, self.yaw = driving, yaw  # yaw 0: drives away from the camera
        self.engine = random.uniform(6.0, 16.0) if driving else random.choice([0.0, 0.0, random.uniform(2.0, 8.0)])
        self.roof = random.uniform(-2.5, 0.5)  # parked metal cools below the air under a clear sky

    def paint(self, canvas: Canvas, condition: Condition) -> None:
        for box in (self._lower(), self._upper()):
            for face in sorted(box, key=lambda f: -self._depth(f[1])):
                self._face(canvas, condition, *face)
        self._wheels(canvas, condition)
        self._lights(canvas, condition)

    def headlights(self, camera: Camera) -> list[Point]:
        """Return the places of the headlights in the picture where the front is seen."""
        if math.cos(self.yaw) > -0.3:
            return []
        return [camera.project(*self._world(0.5, across, 0.65)) for across in (-0.38, 0.38)]

    def _world(self, along: float, across: float, up: float) -> tuple[float, float, float]:
        """Turn (share of length ahead, share of width to the right, metres up) into world metres."""
        a, b = along * self.length, across * self.width
        sine, cosine = math.sin(self.yaw), math.cos(self.yaw)
        return self.x + a * sine + b * cosine, up, self.z + a * cosine - b * sine

    def _depth(self, corners: list[tuple]) -> float:
        return sum(self._world(*c)[2] ** 2 + self._world(*c)[0] ** 2 for c in corners) / len(corners)

    def _lower(self) -> list[tuple]:
        return _faces((-0.5, 0.5), (-0.5, 0.5), 0.28, self.waist, "body", 0.0)

    def _upper(self) -> list[tuple]:
        return _faces(self.cabin, (-0.45, 0.45), self.waist, self.height, "glass", 0.09)

    def _face(self, canvas: Canvas, condition: Condition, name: str, corners: list[tuple]) -> None:
        shade = 0.8 if name.endswith(("left", "right")) else 1.0
        colour, sun = tuple(v * shade for v in self.colour), condition.sun_heat
        heat = {"body front": self.engine, "body back": 0.35 * self.engine, "body top": sun + 0.5 * self.engine}
        above = heat.get(name, 0.12 * self.engine) + 0.6 * sun + self.roof
        self._paint(canvas, corners, colour, condition.surface(above))
        if name.startswith("glass") and not name.endswith("top"):
            glass = self.roof - 1.5 + (3.0 if self.driving else 0.0)
            self._paint(canvas, _inset(corners), (0.08, 0.1, 0.12), condition.surface(glass))

    def _paint(self, canvas: Canvas, corners: list[tuple], colour, temperature: float, lamp: float = 0.0) -> None:
        part = canvas.part(colour, temperature, self.z, 0.04, 0.3, lamp)
        canvas.polygon([canvas.camera.project(*self._world(*c)) for c in corners], part)

    def _wheels(self, canvas: Canvas, condition: Condition) -> None:
        heat = condition.surface((0.5 + 0.5 * self.engine) if self.driving else -0.5)
        near = min((-0.5, 0.5), key=lambda side: self._depth([(0.0, side, 0.3)]))
        rim = heat + (1.5 if self.driving else 0.0)
        turns = [i * math.pi / 5 for i in range(10)]
        for along in (-0.32, 0.32):
            for radius, grey, temperature in ((0.33, 0.05, heat), (0.18, 0.4, rim)):
                steps = [(radius / self.length * math.cos(t), radius * math.sin(t)) for t in turns]
                circle = [(along + a, near * 1.01, 0.33 + up) for a, up in steps]
                self._paint(canvas, circle, (grey, grey, grey), temperature)

    def _lights(self, canvas: Canvas, condition: Condition) -> None:
        """Paint the lights of the end that is seen, and the exhaust pipe of a car that drives ahead."""
        if abs(math.cos(self.yaw)) < 0.2:
            return
        front = math.cos(self.yaw) < 0
        end, colour = (0.505, (0.8, 0.8, 0.75)) if front else (-0.505, (0.5, 0.05, 0.05))
        lamp = (0.8 if front else 0.15) * (condition.sky_light < 0.5 and self.driving)
        for across in (-0.4, 0.28):
            light = [(end, a, up) for a, up in rectangle(across, across + 0.12, 0.6, 0.74)]
            self._paint(canvas, light, colour, condition.surface(self.engine * 0.8), lamp)
        if self.driving and not front:
            pipe = [(end, a, up) for a, up in rectangle(0.2, 0.36, 0.22, 0.34)]
            self._paint(canvas, pipe, (0.05, 0.05, 0.05), condition.air + 3 * self.engine)


def _faces(along: Point, across: Point, bottom: float, top: float, name: str, taper: float) -> list[tuple]:
    """Return (name, corners) of a box's five faces; the top is smaller by `taper`, a share of the length."""
    (back, front), (left, right) = along, across
    low = {(i, j): (a, b, bottom) for i, a in enumerate((back, front)) for j, b in enumerate((left, right))}
    a_top, b_top = (back + taper * 0.6, front - taper), (left * (1 - taper), right * (1 - taper))
    high = {(i, j): (a, b, top) for i, a in enumerate(a_top) for j, b in enumerate(b_top)}
    sides = {
        "back": ((0, 0), (0, 1)), "front": ((1, 0), (1, 1)), "left": ((0, 0), (1, 0)), "right": ((0, 1), (1, 1))
    }  # fmt: skip
    faces = [(f"{name} {side}", [low[a], low[b], high[b], high[a]]) for side, (a, b) in sides.items()]
    return [*faces, (f"{name} top", [high[0, 0], high[0, 1], high[1, 1], high[1, 0]])]


def _inset(corners: list[tuple]) -> list[tuple]:
    centre = [sum(values) / len(corners) for values in zip(*corners)]
    return [tuple(m + 0.8 * (v - m) for v, m in zip(corner, centre)) for corner in corners]

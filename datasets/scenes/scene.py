"""One road scene: who is where, painted far to near, and seen by both sensors.

Shapes: H, W the picture; N objects. Boxes are xyxy pixels of the thermal picture, around what is visible.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from datasets.scenes import surroundings
from datasets.scenes.actors import Bike, Car, Person
from datasets.scenes.canvas import MARGIN, SUBPIXELS, Camera, Canvas, Point
from datasets.scenes.conditions import CONDITIONS, Condition, draw_condition
from datasets.scenes.sensors import MAX_SHIFT, camera_image, thermal_image

CLASSES = ("person", "bike", "car")
LEAST_VISIBLE = 0.3  # of an object's own pixels: less is marked as a crowd, which nobody has to find
LEAST_SIDE = 0.02  # of the picture's width


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered pair: rgb uint8 (H, W, 3), thermal uint8 (H, W); boxes_xyxy (N, 4), labels (N,) into CLASSES, crowd
    (N,) true where too little is visible; `condition` its name; `local_failures` names those that were drawn."""

    condition: str
    local_failures: list[str]
    rgb: np.ndarray
    thermal: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


@dataclass
class _Stage:
    """A scene under construction: things to paint with their distance, lights, and each object's class and pixels."""

    canvas: Canvas
    street: surroundings.Street
    condition: Condition
    random: np.random.RandomState
    things: list[tuple[float, str | None, Callable[[], None]]] = field(default_factory=list)
    lights: list[tuple[Point, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)


def render_scene(seed: tuple[int, ...], width: int, condition: str) -> Scene:
    """Render one pair.

    Args:
        seed: whole numbers from 0; everything follows from them and the other arguments.
        width: of the picture, pixels; its height is 0.8 of that.
        condition: a name of CONDITIONS.
    """
    random = np.random.RandomState(np.random.SeedSequence(seed).generate_state(8))
    drawn = draw_condition(condition, random)
    camera = _camera(width, random)
    stage = _Stage(Canvas(camera), surroundings.Street(random), drawn, random)
    surroundings.paint_sky(stage.canvas, drawn, random)
    surroundings.paint_ground(stage.canvas, stage.street, drawn, random)
    surroundings.paint_buildings(stage.canvas, stage.street, drawn, random)
    for place in (_place_plants, _place_people, _place_bikes, _place_cars):
        place(stage)
    if drawn.warm_wall:
        surroundings.paint_warm_wall(stage.canvas, random)
    _paint(stage)
    parts = stage.canvas.parts_map()
    maps = stage.canvas.maps(parts)
    turn, far = random.uniform(0, 2 * np.pi), MAX_SHIFT * random.uniform() ** 2
    rgb = camera_image(maps, drawn, camera, stage.lights, (far * np.cos(turn), far * np.sin(turn)), random)
    thermal = thermal_image(maps, drawn, camera, random)
    failures = [name for name in ("bloom", "warm_wall", "shadow") if getattr(drawn, name)]
    return Scene(condition, failures, rgb, thermal, *_boxes(stage, parts))


def conditions() -> list[str]:
    return list(CONDITIONS)


def _camera(width: int, random: np.random.RandomState) -> Camera:
    height = round(0.8 * width)
    horizon, centre = height * random.uniform(0.36, 0.48), width * random.uniform(0.42, 0.58)
    return Camera(width, height, width * random.uniform(1.1, 1.3), horizon, centre, random.uniform(1.2, 1.7))


def _spot(stage: _Stage, near: float, far: float, inside: float, outside: float) -> tuple[float, float] | None:
    """Draw a place (x, z) between two distances from the street's middle, within the picture; None if none is found."""
    random, camera = stage.random, stage.canvas.camera
    for _ in range(8):
        z = float(np.exp(random.uniform(np.log(near), np.log(far))))
        x = stage.street.at(random.choice([-1, 1]) * random.uniform(inside, outside), z)
        if 0.02 < camera.project(x, 0, z)[0] / camera.width < 0.98:
            return x, z
    return None


def _place_plants(stage: _Stage) -> None:
    random, street = stage.random, stage.street
    for paint, most, inside, outside in (
        (surroundings.paint_tree, 5, street.pavement, street.pavement + 9),
        (surroundings.paint_pole, 4, street.road + 0.2, street.road + 0.8),
    ):
        for _ in range(random.randint(most + 1)):
            if spot := _spot(stage, 6.0, 50.0, inside, outside):
                stage.things.append((spot[1], None, partial(paint, stage.canvas, stage.condition, *spot, random)))


def _place_people(stage: _Stage) -> None:
    random, street = stage.random, stage.street
    for _ in range(random.choice([0, 1, 2, 3, 4])):
        crossing = random.uniform() < 0.25
        inside, outside = (0.0, street.road) if crossing else (street.road, street.pavement + 0.5)
        if spot := _spot(stage, 4.5, 20.0, inside, outside):
            _add_person(stage, *spot)
            if random.uniform() < 0.3:
                _add_person(stage, spot[0] + random.uniform(0.4, 0.9), spot[1] + random.uniform(-0.5, 0.5))


def _add_person(stage: _Stage, x: float, z: float) -> None:
    stage.things.append((z, "person", partial(Person(stage.random).paint, stage.canvas, stage.condition, x, z)))


def _place_bikes(stage: _Stage) -> None:
    random, street = stage.random, stage.street
    for _ in range(random.choice([0, 1, 1, 2])):
        ridden = random.uniform() < 0.6
        inside, outside = (0.5, street.road) if ridden else (street.road, street.pavement)
        if spot := _spot(stage, 4.0, 15.0, inside, outside):
            bike, there = Bike(random, ridden), (stage.canvas, stage.condition, *spot)
            stage.things.append((spot[1], "bike", partial(bike.paint, *there)))
            if ridden:  # a little nearer, so that the rider is painted over the bike
                rider = Person(random, riding=True)
                stage.things.append((spot[1] - 0.01, "person", partial(rider.paint_riding, *there, bike)))


def _place_cars(stage: _Stage) -> None:
    random, road = stage.random, stage.street.road
    kinds = {  # nearest and farthest distance, distances from the street's middle, where the car heads
        "oncoming": (7.0, 24.0, 1.3, max(road - 1.2, 1.3), np.pi),
        "ahead": (7.0, 32.0, 1.3, max(road - 1.2, 1.3), 0.0),
        "parked": (5.0, 32.0, road - 1.0, road, random.choice([0.0, np.pi])),
        "crossing": (8.0, 32.0, 0.0, 4.0, random.choice([-0.5, 0.5]) * np.pi),
    }
    drawn = [random.choice(list(kinds)) for _ in range(random.randint(4))]
    if stage.condition.bloom:
        drawn = ["oncoming", *drawn[1:]]
    for kind in drawn:
        *place, heading = kinds[kind]
        if not (spot := _spot(stage, *place)):
            continue
        yaw = heading + random.uniform(-0.12, 0.12)
        car = Car(random, kind != "parked", yaw, *spot)
        stage.things.append((spot[1], "car", partial(car.paint, stage.canvas, stage.condition)))
        if kind == "oncoming":
            stage.lights += [(light, spot[1]) for light in car.headlights(stage.canvas.camera)]


def _paint(stage: _Stage) -> None:
    """Paint everything far to near; counts each object's pixels before anything hides them."""
    canvas = stage.canvas
    for _, label, paint in sorted(stage.things, key=lambda thing: -thing[0]):
        canvas.owner = len(stage.labels) + 1 if label else 0
        first = len(canvas.rows)
        paint()
        if label:
            stage.labels.append(CLASSES.index(label))
            stage.whole.append(int(np.count_nonzero(canvas.parts_map() >= first)))


def _boxes(stage: _Stage, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes around visible pixels, labels, and which objects show too little; tiny ones are left out."""
    camera, margin = stage.canvas.camera, MARGIN * SUBPIXELS
    owners = np.asarray(stage.canvas.owners, np.int32)[parts]
    inside = owners[margin : margin + camera.height * SUBPIXELS, margin : margin + camera.width * SUBPIXELS]
    boxes, labels, crowd = [], [], []
    for number, (label, whole) in enumerate(zip(stage.labels, stage.whole), 1):
        rows, columns = np.nonzero(inside == number)
        if not len(rows):
            continue
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SUBPIXELS
        if (
            min(box[2] - box[0], box[3] - box[1]) < LEAST_SIDE * camera.width / 2
            or box[3] - box[1] < LEAST_SIDE * camera.width
        ):
            continue
        boxes.append(box)
        labels.append(label)
        crowd.append(len(rows) < LEAST_VISIBLE * whole)
    return np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(labels, np.int64), np.asarray(crowd, bool)

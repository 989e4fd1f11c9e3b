"""The conditions of a scene: light, weather and temperature, and which sensor they hurt.

Each condition is one row of `CONDITIONS`; a scene draws its numbers from the row's ranges. In about half of them the
camera fails (night, glare, fog), in the others the thermal sensor (warm noon, rain, a noisy sensor); by day both work.
Local failures come on top, so that within one image each sensor misses what the other sees: a headlight's bloom and a
shadow blind the camera, a wall as warm as a body hides people from the thermal sensor.

Constants were balanced by the results of the two single-sensor detectors alone; no fusion was run for that.
"""

from dataclasses import dataclass, fields
from types import SimpleNamespace

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """What a condition draws from, uniformly. Light is in units of full daylight, temperatures in degrees Celsius."""

    # light and air, as the camera sees it
    sky_light: Range = (0.35, 0.6)
    sun_light: Range = (0.0, 0.9)
    headlights: Range = (0.0, 0.0)  # our own car's, at 10 m
    lamps: Range = (0.0, 0.0)  # street lamps, below them
    glare: Range = (0.0, 0.0)  # a low sun in front: veiling light at its place
    visibility: Range = (400.0, 900.0)  # metres at which contrast falls to 5 %
    camera_noise: Range = (0.008, 0.016)  # read noise at the longest exposure
    camera_blur: Range = (0.0, 0.4)  # pixels of 640
    streaks: Range = (0.0, 0.0)  # rain drops per 1000 pixels
    # temperature, as the thermal sensor sees it
    air: Range = (8.0, 20.0)
    sun_heat: Range = (0.0, 5.0)  # of roads, walls and roofs above the air
    clutter: Range = (1.2, 2.4)  # strength of the surfaces' own temperature pattern
    wetness: Range = (0.0, 0.0)  # share of its difference to the air that a surface loses
    thermal_visibility: Range = (600.0, 1200.0)
    thermal_noise: Range = (0.4, 0.9)  # degrees, per pixel
    banding: Range = (0.1, 0.3)  # degrees, per column
    drift: Range = (0.2, 0.8)  # degrees, slow non-uniformity over the picture
    thermal_blur: Range = (0.6, 1.4)  # pixels of 640
    # chances of local failures
    bloom: float = 0.0
    warm_wall: float = 0.0
    shadow: float = 0.0


CONDITIONS = {
    "day": Ranges(sun_heat=(0.0, 8.0), warm_wall=0.4, shadow=0.3),
    "night": Ranges(
        sky_light=(0.001, 0.004),
        sun_light=(0.0, 0.0),
        headlights=(0.02, 0.10),
        lamps=(0.0, 0.04),
        camera_noise=(0.03, 0.05),
        camera_blur=(0.5, 1.5),
        air=(-2.0, 12.0),
        sun_heat=(0.0, 2.0),
        bloom=0.6,
        warm_wall=0.3,
    ),
    "glare": Ranges(
        sky_light=(0.2, 0.35), sun_light=(0.1, 0.3), glare=(2.5, 5.0), air=(4.0, 18.0), warm_wall=0.3, shadow=0.3
    ),
    "fog": Ranges(
        sky_light=(0.5, 0.7),
        sun_light=(0.0, 0.0),
        visibility=(14.0, 32.0),
        camera_noise=(0.012, 0.02),
        air=(2.0, 12.0),
        sun_heat=(0.0, 1.0),
        thermal_visibility=(80.0, 200.0),
        bloom=0.2,
        warm_wall=0.2,
    ),
    "rain": Ranges(
        sky_light=(0.2, 0.4),
        sun_light=(0.0, 0.0),
        headlights=(0.0, 0.1),
        visibility=(120.0, 300.0),
        camera_noise=(0.012, 0.02),
        camera_blur=(0.3, 1.0),
        streaks=(1.0, 3.0),
        air=(10.0, 18.0),
        sun_heat=(0.0, 1.0),
        wetness=(0.8, 0.95),
        thermal_visibility=(60.0, 150.0),
        thermal_noise=(0.5, 1.0),
        thermal_blur=(1.5, 3.5),
        bloom=0.2,
    ),
    "noon": Ranges(
        sky_light=(0.4, 0.6),
        sun_light=(0.7, 1.1),
        air=(30.0, 35.0),
        sun_heat=(0.0, 8.0),
        clutter=(2.5, 4.5),
        thermal_noise=(0.3, 0.6),
        shadow=0.4,
    ),
    "thermal_noise": Ranges(
        sky_light=(0.3, 0.6),
        sun_light=(0.0, 0.4),
        thermal_noise=(2.5, 5.5),
        banding=(1.5, 3.5),
        drift=(3.0, 7.0),
        shadow=0.3,
    ),
}


class Condition(SimpleNamespace):
    """One scene's draw: the fields of `Ranges`, numbers and truth values, and the scene's `name`."""

    def surface(self, above_air: float) -> float:
        """Return the temperature of a surface that is `above_air` degrees warmer than the air when dry."""
        return self.air + above_air * (1 - self.wetness)


def draw_condition(name: str, random: np.random.RandomState) -> Condition:
    """Draw the numbers of a condition."""
    values = {}
    for f in fields(Ranges):
        value = getattr(CONDITIONS[name], f.name)
        values[f.name] = random.uniform(*value) if isinstance(value, tuple) else bool(random.uniform() < value)
    return Condition(name=name, **values)

"""Skeletons of the generated clips: a Kinect's 25 joints, one limb of which moves, as NTU RGB+D's text.

Shapes: T frames, V = 25 joints.
"""

import numpy as np

# x aside, y up, metres from the base of the spine; in the order of the Kinect's second version.
POSE = np.array(
    (
        ((0, 0), (0, 0.28), (0, 0.55), (0, 0.7), (-0.18, 0.45)),  # spine, neck, head; left shoulder
        ((-0.26, 0.2), (-0.3, -0.02), (-0.31, -0.1), (0.18, 0.45), (0.26, 0.2)),  # elbow, wrist, hand; right arm
        ((0.3, -0.02), (0.31, -0.1), (-0.08, -0.05), (-0.1, -0.45), (-0.11, -0.82)),  # left hip, knee, ankle
        ((-0.12, -0.9), (0.08, -0.05), (0.1, -0.45), (0.11, -0.82), (0.12, -0.9)),  # foot; right leg
        ((0, 0.48), (-0.31, -0.18), (-0.27, -0.1), (0.31, -0.18), (0.27, -0.1)),  # upper spine; finger tips, thumbs
    )
).reshape(25, 2)
BEHIND = np.array((0.8, 0, 0.6))  # where another person stands, metres
LIMBS = {  # joints that move, from 0, in full or in part
    "left arm": {5: 0.5, 6: 0.9, 7: 1, 21: 1, 22: 1},
    "right arm": {9: 0.5, 10: 0.9, 11: 1, 23: 1, 24: 1},
    "left leg": {13: 0.5, 14: 0.9, 15: 1},
    "right leg": {17: 0.5, 18: 0.9, 19: 1},
    "head": {2: 0.5, 3: 1},
}
AXES = ("aside", "up")
SWING = (0.12, 0.22)  # metres to either side
CYCLES = (1.0, 2.2)  # that a clip shows
NOISE = 0.008  # metres, of a joint in a frame
REST = "0 0 0 0 0 0 0 0 2"  # of a joint's line: places in the pictures, turn, state
INFORMATION = "0 1 1 1 1 0 0 0 2"  # on a body, behind its id
IDS = (72057594037930000, 72057594037940000)  # of persons; their range in the published files


def moving_body(random: np.random.Generator, num_frames: int, limb: int, axis: int) -> np.ndarray:
    """Return the joints of a person who moves one of `LIMBS` along one of `AXES`: (T, V, 3) metres."""
    angles = 2 * np.pi * (random.random() + np.linspace(0, random.uniform(*CYCLES), num_frames))
    joints = _standing(random, num_frames)
    weights = np.zeros(len(POSE))
    moved = list(LIMBS.values())[limb]
    weights[list(moved)] = list(moved.values())
    joints[:, :, axis] += random.uniform(*SWING) * np.sin(angles)[:, None] * weights
    return joints


def bodies(random: np.random.Generator, num_frames: int, limb: int, axis: int) -> list[np.ndarray]:
    """Return the moving person, and in some clips one who stands behind, in a drawn order."""
    persons = [moving_body(random, num_frames, limb, axis)]
    if random.random() < 0.3:
        persons.insert(int(random.integers(2)), _standing(random, num_frames) + BEHIND)
    return persons


def skeleton_text(persons: list[np.ndarray]) -> str:
    """Write persons (T, V, 3), all in every frame, as a `.skeleton` file has them."""
    lines = [str(len(persons[0]))]
    for frame in zip(*persons):
        lines.append(str(len(frame)))
        for name, joints in zip(IDS, frame):
            lines += [f"{name} {INFORMATION}", str(len(joints))]
            lines += [f"{x:.6f} {y:.6f} {z:.6f} {REST}" for x, y, z in joints]
    return "\n".join(lines) + "\n"


def _standing(random: np.random.Generator, num_frames: int) -> np.ndarray:
    place = random.uniform((-0.5, -0.1, 2.2), (0.5, 0.1, 3.8))
    flat = POSE * random.uniform(0.9, 1.1)
    return np.pad(flat, ((0, 0), (0, 1))) + place + random.normal(0, NOISE, (num_frames, *flat.shape[:1], 3))

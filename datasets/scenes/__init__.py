"""The renderer behind `datasets/road_scenes.py`: everything that decides a pixel or a box of the synthetic scenes.

`scenes_hash()` names this code and its constants, so that numbers measured on other scenes cannot be mixed up.
"""

import hashlib
from pathlib import Path


def scenes_hash() -> str:
    """Return 12 hex digits of the renderer's source: drawing, conditions, sensors and their constants."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:12]

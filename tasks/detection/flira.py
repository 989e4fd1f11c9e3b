"""The preset of NAS-DSF: detection on RGB-thermal pairs, searched fusion cells between frozen streams and one head."""

from tasks.detection.task import Detection

FLIRA = Detection("flira", "NAS-DSF: objects in RGB-thermal pairs")

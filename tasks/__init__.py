"""The tasks by name. An entry has the options of its task; the rest, with torch, is imported when it is loaded."""

from collections.abc import Callable
from functools import partial

from engine.task import Task
from tasks.classification import options as classification_options
from tasks.classification.presets import DATA_SETS, DataSet
from tasks.detection import options as detection_options
from utils.args import Parser


class TaskEntry(Task):
    """A task whose module is imported by `load`."""

    def __init__(self, name: str, title: str, add_options: Callable[[Parser, str], None], load: Callable[[], Task]):
        self.name, self.title = name, title
        self.add_options, self.load = add_options, load


def load_detection() -> Task:
    from tasks.detection.flira import FLIRA

    return FLIRA


def load_classification(preset: DataSet) -> Task:
    from tasks.classification.task import Classification

    return Classification(preset)


TITLE = "NAS-DSF: objects in RGB-thermal pairs"
TASKS = {"flira": TaskEntry("flira", TITLE, detection_options.add_options, load_detection)}
TASKS |= {
    name: TaskEntry(
        name,
        preset.title,
        partial(classification_options.add_options, preset=preset),
        partial(load_classification, preset),
    )
    for name, preset in DATA_SETS.items()
}

"""The tasks by name. An entry has the options of its task; the rest, with torch, is imported when it is loaded."""

from collections.abc import Callable
from functools import partial

from engine.task import Task
from tasks.classification.options import add_options as add_classification_options
from tasks.classification.presets import DATA_SETS, DataSet
from tasks.detection.fad_options import add_options as add_fad_options
from tasks.detection.options import add_options as add_detection_options
from utils.args import Parser


class TaskEntry(Task):
    """A task whose module is imported by `load`."""

    def __init__(
        self,
        name: str,
        title: str,
        add_options: Callable[[Parser, str], None],
        load: Callable[[], Task],
        encoders_learn: bool = False,
    ):
        self.name, self.title, self.encoders_learn = name, title, encoders_learn
        vars(self).update(add_options=add_options, load=load)


def load_detection() -> Task:
    from tasks.detection.flira import FLIRA

    return FLIRA


def load_fad() -> Task:
    from tasks.detection.fad import FAD

    return FAD


def load_classification(preset: DataSet) -> Task:
    from tasks.classification.task import Classification

    return Classification(preset)


TASKS = {
    "flira": TaskEntry("flira", "NAS-DSF: objects in RGB-thermal pairs", add_detection_options, load_detection),
    "fad": TaskEntry("fad", "FAD: objects in pictures of one camera, searched towers", add_fad_options, load_fad, True),
}
for name, preset in DATA_SETS.items():
    add_options = partial(add_classification_options, preset=preset)
    TASKS[name] = TaskEntry(name, preset.title, add_options, partial(load_classification, preset))

"""The three data sets of BM-NAS (2104.09379): encoders, and the published settings of section 4. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Weights:
    """Published settings of the weights in a phase: epochs, dropout, decay, batch, highest rate, first cycle."""

    epochs: int
    dropout: float
    decay: float
    batch: int
    eta_max: float
    cycle: int


@dataclass(frozen=True)
class DataSet:
    """What the commands of a data set differ by.

    Args:
        title: in words.
        backbone: of pictures and clips; `choices` says which others there are.
        square: maps are pooled in both directions, not along time or height alone.
        channels, length: C, L.
        node_steps: inner steps of a node, all of which go out.
        search, found: settings of both phases.
        files: by modality, the option that names a published checkpoint file, and its default in checkpointdir.
        train_encoders: the encoders are trained along in the final training, as published.
        multi_label: an example has any number of classes.
        draws: training can draw crops.
    """

    name: str
    title: str
    backbone: str
    choices: str
    square: bool
    channels: int
    length: int
    node_steps: int
    search: Weights
    found: Weights
    files: dict[str, str]
    train_encoders: bool = True
    multi_label: bool = False
    draws: bool = True


RESNETS = "resnet18 to resnet152"
MMIMDB = DataSet(
    "mmimdb",
    "MM-IMDB: 23 genres of films by poster and plot",
    "vgg19",
    "or any timm encoder with four maps",
    True,
    192,
    16,
    1,
    Weights(30, 0.1, 1e-4, 8, 1e-3, 1),
    Weights(30, 0.1, 1e-4, 8, 1e-3, 1),
    {"image": "image_cp", "text": "text_cp"},
    multi_label=True,
    draws=False,
)
NTU = DataSet(
    "ntu",
    "NTU RGB+D: 60 actions by video and skeleton",
    "resnet50",
    RESNETS,
    False,
    128,
    8,
    2,
    Weights(30, 0.2, 1e-4, 96, 1e-3, 1),
    Weights(50, 0.2, 1e-4, 96, 3e-4, 5),
    {"rgb": "rgb_cp", "skeleton": "ske_cp"},
)
EGO = DataSet(
    "ego",
    "EgoGesture: 83 gestures by colour and depth",
    "resnext101",
    "resnext50, resnext26",
    False,
    128,
    8,
    3,
    Weights(30, 0.0, 1e-4, 96, 3e-3, 5),
    Weights(50, 0.2, 1e-4, 96, 3e-3, 5),
    {"rgb": "rgb_cp", "depth": "depth_cp"},
    train_encoders=False,
)
DATA_SETS = {preset.name: preset for preset in (MMIMDB, NTU, EGO)}

"""The three data sets of BM-NAS (2104.09379): encoders, and the published settings of section 4. Imports no torch."""

from dataclasses import dataclass


def settings(*, epochs: int, drpt: float, batchsize: int, eta_max: float, Ti: int) -> dict[str, float]:
    """Return the published settings of a phase, by option."""
    return {"epochs": epochs, "drpt": drpt, "weight_decay": 1e-4, "batchsize": batchsize, "eta_max": eta_max, "Ti": Ti}


@dataclass(frozen=True)
class DataSet:
    """What the commands of a data set differ by.

    Args:
        title: in words.
        backbone: of pictures and clips.
        files: by modality, the option that names a published checkpoint file, and its default in checkpointdir.
        node_steps: inner steps of a node, all of which go out.
        search, found: settings of both phases.
        channels, length: C, L.
        square: maps are pooled in both directions, not along time or height alone.
        train_encoders: the encoders are trained along in the final training, as published.
        multi_label: an example has any number of classes.
        draws: training can draw crops.
        imagenet: there are ImageNet weights of the encoders of pictures and clips.
    """

    name: str
    title: str
    backbone: str
    files: dict[str, str]
    node_steps: int
    search: dict[str, float]
    found: dict[str, float]
    channels: int = 128
    length: int = 8
    square: bool = False
    train_encoders: bool = True
    multi_label: bool = False
    draws: bool = True
    imagenet: bool = True


MMIMDB = DataSet(
    "mmimdb",
    "MM-IMDB: 23 genres of films by poster and plot",
    "vgg19",
    {"image": "image_cp", "text": "text_cp"},
    node_steps=1,
    search=settings(epochs=30, drpt=0.1, batchsize=8, eta_max=1e-3, Ti=1),
    found=settings(epochs=30, drpt=0.1, batchsize=8, eta_max=1e-3, Ti=1),
    channels=192,
    length=16,
    square=True,
    multi_label=True,
    draws=False,
)
NTU = DataSet(
    "ntu",
    "NTU RGB+D: 60 actions by video and skeleton",
    "resnet50",
    {"rgb": "rgb_cp", "skeleton": "ske_cp"},
    node_steps=2,
    search=settings(epochs=30, drpt=0.2, batchsize=96, eta_max=1e-3, Ti=1),
    found=settings(epochs=50, drpt=0.2, batchsize=96, eta_max=3e-4, Ti=5),
)
EGO = DataSet(
    "ego",
    "EgoGesture: 83 gestures by colour and depth",
    "resnext101",
    {"rgb": "rgb_cp", "depth": "depth_cp"},
    node_steps=3,
    search=settings(epochs=30, drpt=0.0, batchsize=96, eta_max=3e-3, Ti=5),
    found=settings(epochs=50, drpt=0.2, batchsize=96, eta_max=3e-3, Ti=5),
    train_encoders=False,
    imagenet=False,
)
DATA_SETS = {preset.name: preset for preset in (MMIMDB, NTU, EGO)}

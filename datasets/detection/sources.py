"""Where the files of a data set lie. A data set file (`flir_aligned.py`, `voc_coco.py`, ...) gives a `Source`."""

from dataclasses import dataclass, field
from pathlib import Path

from datasets.detection.transforms import Normalization
from datasets.images import Counts

CHANNELS = {"rgb": 3, "thermal": 1}  # of the images of each modality that networks read


@dataclass(frozen=True)
class ImageList:
    """Where the files of one list lie.

    Attributes:
        annotations: the COCO file, or the file or folder that names the images of a Pascal VOC list.
        folders: of the images, by modality; modalities may share one.
        xml_files: by the image's name without suffix, where the annotations are Pascal VOC.
    """

    annotations: Path
    folders: dict[str, Path]
    xml_files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where the files of a data set lie, and which modalities it has.

    Attributes:
        name: as `--dataset` has it.
        classes: names of the class channels, in order.
        aliases: other names of classes in the files.
        lists: "train", and "val" and "test" where the data set has them.
        layout: which of the known forms was found, in words.
        channels: of the images of each modality: 3 in colours, 1 in grey.
        annotated: the modality whose image names the annotations have; None: the only one.
        names: by modality, (old, new): `old` in the annotated name is `new` in the image's, both with folders and
            without suffix; modalities that are not in it have the annotated name.
        normalization: (mean of 3, standard deviation of 3) in 0..1 of modalities that have their own.
        thermal_counts: 16-bit values that become black and white, see `images.read_thermal`.
        names_repeat: lists may use one name for different images, which are then distinguished by their list.
    """

    name: str
    folder: Path
    classes: tuple[str, ...]
    aliases: dict[str, str]
    lists: dict[str, ImageList]
    layout: str
    channels: dict[str, int] = field(default_factory=lambda: dict(CHANNELS))
    annotated: str | None = "thermal"
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    normalization: Normalization = field(default_factory=dict)
    thermal_counts: Counts | None = None
    names_repeat: bool = False

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities; the annotated one is first."""
        return tuple(sorted(self.channels, key=lambda modality: modality != self.annotated))

    def image_name(self, modality: str, annotated: str) -> str:
        """Return the name of the image of a modality from the annotated name."""
        return annotated.replace(*self.names[modality]) if modality in self.names else annotated

    def prefix(self, origin: str) -> str:
        """Return what is put before the names of a list."""
        return f"{origin}/" if self.names_repeat else ""

"""Write a set of single colour pictures as pairs of a picture and its grey copy, which stands for a thermal one.

    python -m datasets.prepare_grey COCO OUT --dataset examples/coco_road_users.yaml

Detectors of both sensors then start from the same labelled pictures (docs/pretraining.md). OUT gets the pictures in
`rgb/` and `thermal/`, COCO files, and `set.yaml`, which describes it for --dataset.
"""

import shutil
from pathlib import Path

import yaml
from PIL import Image
from tqdm import tqdm

from datasets.detection.dataset import DetectionRecord
from datasets.detection.detection_data import DetectionData
from datasets.detection.names import dataset_name
from datasets.detection.opening import open_data_set
from datasets.images import read_rgb
from utils.args import Parser, command
from utils.errors import UserError
from utils.files import faults_named, new_folder
from utils.run_folder import write_json

DESCRIPTION = "set.yaml"
FOLDERS = ("rgb", "thermal")
QUALITY = 95  # of the JPEG files


@command
def main(argv: list[str]) -> None:
    parser = Parser("Write single colour pictures as pairs of a picture and its grey copy, in place of a thermal one.")
    parser.add_argument("data", metavar="DIR", help="folder of the data set")
    parser.add_argument("out", metavar="OUT", help="new or empty folder")
    text = "how DIR is laid out, a name or a YAML file as of the main commands (coco)"
    parser.add_argument("--dataset", type=dataset_name, default="coco", metavar="NAME|FILE", help=text)
    args = parser.parse_args(argv)
    counts = prepare_grey(open_data_set(args.data, args.dataset), Path(args.out))
    words = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"pairs: {args.out} ({words}); --dataset {Path(args.out) / DESCRIPTION}")


def prepare_grey(data: DetectionData, folder: Path) -> dict[str, int]:
    """Write the pairs of every list of a data set; returns their numbers.

    Args:
        data: of colour pictures.
        folder: new or empty.

    Raises:
        UserError: the data have no colour pictures, one cannot be read, or the folder holds something.
    """
    if data.modalities != ("rgb",):
        raise UserError(f"--dataset {data.name}: expected colour pictures alone, found {' and '.join(data.modalities)}")
    new_folder(folder)
    with faults_named(folder):
        for origin, records in data.records.items():
            for modality in FOLDERS:
                (folder / modality / origin).mkdir(parents=True)
            for record in tqdm(records, f"{origin} pictures", leave=False, disable=None):
                write_pair(record, folder, origin)
            write_json(folder / f"{origin}.json", data.ground_truth[origin])
        text = yaml.safe_dump(description(data), sort_keys=False)
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    return {origin: len(records) for origin, records in data.records.items()}


def write_pair(record: DetectionRecord, folder: Path, origin: str) -> None:
    """Copy the picture of a record and write its grey copy."""
    picture = Image.fromarray(read_rgb(record.paths["rgb"]).permute(1, 2, 0).numpy())
    name = record.file_name.removeprefix(f"{origin}/")  # as annotated
    places = {modality: folder / modality / origin / name for modality in FOLDERS}
    for place in places.values():
        place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(record.paths["rgb"], places["rgb"])
    picture.convert("L").save(places["thermal"], quality=QUALITY)


def description(data: DetectionData) -> dict:
    """Return what set.yaml says."""
    return {
        "classes": data.classes,
        "images": {modality: f"{modality}/{{list}}" for modality in FOLDERS},
        "annotations": {origin: f"{origin}.json" for origin in data.records},
    }


if __name__ == "__main__":
    raise SystemExit(main())

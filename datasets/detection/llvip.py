"""LLVIP: RGB-infrared pairs of streets at night, 1280x1024, with the class person (Jia et al. 2021).

Images lie in `infrared/{train,test}/` and `visible/{train,test}/`, one name for both. Boxes are read from COCO files
(any `*train*.json` and `*test*.json` in the folder or in one below it), else from Pascal VOC files in `Annotations/`,
where the images of a folder are its list.
"""

from pathlib import Path

from datasets.detection.sources import ImageList, Source, find_lists, image_names
from utils.errors import UserError

ORIGINS = ("train", "test")
FOLDERS = {"thermal": "infrared", "rgb": "visible"}


def locate_llvip(folder: Path) -> Source:
    """Find the lists.

    Args:
        folder: the one that holds infrared/ and visible/.
    Raises:
        UserError: the folder is not laid out so, or holds no annotations.
    """
    wanted = [f"{name}/{origin}" for name in FOLDERS.values() for origin in ORIGINS]
    if missing := [name for name in wanted if not (folder / name).is_dir()]:
        raise UserError(f"{folder}: expected LLVIP's folders {', '.join(wanted)}, found no {', '.join(missing)}")
    files = find_lists([folder, *sorted(path for path in folder.iterdir() if path.is_dir())])
    if files and not set(ORIGINS) <= set(files):
        raise UserError(f"{folder}: expected COCO files of train and test, found {', '.join(map(str, files.values()))}")
    if not files and not (folder / "Annotations").is_dir():
        raise UserError(f"{folder}: expected *train*.json and *test*.json, or Annotations/*.xml, found neither")
    lists = {origin: _image_list(folder, origin, files.get(origin)) for origin in ORIGINS}
    return Source("llvip", folder, ("person",), {}, lists, "COCO JSON" if files else "Pascal VOC")


def _image_list(folder: Path, origin: str, coco_file: Path | None) -> ImageList:
    folders = {modality: folder / name / origin for modality, name in FOLDERS.items()}
    if coco_file:
        return ImageList(coco_file, folders)
    names = sorted({name for modality in FOLDERS for name in image_names(folders[modality])})
    xml_files = {name: folder / "Annotations" / f"{name}.xml" for name in names}
    return ImageList(folders["thermal"], folders, xml_files)

"""The pairs of tiny_data.py in the other forms that are read: layout 3, day and night lists, LLVIP, M3FD, own sets."""

from collections.abc import Callable
from pathlib import Path

from tests.tiny_data import (
    LAYOUTS,
    Pair,
    coco_content,
    draw_lists,
    make_tiny_flir,
    rgb_name,
    thermal_name,
    write_flir_images,
    write_image,
    write_json,
)

SIZE = (64, 80)
NUMBERS = {"train": 12, "test": 4}
M3FD_NAMES = ("People", "Motorcycle", "Car", "Bus", "Lamp", "Truck")  # the first three are drawn
OWN_CLASSES = ("person", "car")
OWN = """\
classes: [person, car]
images: {{thermal: {thermal}, rgb: {rgb}}}
annotations: {{train: {train}, test: {test}}}
"""


def make_tiny_align(folder: Path, numbers: dict[str, int] = NUMBERS, listed: str = "FLIR_{:05d}_PreviewData") -> Path:
    """Write layout 3 of FLIR-Aligned; `listed` is how the lists name a pair."""
    for split, pairs in draw_lists(numbers).items():
        for pair in pairs:
            write_image(folder / "JPEGImages" / thermal_name(pair.number), pair.images["thermal"])
            write_image(folder / "JPEGImages" / rgb_name(pair.number), pair.images["rgb"])
            write_voc(folder / "Annotations" / f"FLIR_{pair.number:05d}_PreviewData.xml", thermal_name, pair)
        word = {"train": "train", "test": "validation"}[split]
        write_list(folder / f"align_{word}.txt", [listed.format(pair.number) for pair in pairs])
    return folder


def make_tiny_subset(folder: Path, subset: str, layout: str, own_images: bool = False) -> Path:
    """Write the day or night lists of layout 1 or 2; `own_images`: in folders of their own, as layout 1 may have."""
    words = LAYOUTS[layout][1]
    for split, pairs in draw_lists({split: NUMBERS[split] for split in words}).items():
        content = coco_content(pairs, SIZE, thermal_name)
        place = {"1": f"images_thermal_{{}}_{subset}/{subset}_flir.json", "2": f"meta/thermal/{subset}_flir_{{}}.json"}
        write_json(folder / place[layout].format(words[split]), content)
        write_flir_images(folder, f"{words[split]}_{subset}" if own_images else words[split], pairs)
    return folder


def make_tiny_llvip(folder: Path, form: str = "coco") -> Path:
    """Write LLVIP with persons, their boxes in COCO or Pascal VOC files."""
    for split, pairs in draw_lists(NUMBERS, classes=("person",)).items():
        for pair in pairs:
            write_image(folder / "infrared" / split / plain_name(pair.number), pair.images["thermal"])
            write_image(folder / "visible" / split / plain_name(pair.number), pair.images["rgb"])
            if form == "voc":
                write_voc(folder / "Annotations" / f"{pair.number:06d}.xml", plain_name, pair)
        if form == "coco":
            content = coco_content(pairs, SIZE, plain_name, string_ids=False)
            write_json(folder / f"{split}.json", content | {"categories": [{"id": 1, "name": "person"}]})
    return folder


def make_tiny_m3fd(folder: Path, words: dict[str, str] | None = None) -> Path:
    """Write M3FD; `words` gives the word in the name of each list's file."""
    words = words or {"train": "train", "test": "val"}
    for split, pairs in draw_lists({split: NUMBERS.get(split, 3) for split in words}).items():
        for pair in pairs:
            write_image(folder / "Ir" / plain_name(pair.number), pair.images["thermal"])
            write_image(folder / "Vis" / plain_name(pair.number), pair.images["rgb"])
        content = coco_content(pairs, SIZE, plain_name, string_ids=False)
        content["categories"] = [{"id": number, "name": name} for number, name in enumerate(M3FD_NAMES, 1)]
        write_json(folder / "meta" / f"m3fd_{words[split]}.json", content)
    return folder


def make_tiny_own(
    folder: Path, form: str = "coco", per_list: bool = True, more: str = "", numbers: dict[str, int] = NUMBERS
) -> Path:
    """Write an own set of persons and cars and its description, my_set.yaml in the folder.

    Args:
        folder: made if missing.
        form: "coco", "voc" (lists of names) or "voc folders" (a folder of XML files for each list).
        per_list: image folders for each list, or common ones.
        more: lines added to the description.
        numbers: pairs of each list.
    """
    for split, pairs in draw_lists(numbers, classes=OWN_CLASSES).items():
        below = split if per_list else "."
        for pair in pairs:
            write_image(folder / "thermal" / below / plain_name(pair.number), pair.images["thermal"])
            write_image(folder / "rgb" / below / plain_name(pair.number), pair.images["rgb"])
            if form != "coco":
                xml = folder / "xml" / (split if form == "voc folders" else ".")
                write_voc(xml / f"{pair.number:06d}.xml", plain_name, pair)
        write_list(folder / "lists" / f"{split}.txt", [f"{pair.number:06d}" for pair in pairs])
        write_json(folder / "annotations" / f"{split}.json", coco_content(pairs, SIZE, plain_name, string_ids=False))
    images = {m: f'"{m}/{{list}}"' if per_list else m for m in ("thermal", "rgb")}
    place = {"coco": "annotations/{}.json", "voc": "lists/{}.txt", "voc folders": "xml/{}"}[form]
    text = OWN.format(**images, train=place.format("train"), test=place.format("test"))
    (folder / "my_set.yaml").write_text(text + more + ("xml: xml\n" if form == "voc" else ""))
    return folder


def plain_name(number: int) -> str:
    return f"{number:06d}.jpg"


def write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def write_voc(path: Path, name: Callable[[int], str], pair: Pair) -> None:
    """Write the Pascal VOC file of a pair."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(voc_text(name(pair.number), SIZE, [(n, corners(bbox)) for n, bbox in pair.objects]))


def corners(bbox: list[float]) -> list[float]:
    x, y, width, height = bbox
    return [x, y, x + width, y + height]


def voc_text(file_name: str, size: tuple[int, int], objects: list[tuple[str, list[float]]]) -> str:
    """Give a Pascal VOC file of one image of `size` (height, width), with (class name, xyxy) for each object."""
    keys = "xmin", "ymin", "xmax", "ymax"
    boxes = ["".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, box, strict=True)) for _, box in objects]
    items = [f"<object><name>{n}</name><bndbox>{box}</bndbox></object>" for (n, _), box in zip(objects, boxes)]
    sides = f"<width>{size[1]}</width><height>{size[0]}</height><depth>3</depth>"
    return f"<annotation><filename>{file_name}</filename><size>{sides}</size>{''.join(items)}</annotation>"


# Each form that is read: how to write it into a folder, and its --dataset ({} is the folder).
FLIR_FORMS = {
    "1": (lambda folder: make_tiny_flir(folder, layout="1"), "flir_aligned"),
    "2": (lambda folder: make_tiny_flir(folder, layout="2"), "flir_aligned"),
    "3": (make_tiny_align, "flir_aligned"),
    "3 in align/": (lambda folder: make_tiny_align(folder / "align").parent, "flir_aligned"),
    "3, bare names": (lambda folder: make_tiny_align(folder, listed="FLIR_{:05d}"), "flir_aligned"),
    "1, night": (lambda folder: make_tiny_subset(folder, "night", "1"), "flir_aligned_night"),
    "1, night, own images": (lambda folder: make_tiny_subset(folder, "night", "1", True), "flir_aligned_night"),
    "2, day": (lambda folder: make_tiny_subset(folder, "day", "2"), "flir_aligned_day"),
}
OTHER_FORMS = {
    "llvip": (make_tiny_llvip, "llvip"),
    "llvip, voc": (lambda folder: make_tiny_llvip(folder, "voc"), "llvip"),
    "m3fd": (make_tiny_m3fd, "m3fd"),
    "own": (make_tiny_own, "{}/my_set.yaml"),
    "own, common": (lambda folder: make_tiny_own(folder, per_list=False), "{}/my_set.yaml"),
    "own, voc": (lambda folder: make_tiny_own(folder, "voc"), "{}/my_set.yaml"),
    "own, voc, common": (lambda folder: make_tiny_own(folder, "voc", per_list=False), "{}/my_set.yaml"),
    "own, voc folders": (lambda folder: make_tiny_own(folder, "voc folders"), "{}/my_set.yaml"),
}
FORMS = FLIR_FORMS | OTHER_FORMS


def make_tiny_voc(folder: Path, numbers: dict[str, int] = NUMBERS) -> Path:
    """Write single RGB images in the form of Pascal VOC, with a list for each entry of `numbers`."""
    for split, pairs in draw_lists(numbers, classes=OWN_CLASSES).items():
        for pair in pairs:
            write_image(folder / "JPEGImages" / plain_name(pair.number), pair.images["rgb"])
            write_voc(folder / "Annotations" / f"{pair.number:06d}.xml", plain_name, pair)
        write_list(folder / "ImageSets/Main" / f"{split}.txt", [f"{pair.number:06d}" for pair in pairs])
    return folder


def make_tiny_coco(folder: Path, numbers: dict[str, int] = NUMBERS) -> Path:
    """Write single RGB images in the form of COCO 2017, with a list for each entry of `numbers`."""
    for split, pairs in draw_lists(numbers).items():
        for pair in pairs:
            write_image(folder / f"{split}2017" / plain_name(pair.number), pair.images["rgb"])
        content = coco_content(pairs, SIZE, plain_name, string_ids=False)
        write_json(folder / "annotations" / f"instances_{split}2017.json", content)
    return folder

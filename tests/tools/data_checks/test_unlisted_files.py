"""Files that no list names: halves and whole pairs, in folders of their own and in shared ones."""

import json
from pathlib import Path

import pytest

from datasets.detection.sources import ImageList, Source
from tools.data_checks.unlisted_files import named_images, unlisted_files

LISTS = {"train": range(3), "test": range(3, 5)}
FORMS = {  # thermal folder, RGB folder, file names of both, rules for both: FLIR's layout 2 and 3, M3FD, own sets
    "folders by list": ("t_{}", "r_{}", "{}_PreviewData.jpeg", "{}_RGB.jpg", (), ("PreviewData", "RGB")),
    "one folder": ("all", "all", "{}_PreviewData.jpeg", "{}_RGB.jpg", (), ("PreviewData", "RGB")),
    "folders by modality": ("ir", "vis", "{}.png", "{}.png", (), ()),
    "folders in names": ("ir", "vis", "day/{}.png", "day/{}.jpg", (), ()),
    "RGB annotated": ("ir", "vis", "{}_ir.png", "{}_vis.png", ("_vis", "_ir"), ()),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def place(folder: Path, form: tuple, origin: str, modality: str, number: int) -> Path:
    index = ("thermal", "rgb").index(modality)
    return folder / form[index].format(origin) / form[2 + index].format(f"FLIR_{number}")


def make_source(folder: Path, form: tuple) -> Source:
    lists = {}
    for origin, numbers in LISTS.items():
        named = form[3] if form[4] else form[2]
        images = [{"file_name": named.format(f"FLIR_{number}")} for number in numbers]
        (folder / f"{origin}.json").write_text(json.dumps({"images": images}))
        folders = {m: folder / form[i].format(origin) for i, m in enumerate(("thermal", "rgb"))}
        lists[origin] = ImageList(folder / f"{origin}.json", folders)
        for modality in folders:
            for number in numbers:
                touch(place(folder, form, origin, modality, number))
    names = {modality: rule for modality, rule in (("thermal", form[4]), ("rgb", form[5])) if rule}
    return Source("own", folder, ("person",), {}, lists, "a test's", names=names)


def test_listed_files_are_none_of_both(tmp_path, form):
    assert unlisted_files(make_source(tmp_path, form)) == ([], [])


def test_a_missing_partner_of_a_listed_file_is_not_found_here(tmp_path, form):
    source = make_source(tmp_path, form)
    place(tmp_path, form, "train", "rgb", 1).unlink()
    place(tmp_path, form, "test", "thermal", 3).unlink()
    assert unlisted_files(source) == ([], [])


def test_halves_and_whole_pairs(tmp_path, form):
    source = make_source(tmp_path, form)
    halves = [place(tmp_path, form, "train", "rgb", 90), place(tmp_path, form, "test", "thermal", 91)]
    whole = [place(tmp_path, form, "test", modality, 92) for modality in ("rgb", "thermal")]
    for path in [*halves, *whole]:
        touch(path)
    touch(tmp_path / "notes.txt")
    for path in whole:
        touch(path.with_name(f"._{path.name}"))  # as macOS leaves them
    problems, pairs = unlisted_files(source)
    assert sorted(problem.message.partition(": ")[0] for problem in problems) == sorted(map(str, halves))
    assert pairs in ([whole[0]], [whole[1]])


def test_a_list_that_cannot_be_read_says_nothing_of_its_folders(tmp_path, form):
    source = make_source(tmp_path, form)
    touch(place(tmp_path, form, "train", "rgb", 90))
    (tmp_path / "test.json").write_text('{"images": [')
    problems, pairs = unlisted_files(source)
    shared = form[0] == form[0].format("train")
    assert (len(problems), pairs) == (0 if shared else 1, [])


def test_names_that_neither_modality_bears_give_nothing(tmp_path):
    form = ("ir", "vis", "{}_ir.png", "{}_vis.png", ("FLIR", "FLIR"), ())
    source = make_source(tmp_path, form)
    replaced = {"thermal": ("FLIR", "ir_FLIR"), "rgb": ("FLIR", "vis_FLIR")}
    touch(tmp_path / "ir" / "ir_FLIR_90.png")
    other = Source("own", tmp_path, ("person",), {}, source.lists, "a test's", names=replaced)
    assert unlisted_files(other) == ([], [])


def test_names_are_read_whatever_else_is_wrong(tmp_path):
    path = tmp_path / "train.json"
    images = [{"file_name": "a.png", "width": "wide"}, {"id": 3}, 7, {"file_name": 7}, {"file_name": "b.png"}]
    path.write_text(json.dumps({"images": images}))
    assert named_images(ImageList(path, {})) == {"a.png", "b.png"}
    assert named_images(ImageList(path, {}, {"x": Path("x.xml")})) == {"x"}
    for text in ("", "[]", '{"images": 3}', '{"images": [3]}', '{"images": [{}]}', "[" * 100000):
        path.write_text(text)
        assert named_images(ImageList(path, {})) is None

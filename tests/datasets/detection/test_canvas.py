"""The oriented canvas: FCOS's resize, batches of one orientation, padding of 0, boxes back in original pixels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets.batches import SeededBatches
from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data
from models.detection.postprocess import detect
from models.detection.streams import Normalize
from tests.thread_ranks import together
from tests.tiny_data import coco_content, draw_lists, write_image, write_json
from utils.distributed import Ranks
from utils.errors import UserError

# (height, width) of the pictures, and how many of each are in train and test.
SIZES = {(64, 80): (9, 3), (80, 64): (5, 2), (40, 100): (4, 1), (50, 50): (2, 1)}
ROOM = (64, 96)


def make_mixed(folder: Path) -> Path:
    """Write a COCO folder of landscape, portrait, square and very long pictures; every fifth has no object."""
    for place, part in enumerate(("train", "test")):
        lists = {"images": [], "annotations": []}
        for number, (size, counts) in enumerate(SIZES.items(), 1):
            (pairs,) = draw_lists({part: counts[place]}, size, seed=number).values()
            name = f"{part}_{size[0]}x{size[1]}_{{}}.jpg".format
            content = coco_content(pairs, size, name)
            for pair in pairs:
                write_image(folder / f"images/{name(pair.number)}", pair.images["rgb"])
            lists = {key: lists[key] + content[key] for key in lists}
        write_json(folder / f"annotations/{part}.json", lists | {"categories": content["categories"]})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_mixed(tmp_path_factory.mktemp("mixed"))


def open_mixed(folder: Path, batch_size: int = 3, canvas: str = "oriented", **images) -> DataModule:
    options = ImageOptions(ROOM, canvas=canvas, **images)
    module = open_data(str(folder), "coco", options, LoaderOptions(batch_size, seed=1))
    names = [record.name for record in module.data.records["train"]]  # all of them, to have enough of each shape
    return replace(module, split=replace(module.split, parts={"train": names, "arch": [], "val": []}))


def orientation(name: str) -> bool:
    return "80x64" in name


@pytest.mark.parametrize("train", [True, False])
def test_a_batch_has_one_of_the_two_canvases(folder, train):
    batches = list(open_mixed(folder).loader("train", train=train))
    for batch in batches:
        assert batch["image_size"] == ((96, 64) if orientation(batch["file_names"][0]) else ROOM)
        assert batch["images"]["rgb"].shape[2:] == batch["image_size"]
        assert len(set(map(orientation, batch["file_names"]))) == 1
    assert len({batch["image_size"] for batch in batches}) == 2
    names = [name for batch in batches for name in batch["file_names"]]
    assert len(names) == len(set(names)) == (18 if train else 20), "5 * 3 + 1 * 3 of 15 + 5, and all"


def test_the_short_side_decides_unless_the_long_one_is_too_long(folder):
    for batch in open_mixed(folder).loader("train", "test", train=False):
        for scale, size in zip(batch["scales"], batch["original_sizes"].tolist()):
            wanted = 64 / min(size) if 64 / min(size) * max(size) <= 96 else 96 / max(size)
            assert scale.item() == pytest.approx(wanted)


@pytest.mark.parametrize("hflip", [0.0, 1.0])
def test_padding_is_exactly_zero_after_normalisation(folder, hflip):
    """And is not with the fixed canvas, whose normalisation has the mean as it is."""
    zero = {}
    for canvas in ("oriented", "fixed"):
        module = open_mixed(folder, canvas=canvas, hflip=hflip, photometric=0.5)
        normalize, zero[canvas] = Normalize(module.data.normalization), []
        for batch in module.loader("train", train=bool(hflip)):
            for picture, scale, size in zip(
                normalize(batch["images"], "rgb"), batch["scales"], batch["original_sizes"].tolist()
            ):
                height, width = (round(side * scale.item()) for side in size)
                inside = picture[:, :height, :width]
                padding = [picture[:, height:], picture[:, :, width:]]
                zero[canvas] += [bool((part == 0).all()) for part in padding if part.numel()]
                assert inside.abs().amax() > 0.1
    assert all(zero["oriented"])
    assert not any(zero["fixed"])


def test_grey_pictures_are_padded_with_zero_too(tiny_flir):
    module = open_data(str(tiny_flir), "flir_aligned", ImageOptions((64, 96), canvas="oriented"), LoaderOptions(3))
    (batch, *_) = module.loader("test", train=False)
    for stream in ("thermal", "rgb", "early"):
        normalised = Normalize(module.data.normalization)(batch["images"], stream)
        assert (normalised[..., 80:] == 0).all()
        assert normalised[..., :80].abs().amax() > 0.1
    exact = open_data(str(tiny_flir), "flir_aligned", ImageOptions((64, 96)), LoaderOptions(3)).data.normalization
    for modality, (mean, std) in module.data.normalization.items():
        assert std == exact[modality][1]
        assert mean == pytest.approx(exact[modality][0], abs=0.5 / 255)


def test_found_boxes_are_in_pixels_of_the_original(folder):
    """A detector that finds just the boxes of the sample gives those of the file."""
    module = open_mixed(folder)
    records = {record.name: record for record in module.records("train", "test")}
    for batch in module.loader("train", "test", train=False):
        boxes, found_at = batch["boxes_xyxy"], batch["labels"] >= 0
        logits = torch.where(found_at, 5.0, -50.0)[..., None] - torch.arange(boxes.shape[1])[None, :, None]
        for name, found, real in zip(batch["file_names"], detect(logits, boxes, lambda v, _: v, batch), found_at):
            best = found["boxes_xyxy"][: int(real.sum())]
            torch.testing.assert_close(best, torch.from_numpy(records[name].boxes_xyxy), rtol=0, atol=1e-3)


@pytest.mark.parametrize("sides", [(40, 60), (64, 64)])
def test_each_training_batch_draws_its_short_side(folder, sides):
    module, seen = open_mixed(folder, short_sides=sides), set()
    loader = module.loader("train", train=True)
    for epoch in range(4):
        loader.set_epoch(epoch)
        for batch in loader:
            short, long = sorted(batch["image_size"])
            sizes = batch["original_sizes"].tolist()
            sides_of = {round(s.item() * min(size)) for s, size in zip(batch["scales"], sizes) if min(size) > 40}
            assert long == 96
            assert len(sides_of) <= 1, "one for the whole batch"
            assert all(sides[0] <= side <= sides[1] and 32 * -(-side // 32) == short for side in sides_of)
            seen |= sides_of
    assert len(seen) > 1 or sides[0] == sides[1]
    assert {tuple(sorted(b["image_size"])) for b in module.loader("train", train=False)} == {ROOM}


def test_a_short_side_takes_the_place_of_that_of_the_image_size(folder):
    module, other = open_mixed(folder, short_sides=(40, 60)), open_mixed(folder)
    drawn = module.data.dataset(module.records("train"), train=True)
    for index in (0, 10):
        sample, whole = drawn[index, 7, 64], other.data.dataset(module.records("train"), train=True)[index, 7]
        assert torch.equal(sample["images"]["rgb"], whole["images"]["rgb"])
        assert drawn[index, 7, 33]["image_size"] == ((96, 64) if index == 10 else (64, 96))
        assert drawn[index, 7, 33]["scale"] < sample["scale"]


GROUPS = [0] * 13 + [1] * 6 + [2] * 2


@pytest.mark.parametrize("train", [True, False])
def test_batches_hold_one_group(train):
    batches = SeededBatches(21, 4, seed=3, train=train, groups=GROUPS)
    for epoch in range(3):
        batches.set_epoch(epoch)
        found = list(batches)
        assert len(found) == len(batches) == (3 + 1 + 1 if train else 4 + 2 + 1)
        assert all(len({GROUPS[index] for index, _ in batch}) == 1 for batch in found)
        drawn = [index for batch in found for index, _ in batch]
        assert len(drawn) == len(set(drawn)) == (12 + 4 + 2 if train else 21)
    assert batches.smallest == 2


def test_one_group_is_no_group():
    """The same keys in the same order, to the bit."""
    for train in (True, False):
        for num in (3, 8, 11):
            assert list(SeededBatches(num, 4, 5, train)) == list(SeededBatches(num, 4, 5, train, groups=["a"] * num))


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_divide_batches_of_one_orientation(folder, count):
    module = open_mixed(folder, short_sides=(40, 60))
    whole = list(module.loader("train", train=True, ranks=Ranks(0, 1)))
    shares = together(count, lambda ranks: list(module.loader("train", train=True, ranks=ranks)))
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert {part["image_size"] for part in parts} == {batch["image_size"]}
        assert sorted(n for part in parts for n in part["file_names"]) == sorted(batch["file_names"])
        assert sorted(s.item() for part in parts for s in part["scales"]) == sorted(batch["scales"].tolist())
    tested = [list(module.loader("train", train=False, ranks=Ranks(number, count))) for number in range(count)]
    names = sorted((b["number"], b["file_names"]) for batches in tested for b in batches)
    assert names == [(b["number"], b["file_names"]) for b in module.loader("train", train=False, ranks=Ranks(0, 1))]


def test_a_pass_goes_on_where_it_was_left(folder):
    def names(batches):
        return [(batch["file_names"], batch["image_size"]) for batch in batches]

    module = open_mixed(folder, short_sides=(40, 60))
    loader, resumed = (module.loader("train", train=True) for _ in range(2))
    loader.set_epoch(2)
    whole = names(loader)
    each = iter(loader)
    begun = names([next(each), next(each)])
    resumed.load_state_dict(loader.state_dict())
    assert begun + names(resumed) == whole


def test_an_orientation_too_rare_to_be_shared_is_refused(folder):
    module = open_mixed(folder)
    names = [name for name in module.split.parts["train"] if not orientation(name)] + ["train_80x64_1.jpg"]
    module = replace(module, split=replace(module.split, parts={"train": names, "arch": [], "val": []}))
    with pytest.raises(UserError, match="at least 2 samples, one for each process, found 1 .portrait and landscape"):
        module.loader("train", train=True, ranks=Ranks(0, 2))

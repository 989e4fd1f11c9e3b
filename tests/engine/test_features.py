"""Cached features: equal to live ones, the same steps bit by bit, and a key that changes with whatever decides them."""

import os
from dataclasses import replace

import pytest
import torch

from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data
from datasets.feature_cache import Variant, digests_of
from engine import feature_caching as caching
from engine.compute import Compute
from engine.feature_fill import Encoding, by_group, encode, unfinished
from engine.nonfinite import Guard
from engine.step import Session, optimisation_step
from models.detection.detector import FusionDetector
from models.detection.fusions import baseline_fusions, searchable_fusions
from models.detection.heads.efficientdet import DetectionHead
from models.detection.streams import Streams
from models.search.fusion_cells.cell_space import CellSpace
from models.search.parameters import arch_parameters, weight_parameters
from tasks.detection.flira import FLIRA as detection
from tests.datasets.detection.test_canvas import make_mixed

SIZE = (64, 80)
CPU = Compute(torch.device("cpu"), clip_grad=10.0)


def detector(parts: DataModule, fusion: str = "search", seed: int = 0) -> FusionDetector:
    """Build one of small random streams; those of one seed are equal."""
    torch.manual_seed(seed)
    streams = Streams("lcnet_050", 16, 2, 3)
    for norm in streams.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_var.uniform_(0.5, 2)
    fusions = searchable_fusions(CellSpace(4, 16), 3, 0.0) if fusion == "search" else baseline_fusions(fusion, 16, 3)
    head = DetectionHead(16, 3, num_levels=3, anchor_scale=2.0)
    return CPU.place(FusionDetector(streams, fusions, head, parts.data.normalization)).train()


@pytest.fixture
def parts(tiny_flir) -> DataModule:
    images, loading = ImageOptions(SIZE, hflip=0.5), LoaderOptions(batch_size=3, seed=1)
    return open_data(str(tiny_flir), "flir_aligned", images, loading)


def with_cache(parts: DataModule, model: FusionDetector, kind: str, dtype: str = "float32") -> DataModule:
    """Fill a cache of the training part, plain and mirrored."""
    options = caching.CacheOptions("ram", level=kind, dtype=dtype)
    filled = caching.cached(Encoding(parts, model, CPU), options, print, learning=("train",))
    model.train()
    return filled


@pytest.mark.parametrize("kind", FusionDetector.feature_kinds)
def test_cached_features_equal_live_ones(parts, kind):
    """Over two epochs with mirrored pairs, in the same order, with the same boxes."""
    model = detector(parts)
    live, cached = (p.loader("train", train=True) for p in (parts, with_cache(parts, model, kind)))
    for epoch in range(2):
        for loader in (live, cached):
            loader.set_epoch(epoch)
        for a, b in zip(live, cached, strict=True):
            assert "images" not in b
            for name in ("boxes_xyxy", "labels", "scales", "original_sizes"):
                assert torch.equal(a[name], b[name])
            assert (a["image_ids"], a["image_size"]) == (b["image_ids"], b["image_size"])
            for ours, theirs in zip(model.taps(b["features"]), model.taps(a["images"]), strict=True):
                theirs = torch.stack(list(theirs))
                ours = ours if isinstance(ours, torch.Tensor) else torch.stack(ours)
                assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


def cached_with_dropout(parts: DataModule, model: FusionDetector, **more) -> tuple[DataModule, DataModule]:
    """Give parts that drop sensors, live and with a cache as the command fills it; images are letterboxed."""
    options = ImageOptions((64, 96), hflip=0.5, modality_dropout=0.6, **more)
    live = replace(parts, data=replace(parts.data, options=options))
    encoding, options = Encoding(live, model, CPU), caching.CacheOptions("ram")
    return live, caching.cached(encoding, options, print, learning=("train",), plain=("val",))


def test_a_cached_black_picture_is_that_of_a_test(parts):
    """To the bit, beside the fill of the letterbox, which is no black; one record per stream and size."""
    model = detector(parts)
    live, filled = cached_with_dropout(parts, model)
    record, numbers = parts.records("val")[0], len(parts.records("train", "val"))
    (batch,) = live.variant_loader([record], Variant(black=True))
    assert batch["images"]["rgb"][..., :80].max() == 0 < batch["images"]["rgb"][..., 80:].min()
    for stream, store in filled.cache.stores.items():
        assert len(store.slots) == numbers + len(parts.records("train")) + 1
        found = store[filled.cache.key(stream, record, Variant(black=True))]
        wanted = encode(model, batch["images"], stream, "taps", CPU)
        assert all(torch.equal(a, b[0]) for a, b in zip(found, wanted, strict=True))


def test_dropout_is_the_same_from_a_cache(parts):
    """Which sensor of which pair is black, and what the network reads then, over two epochs."""
    model = detector(parts)
    live, filled = (p.loader("train", train=True) for p in cached_with_dropout(parts, model))
    black = []
    for epoch in range(2):
        for loader in (live, filled):
            loader.set_epoch(epoch)
        for a, b in zip(live, filled, strict=True):
            dead = [(a["images"][m][..., :64, :80].amax((1, 2, 3)) == 0).tolist() for m in ("thermal", "rgb")]
            assert not any(map(all, zip(*dead)))
            black += zip(*dead)
            for ours, theirs in zip(model.taps(b["features"]), model.taps(a["images"]), strict=True):
                assert (ours - torch.stack(list(theirs))).abs().max() <= 1e-6 * ours.abs().max()
    assert {(True, False), (False, True), (False, False)} == set(black)
    assert black[: len(black) // 2] != black[len(black) // 2 :]


def test_a_few_scales_are_the_same_from_a_cache(parts):
    """Boxes and features, mirrored or not, of pictures and black ones; a factor of 1 shares the records of val."""
    model = detector(parts)
    scales = (1.0, 0.7, 1.4)
    live, filled = cached_with_dropout(parts, model, scales=scales)
    numbers = {part: len(parts.records(part)) for part in ("train", "val")}
    for store in filled.cache.stores.values():
        assert len(store.slots) == numbers["train"] * 6 + numbers["val"] + len(scales)
        endings = {key.rpartition("80x64-")[2] for key in store.slots}
        assert endings == {f"{word}{scale}" for word in ("plain", "mirrored") for scale in ("", "-0.7", "-1.4")}
    seen = set()
    live, filled = (module.loader("train", train=True) for module in (live, filled))
    for epoch in range(3):
        for loader in (live, filled):
            loader.set_epoch(epoch)
        for a, b in zip(live, filled, strict=True):
            assert torch.equal(a["boxes_xyxy"], b["boxes_xyxy"])
            assert torch.equal(a["scales"], b["scales"])
            seen |= set(a["scales"].tolist())
            for ours, theirs in zip(model.taps(b["features"]), model.taps(a["images"]), strict=True):
                assert (ours - torch.stack(list(theirs))).abs().max() <= 1e-6 * ours.abs().max()
    assert seen == {torch.tensor(scale).item() for scale in scales}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> DataModule:
    """RGB pictures of both orientations, on an oriented canvas."""
    folder, options = make_mixed(tmp_path_factory.mktemp("mixed")), ImageOptions((64, 96), 0.5, canvas="oriented")
    return open_data(str(folder), "coco", options, LoaderOptions(batch_size=3, seed=1))


def rgb_detector(parts: DataModule) -> FusionDetector:
    torch.manual_seed(0)
    head, streams = DetectionHead(16, 3, num_levels=3), Streams("lcnet_050", 16, 2, 3, ("rgb",))
    return CPU.place(FusionDetector(streams, baseline_fusions("rgb", 16, 3), head, parts.data.normalization))


@pytest.mark.parametrize("kind", FusionDetector.feature_kinds)
def test_both_orientations_of_a_canvas_share_a_store(mixed, kind):
    """Features of portrait pictures have the shapes of their own canvas, and live numbers."""
    model, seen = rgb_detector(mixed), set()
    for train in (True, False):
        model.train(train)
        parts = with_cache(mixed, model.eval(), kind)
        live, filled = (p.loader("train", train=train) for p in (mixed, parts))
        for a, b in zip(live, filled, strict=True):
            assert a["file_names"] == b["file_names"]
            for ours, theirs in zip(model.taps(b["features"]), model.taps(a["images"]), strict=True):
                assert (torch.stack(list(ours)) - torch.stack(list(theirs))).abs().max() <= 1e-5
            seen.add(a["image_size"])
    assert seen == {(64, 96), (96, 64)}


def test_a_fill_that_was_stopped_goes_on_with_the_same_batches(mixed):
    """Whatever is missing of a batch, the whole of it is computed again, as a loader cuts it."""
    records = {record.name: record for record in mixed.records("train")}
    groups = by_group(records, mixed.options.group)
    assert [len({record.is_portrait for record in group.values()}) for group in groups] == [1, 1]
    loader = replace(mixed, options=replace(mixed.options, batch_size=3)).variant_loader(list(records.values()))
    batches = [{list(records)[place] for place in batch["image_ids"]} for batch in loader]
    for name in records:
        left = [key for group in groups for key in unfinished(group, {n: None for n in records if n != name}, 3)]
        assert set(left) in batches


def alternating_steps(model: FusionDetector, batches: list[dict]) -> list[torch.Tensor]:
    sides = [torch.optim.Adam(p, lr=0.01, fused=True) for p in (weight_parameters(model), arch_parameters(model))]
    session = Session(model, detection, CPU, Guard(CPU.device))
    for number in range(20):
        optimisation_step(session, [batches[number % len(batches)]], sides[number % 2])
    return list(model.state_dict().values())


def test_steps_from_equal_taps_are_bit_equal(parts):
    """Live, the supernet gets lists of taps, from a cache one tensor per level."""
    ends, batches = [], list(parts.loader("train", train=True))
    for cached in (False, True):
        model = detector(parts)
        for batch in batches if cached else ():
            taps = [torch.stack([tap.movedim(1, -1) for tap in level]) for level in model.taps(batch["images"])]
            batch["features"] = {"taps": [level.movedim(-1, 2) for level in taps]}
        ends.append(alternating_steps(model, batches))
    for live, cached in zip(*ends, strict=True):
        assert torch.equal(live, cached)


def test_a_pipe_is_not_waited_for(parts, tmp_path):
    """Nor has any file that cannot be opened the digest of another."""
    os.mkfifo(tmp_path / "pipe")
    record = parts.records("train")[0]
    odd = [
        replace(record, file_name=n, paths=record.paths | {"rgb": str(tmp_path / n)})
        for n in ("pipe", "missing", "missing again")
    ]
    digests = digests_of([record, *odd])
    assert len({digests[r.file_name]["rgb"] for r in (record, *odd)}) == 4
    assert len({digests[r.file_name]["thermal"] for r in (record, *odd)}) == 1


@pytest.mark.parametrize("fusion", ["mean", "concat_conv", "thermal"])
def test_baselines_take_cached_features(parts, fusion):
    model = detector(parts, fusion).eval()
    live, cached = (next(iter(p.loader("train", train=False))) for p in (parts, with_cache(parts, model, "taps")))
    for a, b in zip(model(live["images"]).class_logits, model(cached["features"]).class_logits, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_half_types_are_computed_with_in_float32(parts):
    model = detector(parts)
    batch = next(iter(with_cache(parts, model, "taps", "bfloat16").loader("train", train=True)))
    assert {level.dtype for level in batch["features"]["taps"]} == {torch.bfloat16}
    assert {level.dtype for level in model.taps(batch["features"])} == {torch.float32}


def test_the_key_follows_what_decides_the_numbers(parts):
    model = detector(parts)

    def key(model=model, stream="rgb", kind="taps", dtype="float32", compute=CPU, **changes) -> str:
        data = replace(parts.data, options=replace(parts.data.options, **changes))
        return Encoding(replace(parts, data=data), model, compute).store_key(stream, kind, dtype)

    first = key()
    assert first == key(detector(parts, "mean"))  # neither fusion nor head
    other_norm = detector(replace(parts, data=replace(parts.data, normalization={"rgb": ((0.1,) * 3, (0.2,) * 3)})))
    assert first != key(other_norm)
    moved = detector(parts)
    moved.streams.rgb_fpn.cell[0].fnode[0].after_combine.conv.conv_pw.weight.data[0] += 1e-7
    assert first != key(moved)
    assert key(kind="encoder") == key(moved, kind="encoder")  # the BiFPN comes after
    moved.streams.rgb_backbone.state_dict()["bn1.running_mean"][0] += 1e-7
    assert key(kind="encoder") != key(moved, kind="encoder")
    others = [key(stream="thermal"), key(kind="encoder"), key(image_size=(80, 64))]
    others += [key(dtype="float16"), key(compute=replace(CPU, amp=True))]
    assert len({first, *others}) == 6

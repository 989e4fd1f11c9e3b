"""`--cache_features`: the same search, training and test on features that were computed once."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from engine import feature_caching as caching
from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from tests.run_commands import named, refused, run
from tests.tiny_data import CONFIG

CLOSE = {"rel": 1e-4, "abs": 1e-4}


@pytest.fixture(scope="module")
def small_config(tmp_path_factory) -> Path:
    """The config of all tests, with small cells and one epoch."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    small = {"search": "search: {epochs: 1, steps: 1, multiplier: 1}", "found": "found: {epochs: 1}"}
    lines = (small.get(line.partition(":")[0], line) for line in CONFIG.splitlines())
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def work(pretrained, tmp_path, monkeypatch) -> Path:
    """A working folder without a cache, with the checkpoints."""
    shutil.copytree(pretrained / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def cache_line(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("feature cache: "))


def assert_same_run(one: Path, other: Path) -> None:
    for a, b in zip(rows_of(one), rows_of(other), strict=True):
        for name in {"train_loss", "arch_loss"} & a.keys():
            assert a[name] == pytest.approx(b[name], **CLOSE)
        assert a["AP_val"] == pytest.approx(b["AP_val"], abs=1e-3)  # last digits can swap two detections
    if (one / "genotype.json").exists():
        a, b = (
            json.loads((folder / "genotype.json").read_text())["parts"]["fusion"]["cells"] for folder in (one, other)
        )
        assert a == b


def test_a_search_is_the_same_with_and_without(work, tiny_flir, small_config, capsys):
    """In memory, on disk, with loader processes, from either level; and a second run computes nothing."""
    argv = [tiny_flir, "--config", small_config]
    live = named(run(search, capsys, *argv), "search_exp_dir")
    disk = ["--cache_features", "disk"]
    for options in (["--cache_features", "ram"], [*disk, "--cache_level", "encoder"], [*disk, "--workers", 1]):
        text = run(search, capsys, *argv, *options)
        assert "23 thermal + 23 rgb records to compute" in cache_line(text)  # 10 to learn on, mirrored too, 3 for val
        assert_same_run(live, named(text, "search_exp_dir"))
    text = run(search, capsys, *argv, "--cache_features", "auto")
    assert "in cache/" in cache_line(text)  # complete, so taken before memory
    assert "0 thermal + 0 rgb records to compute" in cache_line(text)
    assert_same_run(live, named(text, "search_exp_dir"))


def test_training_and_test_take_up_a_cache(work, tiny_flir, small_config, capsys):
    """A baseline of one modality computes that stream alone; the other is computed when it is asked for."""
    argv, disk = [tiny_flir, "--config", small_config], ["--cache_features", "disk"]
    thermal = run(found, capsys, *argv, *disk, "--baseline", "thermal")
    assert "23 thermal records" in cache_line(thermal)
    fused = run(found, capsys, *argv, *disk, "--baseline", "sum")
    assert "0 thermal + 23 rgb records" in cache_line(fused)
    live = run(found, capsys, *argv, "--baseline", "sum")
    assert_same_run(*(named(text, "eval_exp_dir") for text in (live, fused)))
    tested = [*argv, "--eval_exp_dir", named(fused, "eval_exp_dir")]
    auto, scores = ["--cache_features", "auto"], []
    for options, said in ((auto, "off"), (disk, "4 thermal + 4 rgb"), (auto, "0 thermal + 0 rgb"), ([], "off")):
        text = run(found, capsys, *tested, *options)
        assert said in cache_line(text)
        scores.append(json.loads(named(text, "results").read_text())["AP"])
    assert scores == [pytest.approx(scores[0], **CLOSE)] * 4


def test_what_is_new_is_computed(work, tiny_flir, small_config, tmp_path, capsys):
    """A changed image alone; everything, where a stream has other weights or the images another size."""
    data = tmp_path / "data"
    shutil.copytree(tiny_flir, data)
    argv = [data, "--config", small_config, "--baseline", "sum", "--hflip", 0, "--cache_features", "disk"]
    assert "12 thermal + 12 rgb" in cache_line(run(found, capsys, *argv))
    images = data / "images_rgb_train" / "data"
    shutil.copy(images / "FLIR_00001_RGB.jpg", images / "FLIR_00002_RGB.jpg")
    assert "0 thermal + 0 rgb" in cache_line(run(found, capsys, *argv))  # the content of 1 is there
    (images / "FLIR_00002_RGB.jpg").write_bytes((images / "FLIR_00001_RGB.jpg").read_bytes() + b"\0")
    assert "0 thermal + 1 rgb" in cache_line(run(found, capsys, *argv))
    assert "12 thermal + 12 rgb" in cache_line(run(found, capsys, *argv, "--image_size", "96"))
    streams = work / "checkpoints/flira/Att_Fusion_Net_Pretrained_Best.pth.tar"
    state = torch.load(streams, weights_only=True)
    state["thermal_backbone.conv_stem.weight"] += 1e-3
    torch.save(state, streams)
    assert "12 thermal + 0 rgb" in cache_line(run(found, capsys, *argv))


def test_a_fill_that_was_stopped_goes_on_with_the_same_numbers(work, tiny_flir, small_config, capsys):
    """Where some of a batch are there, the whole batch is computed: one image alone has other last digits."""
    argv = [tiny_flir, "--config", small_config, "--cache_features", "disk"]
    first = named(run(search, capsys, *argv), "search_exp_dir")
    stores = list((work / "cache").glob("*/features.bin"))
    whole = {path: path.read_bytes() for path in stores}
    for left in (4, 22):
        for path in stores:
            index = path.with_name("index.txt")
            index.write_text("".join(index.read_text().splitlines(keepends=True)[:left]))
        text = run(search, capsys, *argv)
        assert f"{23 - left} thermal + {23 - left} rgb records to compute" in cache_line(text)
        assert {path: path.read_bytes() for path in stores} == whole
        assert (named(text, "search_exp_dir") / "best.pt").read_bytes() == (first / "best.pt").read_bytes()


@pytest.mark.parametrize("option", [("--scale_jitter", 0.5, 1.5), ("--photometric", 0.2)])
def test_images_that_change_are_not_cached(work, tiny_flir, small_config, capsys, option):
    argv = [tiny_flir, "--config", small_config, *option]
    for main, extra in ((search, []), (found, ["--baseline", "sum"])):
        line = refused(main, capsys, *argv, *extra, "--cache_features", "ram")
        assert f"--cache_features ram: {option[0]}" in line
    assert not (work / "runs").exists()
    text = run(search, capsys, *argv, "--cache_features", "auto")
    assert cache_line(text).startswith(f"feature cache: off; {option[0]} {option[1]}")


def test_a_few_scales_are_cached(work, tiny_flir, small_config, capsys):
    """A training learns the same with and without; a search finds its records; a range of scales is refused."""
    argv = [tiny_flir, "--config", small_config, "--scales", 0.7, 1, 1.4]
    baseline, disk = ["--baseline", "sum"], ["--cache_features", "disk"]
    live, cached = (run(found, capsys, *argv, *baseline, *more) for more in ([], disk))
    assert "67 thermal + 67 rgb" in cache_line(cached)
    losses = [[row["train_loss"] for row in rows_of(named(text, "eval_exp_dir"))] for text in (live, cached)]
    assert losses[0] == pytest.approx(losses[1], **CLOSE)
    assert "0 thermal + 0 rgb" in cache_line(run(search, capsys, *argv, *disk))
    line = refused(found, capsys, *argv, *baseline, "--scale_jitter", 0.5, 1)
    assert "--scales: expected --scale_jitter 1 1 beside it, found 0.5 1" in line


def test_a_cache_must_fit(work, tiny_flir, small_config, capsys, monkeypatch):
    """What is asked for and does not fit is refused; auto takes the smaller level, the disk, or nothing."""
    argv = [tiny_flir, "--config", small_config, "--cache_features"]
    whole = json.loads(run(search, capsys, *argv, "off", "--dry_run").split("cache_taps_mib: ")[1].splitlines()[0])
    assert whole == pytest.approx(23 * 2 * 2 * 16 * (80 + 20 + 6) * 4 / 2**20, abs=0.1)
    free = {"ram": 10**5, "disk": 10**5}
    monkeypatch.setattr(caching, "free_memory", lambda: free["ram"])
    monkeypatch.setattr(caching, "free_disk", lambda folder: free["disk"])
    for mode in ("ram", "disk"):
        assert f"--cache_features {mode}: expected room for" in refused(search, capsys, *argv, mode)
    assert not (work / "cache").exists()
    assert "no level fits" in cache_line(run(search, capsys, *argv, "auto"))
    free["disk"] = 10**9
    assert "taps of every BiFPN repeat, in cache/" in cache_line(run(search, capsys, *argv, "auto"))
    free["ram"] = 10**9
    text = run(search, capsys, *argv, "auto", "--cache_dir", "other", "--cache_dtype", "bfloat16")
    assert "taps of every BiFPN repeat, in memory" in cache_line(text)


def test_pairs_that_cannot_be_read_are_left_out_alike(work, tiny_flir, small_config, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny_flir, data)
    bad = data / "images_rgb_train/data/FLIR_00003_RGB.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    argv = [data, "--config", small_config]
    assert "FLIR_00003_RGB.jpg" in refused(search, capsys, *argv, "--cache_features", "ram")
    modes = ("off", "ram", "disk", "disk")  # the last of which finds all but the bad pair there
    texts = [run(search, capsys, *argv, "--max_bad_files", 1, "--cache_features", mode) for mode in modes]
    assert all(text.count("left out, 1 of at most 1") == 1 for text in texts)
    for text in texts[1:]:
        assert_same_run(*(named(t, "search_exp_dir") for t in (texts[0], text)))


def test_a_pair_with_the_same_picture_as_a_bad_one_is_kept(work, tiny_flir, small_config, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny_flir, data)
    rgb, thermal = data / "images_rgb_train/data", data / "images_thermal_train/data"
    shutil.copy(rgb / "FLIR_00001_RGB.jpg", rgb / "FLIR_00003_RGB.jpg")
    bad = thermal / "FLIR_00003_PreviewData.jpeg"
    bad.write_bytes(bad.read_bytes()[:300])
    argv = [data, "--config", small_config, "--baseline", "sum", "--max_bad_files", 1]
    texts = [run(found, capsys, *argv, "--cache_features", mode) for mode in ("off", "ram")]
    assert_same_run(*(named(text, "eval_exp_dir") for text in texts))


def test_a_wrong_size_is_seen_beside_a_cache(work, tiny_flir, small_config, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny_flir, data)
    argv = [data, "--config", small_config, "--baseline", "sum", "--cache_features", "disk"]
    run(found, capsys, *argv)
    annotations = data / "meta/thermal/flir_train.json"
    annotations.write_text(annotations.read_text().replace('"width": 80', '"width": 96'))
    assert "size: expected 96x64 px" in refused(found, capsys, *argv)


def test_a_search_in_bfloat16(work, tiny_flir, small_config, capsys):
    """Live, and on cached features of a type that autocast would not go on with."""
    argv = [tiny_flir, "--config", small_config]
    options = ([], ["--amp"], ["--amp", "--cache_features", "ram", "--cache_dtype", "float16"])
    texts = [run(search, capsys, *argv, *extra) for extra in options]
    whole, *halves = (rows_of(named(text, "search_exp_dir"))[0]["train_loss"] for text in texts)
    for half in halves:
        assert half != whole
        assert half == pytest.approx(whole, rel=0.05)


def test_options_of_no_cache_are_refused(work, tiny_flir, small_config, capsys):
    argv = [tiny_flir, "--config", small_config, "--cache_dtype", "bfloat16"]
    assert "--cache_dtype: no effect with --cache_features off" in refused(search, capsys, *argv)
    nowhere = [*argv, "--cache_features", "ram", "--cache_dir", "x"]
    assert "--cache_dir: no effect with --cache_features ram" in refused(search, capsys, *nowhere)
    halved = run(search, capsys, *argv, "--dry_run", "--image_size", 256)
    whole = run(search, capsys, *argv[:3], "--dry_run", "--image_size", 256)
    taps = [
        float(next(x for x in text.splitlines() if x.startswith("cache_taps_mib")).split()[1])
        for text in (whole, halved)
    ]
    assert taps[0] == pytest.approx(2 * taps[1], rel=0.1)


def test_the_cache_stays_out_of_the_data(work, tiny_flir, small_config, capsys):
    argv = [tiny_flir, "--config", small_config, "--cache_features", "disk", "--cache_dir", tiny_flir / "cache"]
    assert "--cache_dir" in refused(search, capsys, *argv)

"""The three commands end to end on tiny data: what they write, that it repeats, and how they refuse."""

import contextlib
import io
import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datasets.splits import make_split
from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from models.search.architecture import read_architecture
from models.search.fusion_cells.genotype_file import FusionReader
from tests import processes
from tests.run_commands import named, refused, run
from tests.tiny_data import make_tiny_flir

REPO = Path(__file__).resolve().parent.parent
SMALL = ["--steps", 1, "--multiplier", 1]
STREAMS = "Att_Fusion_Net_Pretrained_Best.pth.tar"


@pytest.fixture(scope="module")
def search_run(pretrained, tiny_flir) -> Path:
    """A finished search, made by the published command line (sizes come from the pretraining)."""
    argv = [tiny_flir, "--batchsize=3", "--epochs=2", "--workers", 0, "--device", "cpu", "--no_report"]
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(io.StringIO()) as out:
        patched.chdir(pretrained)
        assert search([*map(str, argv)]) == 0
    return named(out.getvalue(), "search_exp_dir")


@pytest.fixture
def searched(search_run, in_work) -> Path:
    return search_run


def test_search_train_test(undrawn, searched, in_work, tiny_flir, capsys):
    small = ["--batchsize=3", "--workers", 0]
    for name in ("args.json", "env.txt", "split.json", "metrics.jsonl", "log.txt", "last.pt", "best.pt", "timing.json"):
        assert (searched / name).stat().st_size > 0, name
    rows = [json.loads(line) for line in (searched / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert {"train_loss", "arch_loss", "AP_val", "lr", "arch_lr", "pairs_per_s", "memory_mb"} <= rows[0].keys()
    assert {"entropy_edges", "entropy_inner_edges", "entropy_ops", "argmax", "genotype", "count_Sum"} <= rows[0].keys()
    genotype = json.loads((searched / "genotype.json").read_text())
    best = max(rows, key=lambda row: row["AP_val"])  # the first of equals
    assert genotype["parts"]["fusion"]["meta"]["epoch"] == best["epoch"]
    assert genotype["parts"]["fusion"]["meta"]["AP_val"] == best["AP_val"]
    assert genotype["id"] == best["genotype"]

    text = run(found, capsys, tiny_flir, f"--search_exp_dir={searched}", "--epochs=2", *small)
    trained = named(text, "eval_exp_dir")
    assert json.loads((trained / "genotype.json").read_text())["parts"] == genotype["parts"]
    assert not (trained / "results.json").exists()  # the test pairs are not read by training

    options = [f"--search_exp_dir={searched}", f"--eval_exp_dir={trained}", *small]
    first, on_val = (
        named(run(found, capsys, tiny_flir, *options, "--eval_part", part), "results").parent
        for part in ("test", "val")
    )
    words = [REPO / "main_darts_found_flira.py", tiny_flir, *options]
    code, text = processes.run(words, in_work, in_work / "log.txt")  # in a new process
    assert code == 0, text
    second = in_work / named(text, "results").parent
    assert first.resolve() != second.resolve()
    assert (first / "detections.json").read_bytes() == (second / "detections.json").read_bytes()
    assert (first / "results.json").read_bytes() == (second / "results.json").read_bytes()
    # A test repeats what the training had on `val`, byte for byte, and so the AP.
    assert (on_val / "detections.json").read_bytes() == (trained / "detections.json").read_bytes()
    results = json.loads((on_val / "results.json").read_text())
    assert results["AP"] == results["AP_val"]
    check_by_hand(tiny_flir, first)


def check_by_hand(data: Path, run_folder: Path) -> None:
    truth = COCO(str(data / "meta/thermal/flir_test.json"))
    by_hand = COCOeval(truth, truth.loadRes(str(run_folder / "detections.json")), "bbox")
    by_hand.evaluate()
    by_hand.accumulate()
    by_hand.summarize()
    results = json.loads((run_folder / "results.json").read_text())
    assert results["AP"] == pytest.approx(by_hand.stats[0], abs=1e-12)
    assert results["AP50"] == pytest.approx(by_hand.stats[1], abs=1e-12)


def test_search_repeats_and_follows_its_seed(undrawn, searched, tiny_flir, capsys):
    def again(*options):
        argv = [tiny_flir, "--batchsize=3", "--device", "cpu", *options]
        folder = named(run(search, capsys, *argv), "search_exp_dir")
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in r.items() if not k.endswith(("_seconds", "_per_s", "_mb"))} for r in rows], folder

    same, folder = again("--workers", 1, "--epochs", 2)  # workers do not matter
    other, _ = again("--workers", 0, "--epochs", 1, "--seed", 3)
    rows = [json.loads(line) for line in (searched / "metrics.jsonl").read_text().splitlines()]
    first = [{k: v for k, v in r.items() if not k.endswith(("_seconds", "_per_s", "_mb"))} for r in rows]
    assert same == first
    assert other[0]["train_loss"] != first[0]["train_loss"]
    states = [torch.load(f / "last.pt", weights_only=True)["model"] for f in (searched, folder)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


BUFFERS = ("_mean", "_std", "running_var", "num_batches_tracked")  # in the state, but no parameters


@pytest.mark.parametrize("baseline", ["thermal", "rgb_twice", "concat_conv"])  # each kind of head and of fusion
def test_baselines_train_and_test(in_work, tiny_flir, tiny_config, capsys, baseline):
    config = ["--config", tiny_config, "--epochs", 1]
    text = run(found, capsys, tiny_flir, "--baseline", baseline, *config)
    own = {"thermal": "thermal_head.pth", "rgb": "rgb_head.pth", "rgb_twice": "rgb_head.pth"}
    assert f"head from checkpoints/flira/{own.get(baseline, 'Head_Net_Pretrained_Best.pth.tar')}" in text
    folder = named(text, "eval_exp_dir")
    results = named(run(found, capsys, tiny_flir, "--eval_exp_dir", folder, *config[:2]), "results")
    tested = json.loads(results.read_text())
    assert tested["method"] == baseline
    state = torch.load(folder / "best.pt", weights_only=True)[
        "model"
    ]  # buffers of normalisation and norms are no weights
    weights = {k: v.numel() for k, v in state.items() if not k.endswith(BUFFERS)}
    assert tested["parameters"] == sum(weights.values())
    assert tested["parameters_fusion"] == sum(v for k, v in weights.items() if k.startswith("fusions."))
    assert {"LAMR_person", "AP_person"} <= tested.keys()
    assert not [k for k in tested if "scene" in k]  # the data say nothing of scenes


def test_random_and_given_genotypes(in_work, tiny_flir, tiny_config, capsys):
    config = ["--config", tiny_config, "--epochs", 1]
    first = named(run(found, capsys, tiny_flir, "--random_genotype", 5, *config), "eval_exp_dir")
    given = named(run(found, capsys, tiny_flir, "--genotype", first / "genotype.json", *config), "eval_exp_dir")
    names = tuple(f"{m}/bifpn{r}" for m in ("thermal", "rgb") for r in (1, 2)), ("P3", "P4", "P5")
    genotypes = [
        read_architecture(folder / "genotype.json", {"fusion": FusionReader(*names, 16)}).parts["fusion"]
        for folder in (first, given)
    ]
    assert genotypes[0] == genotypes[1]


def test_second_order_and_step_alternation(in_work, tiny_flir, tiny_config, capsys):
    options = [("--alternate", "step"), ("--strategy", "darts2", "--alternate", "step")]
    ends = []
    for extra in options:
        argv = [tiny_flir, "--config", tiny_config, "--epochs", 1, *SMALL, *extra]
        folder = named(run(search, capsys, *argv), "search_exp_dir")
        state = torch.load(folder / "last.pt", weights_only=True)["model"]
        ends.append(torch.cat([v.flatten() for k, v in state.items() if "alpha_" in k]))
    assert not torch.equal(*ends)


def test_pretraining_one_modality_updates_its_half_alone(
    pretrained, tiny_flir, tiny_config, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    config = ["--config", tiny_config]
    run(pretrain, capsys, tiny_flir, "--modality", "rgb", *config)
    folder = tmp_path / "checkpoints/flira"
    half = torch.load(folder / STREAMS, weights_only=True)
    assert {k.split("_")[0] for k in half} == {"rgb"}
    assert not (folder / "Head_Net_Pretrained_Best.pth.tar").exists()
    error = refused(search, capsys, tiny_flir, *config)
    assert "pretrain --modality thermal" in error

    run(pretrain, capsys, tiny_flir, "--modality", "thermal", *config)
    both = torch.load(folder / STREAMS, weights_only=True)
    assert both.keys() == torch.load(pretrained / "checkpoints/flira" / STREAMS, weights_only=True).keys()
    assert all(torch.equal(both[k], v) for k, v in half.items())
    assert (folder / "Head_Net_Pretrained_Best.pth.tar").exists()
    assert (folder / f"{STREAMS}.bak").exists()

    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    again = ["--modality", "thermal", *config]
    assert "rgb_" in refused(pretrain, capsys, tiny_flir, *again, "--C", 24)
    assert "rgb_fpn.cell.1" in refused(pretrain, capsys, tiny_flir, *again, "--num_input_nodes", 2)
    assert "--allow_split_mismatch" in refused(pretrain, capsys, tiny_flir, *again, "--split_seed", 1)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_half_of_another_split_is_never_forgotten(pretrained, tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config, other = ["--config", tiny_config], ["--split_seed", 1, "--allow_split_mismatch"]
    shutil.copytree(pretrained / "checkpoints", tmp_path / "checkpoints")
    run(pretrain, capsys, tiny_flir, "--modality", "thermal", *config, *other)
    for seed in (0, 1):  # each split knows one half alone
        error = refused(search, capsys, tiny_flir, "--split_seed", seed, *config)
        assert "thermal same, rgb" in error or "rgb same" in error
    text = run(search, capsys, tiny_flir, *config, *other, "--epochs", 1)
    assert "split of the checkpoints: mismatch allowed: thermal same, rgb" in text


def test_a_half_without_a_split_is_recorded_as_such(pretrained, tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    """As with the released files: nothing tells what they saw."""
    monkeypatch.chdir(tmp_path)
    config = ["--config", tiny_config]
    shutil.copytree(pretrained / "checkpoints", tmp_path / "checkpoints")
    for name in ("split.json", "pretrain.json"):
        (tmp_path / "checkpoints/flira" / name).unlink()
    common = [tiny_flir, *config, "--epochs", 1]
    assert "split of the checkpoints: none recorded" in run(search, capsys, *common, *SMALL)
    run(pretrain, capsys, *common, "--modality", "rgb")
    assert "split of the checkpoints: thermal none recorded, rgb same" in run(search, capsys, *common, *SMALL)


def test_pretraining_writes_all_or_nothing(pretrained, tiny_flir, tiny_config, tmp_path, monkeypatch):
    """A run that dies in its last phase leaves the earlier checkpoints as they were."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pretrained / "checkpoints", tmp_path / "checkpoints")
    folder = tmp_path / "checkpoints/flira"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr("tasks.detection.pretrain.shared_head_model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretrain([str(tiny_flir), "--config", str(tiny_config), "--seed", "5"])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_one_rising_step_is_enough(tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--modality", "rgb", "--config", tiny_config, "--batchsize", 16, "--epochs", 10]
    run(pretrain, capsys, tiny_flir, *options)  # 10 steps, a tenth of them rising


def test_the_next_commands_run(pretrained, tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    """Pasted as they are, also after options that the next command needs again."""
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "a folder"
    options = [
        "--config",
        tiny_config,
        "--checkpointdir",
        odd,
        "--split_seed",
        1,
        "--num-classes",
        4,
        "--device",
        "cpu",
        "--C",
        8,
        "--image_size",
        "64x96",
    ]
    line, mains = run(pretrain, capsys, tiny_flir, *options), [search, found, found]
    for main in mains:
        (command,) = (x[len("next: ") :] for x in line.splitlines() if x.startswith("next: "))
        python, script, *argv = shlex.split(command)
        assert (python, script) == ("python", f"{main.__wrapped__.__module__}.py")
        line = run(main, capsys, *argv)
    assert named(line, "results").exists()


def test_pretraining_from_an_efficientdet_file(pretrained, tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    """A COCO-pretrained file has its own class count: that layer starts anew, all else is taken."""
    monkeypatch.chdir(tmp_path)
    state = torch.load(pretrained / "checkpoints/flira" / STREAMS, weights_only=True)
    file = {k.removeprefix("rgb_"): v for k, v in state.items() if k.startswith("rgb_")}
    head = torch.load(pretrained / "checkpoints/flira/rgb_head.pth", weights_only=True)
    file |= {k.removeprefix("fusion_"): v for k, v in head.items()}
    for kind in ("weight", "bias"):
        name = f"class_net.predict.conv_pw.{kind}"
        file[name] = torch.randn(9 * 90, *file[name].shape[1:])
    torch.save(file, "coco.pth")
    run(pretrain, capsys, tiny_flir, "--modality", "rgb", "--init", "coco.pth", "--config", tiny_config, "--lr", 0)
    done = torch.load("checkpoints/flira/" + STREAMS, weights_only=True)
    weights = [
        k for k in file if k.startswith(("backbone.", "fpn.")) and "running_" not in k and "num_batches" not in k
    ]
    assert all(torch.equal(done[f"rgb_{k}"], file[k]) for k in weights)
    new_head = torch.load("checkpoints/flira/rgb_head.pth", weights_only=True)
    assert torch.equal(new_head["fusion_box_net.predict.conv_pw.weight"], file["box_net.predict.conv_pw.weight"])
    assert new_head["fusion_class_net.predict.conv_pw.weight"].shape[0] == 27
    del file["fpn.cell.0.fnode.0.combine.edge_weights"]
    torch.save(file, "coco.pth")
    error = refused(pretrain, capsys, tiny_flir, "--modality", "rgb", "--init", "coco.pth", "--config", tiny_config)
    assert "coco.pth" in error
    assert "edge_weights" in error


def test_a_whole_efficientdet_is_taken(tiny_flir, tmp_path, monkeypatch, capsys):
    effdet = pytest.importorskip("effdet", reason="effdet, the oracle, is not installed")
    monkeypatch.chdir(tmp_path)
    model = effdet.EfficientDet(effdet.get_efficientdet_config("efficientdetv2_dt"), pretrained_backbone=False)
    torch.save(model.state_dict(), "coco.pth")
    text = run(
        pretrain,
        capsys,
        tiny_flir,
        "--modality",
        "rgb",
        "--init",
        "coco.pth",
        "--dry_run",
        "--workers",
        0,
        "--image_size",
        128,
    )
    assert "parameters_rgb" in text


def test_a_dry_run_writes_nothing(in_work, tiny_flir, tiny_config, capsys):
    before = sorted(p.name for p in Path("runs").iterdir())
    for main, extra in ((pretrain, []), (search, []), (found, ["--baseline", "sum"])):
        text = run(main, capsys, tiny_flir, "--config", tiny_config, "--dry_run", *extra)
        assert "epochs: " in text
    assert sorted(p.name for p in Path("runs").iterdir()) == before


def test_wandb_goes_offline_by_itself(in_work, tiny_flir, tiny_config, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    argv = [tiny_flir, "--random_genotype", 3, "--wandb", "--config", tiny_config, "--epochs", 1]
    text = run(found, capsys, *argv)
    assert "the run goes on without it" not in text
    (kept,) = (named(text, "eval_exp_dir") / "wandb").glob("offline-run-*")
    pictures = [path.name for path in (kept / "files/media/images").rglob("*.png")]
    assert len([name for name in pictures if name.startswith("genotype")]) == 1
    assert len([name for name in pictures if name.startswith("detections on val")]) >= 1
    assert b"artifact" in b"".join(path.read_bytes() for path in kept.glob("run-*.wandb"))


def test_paper_protocol_is_said_everywhere(undrawn, in_work, tiny_flir, tiny_config, capsys, tmp_path):
    config = ["--config", tiny_config, "--epochs", 1, "--paper-protocol"]
    assert "--allow_split_mismatch" in refused(search, capsys, tiny_flir, *config)
    folder = named(run(search, capsys, tiny_flir, *config, "--allow_split_mismatch"), "search_exp_dir")
    meta = json.loads((folder / "genotype.json").read_text())["parts"]["fusion"]["meta"]
    assert meta["protocol"] == "paper: test used as val"
    assert meta["checkpoint_split"].startswith("mismatch allowed")
    trained = named(
        run(
            found,
            capsys,
            tiny_flir,
            "--search_exp_dir",
            folder,
            "--epochs",
            1,
            "--allow_split_mismatch",
            "--workers",
            0,
        ),
        "eval_exp_dir",
    )
    tested = json.loads(
        named(run(found, capsys, tiny_flir, "--eval_exp_dir", trained, "--workers", 0), "results").read_text()
    )
    assert tested["protocol"] == tested["genotype_protocol"] == "paper: test used as val"
    # A genotype found on the test pairs does not become clean by training it on a proper split.
    given = ["--config", tiny_config, "--epochs", 1, "--genotype", folder / "genotype.json"]
    trained = named(run(found, capsys, tiny_flir, *given), "eval_exp_dir")
    tested = json.loads(
        named(run(found, capsys, tiny_flir, "--eval_exp_dir", trained, "--workers", 0), "results").read_text()
    )
    assert (tested["protocol"], tested["genotype_protocol"]) == ("train/arch/val", "paper: test used as val")


BAD = [
    (search, ["--num_keep_edges", 3], "num_keep_edges"),
    (search, ["--num_input_nodes", 10], "num_input_nodes: expected 4"),
    (search, ["--fusion_levels", 5], "fusion_levels: expected 3"),
    (search, ["--C", 128], "--C: expected 16"),
    (search, ["--num-classes", 90], "--num-classes 3"),
    (search, ["--num-classes", 2], "at least the data set's 3"),
    (search, ["--steps", 3], "steps: expected at most 2"),
    (search, ["--split_seed", 1], "allow_split_mismatch"),
    (search, ["--backbone", "resnet18"], "thermal_backbone"),
    (search, ["--backbone", "resnet81"], "resnet18"),
    (search, ["--device", "cuda:99"], "cuda:99"),
    (search, ["--epochs", -3], "epochs"),
    (search, ["--batchsize", 0], "batchsize"),
    (search, ["--amp", "--strategy", "darts2"], "darts2"),
    (search, ["--accum", 2, "--strategy", "darts2"], "darts2: expected --accum 1"),
    (search, ["--accum", 0], "accum"),
    (search, ["--checkpointdir", "nowhere"], "nowhere"),
    (search, ["--config", "nowhere.yaml"], "nowhere.yaml"),
    (search, ["--eta_maxx", 1], "eta_maxx"),
    (found, [], "exactly one of"),
    (found, ["--baseline", "sum", "--random_genotype", 1], "exactly one of"),
    (found, ["--baseline", "sum", "--steps", 2], "--steps: no effect"),
    (found, ["--baseline", "sum", "--results", "x.json"], "--results: expected --eval_exp_dir"),
    (found, ["--box_fusion", "nms", "--partner_exp_dir", "x"], "--box_fusion, --partner_exp_dir: expected --eval"),
    (found, ["--eval_exp_dir", "x", "--box_fusion", "nms"], "--box_fusion: expected --partner_exp_dir"),
    (found, ["--eval_exp_dir", "x", "--partner_exp_dir", "y"], "--partner_exp_dir: expected --box_fusion"),
    (
        found,
        ["--eval_exp_dir", "x", "--partner_exp_dir", "y", "--box_fusion", "nms", "--search_exp_dir", "z"],
        "--search_exp_dir: no effect",
    ),
    (found, ["--eval_exp_dir", "x", "--match_parameters", "y"], "--match_parameters: no effect"),
    (found, ["--baseline", "rgb_twice", "--match_parameters", "y"], "found --baseline rgb_twice"),
    (found, ["--random_genotype", 1, "--match_parameters", "y"], "--match_parameters: expected --baseline mean"),
    (found, ["--baseline", "sum", "--match_parameters", "nowhere.json"], "nowhere.json"),
    (found, ["--baseline", "early"], "early_stream.pth"),
    (found, ["--baseline", "sum", "--drpt", 0.5], "--drpt: no effect"),
    (found, ["--baseline", "sum", "--recipe", "sgd_steps", "--Ti", 3], "--Ti: no effect with --recipe sgd_steps"),
    (search, ["--recipe", "sgd_cosine", "--marks", 3], "--marks: no effect with --recipe sgd_cosine"),
    (search, ["--recipe", "sgd_steps", "--marks", 3, 1], "--marks: expected epochs in rising order"),
    (search, ["--device", "meta"], "--device meta"),
    (search, ["--anchor_scale", 0], "anchor_scale"),
    (found, ["--genotype", "nowhere.json"], "nowhere.json"),
    (found, ["--search_exp_dir", "nowhere"], "nowhere"),
    (found, ["--eval_exp_dir", "nowhere"], "nowhere"),
    (pretrain, ["--num_input_nodes", 3], "even"),
    (pretrain, ["--fusion_levels", 2], "fusion_levels"),
    (pretrain, ["--scale_jitter", 2, 1], "scale_jitter"),
    (pretrain, ["--init", "nowhere.pth"], "nowhere.pth"),
    (search, ["--batchsize", 1, "--image_size", 32, "--epochs", 1], "batchsize: expected at least 2"),
]


@pytest.mark.parametrize(("main", "options", "message"), BAD, ids=lambda v: str(v)[:40] if isinstance(v, list) else "")
def test_mistakes_are_one_line(in_work, tiny_flir, tiny_config, capsys, main, options, message):
    before = sorted(p.name for p in Path("runs").iterdir())
    config = [] if "--config" in options else ["--config", tiny_config]
    assert message in refused(main, capsys, tiny_flir, *config, *options)
    assert sorted(p.name for p in Path("runs").iterdir()) == before


def test_a_test_must_agree_with_its_run(searched, in_work, tiny_flir, tiny_config, capsys):
    config = ["--config", tiny_config, "--epochs", 1]
    trained = named(run(found, capsys, tiny_flir, "--random_genotype", 5, *config), "eval_exp_dir")
    tested = [tiny_flir, "--eval_exp_dir", trained, *config[:2]]
    assert "expected genotype" in refused(found, capsys, *tested, "--search_exp_dir", searched)
    assert "--image_size" in refused(found, capsys, *tested, "--image_size", 96)
    assert "--baseline: no effect" in refused(found, capsys, *tested, "--baseline", "sum")
    text = run(found, capsys, *tested, "--eta_max", 1, "--epochs", 9)
    assert "--epochs, --eta_max" in text
    state = (trained / "best.pt").read_bytes()
    (trained / "best.pt").write_bytes(state[: len(state) // 2])
    assert "best.pt" in refused(found, capsys, *tested)


def test_a_pair_in_both_lists_is_refused(in_work, tmp_path, tiny_config, capsys):
    data = make_tiny_flir(tmp_path / "flir", seed=0)
    name = sorted((data / "images_thermal_train/data").iterdir())[2].name
    meta = data / "meta/thermal/flir_test.json"
    content = json.loads(meta.read_text())
    old = content["images"][0]["file_name"]
    content["images"][0]["file_name"] = name
    meta.write_text(json.dumps(content))
    for folder, before, after in (
        ("images_thermal_test", old, name),
        ("images_rgb_test", old.replace("PreviewData.jpeg", "RGB.jpg"), name.replace("PreviewData.jpeg", "RGB.jpg")),
    ):
        (data / folder / "data" / before).rename(data / folder / "data" / after)
    assert name in refused(search, capsys, data, "--config", tiny_config)


def test_a_val_part_without_boxes_has_no_score(in_work, tmp_path, tiny_config, capsys):
    data = make_tiny_flir(tmp_path / "flir", seed=0)
    meta = data / "meta/thermal/flir_train.json"
    content = json.loads(meta.read_text())
    val = make_split([image["file_name"] for image in content["images"]], seed=0).parts["val"]
    ids = {image["id"] for image in content["images"] if image["file_name"] in val}
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] not in ids]
    meta.write_text(json.dumps(content))
    common = [data, "--config", tiny_config]
    text = run(found, capsys, *common, "--baseline", "sum")
    assert "best epoch 0, AP_val none" in text
    results = named(run(found, capsys, *common, "--eval_exp_dir", named(text, "eval_exp_dir")), "results")
    assert json.loads(results.read_text())["AP_val"] is None


def test_a_file_in_the_place_of_checkpointdir(tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert "--checkpointdir file" in refused(
        pretrain, capsys, tiny_flir, "--config", tiny_config, "--checkpointdir", "file"
    )
    assert not (tmp_path / "runs").exists()


def test_no_such_data_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for main in (pretrain, search, found):
        extra = ["--baseline", "sum"] if main is found else []
        assert "nowhere" in refused(main, capsys, "nowhere", "--no-imagenet" if main is pretrain else "--amp", *extra)
    assert not (tmp_path / "runs").exists()


def test_a_test_needs_a_training_run_and_a_place_for_its_results(searched, tiny_flir, tiny_config, capsys):
    tested = [tiny_flir, "--config", tiny_config]
    error = refused(found, capsys, *tested, "--eval_exp_dir", searched)
    assert "kind: expected 'found', as of a training, found 'search'" in error
    trained = named(run(found, capsys, *tested, "--baseline", "sum", "--epochs", 1), "eval_exp_dir")
    tested += ["--eval_exp_dir", trained, "--results"]
    assert "--results" in refused(found, capsys, *tested, "nowhere/x.json")
    assert "--results" in refused(found, capsys, *tested, "runs")
    results = named(run(found, capsys, *tested, "x.json"), "results")
    assert Path("x.json").read_bytes() == (results.parent / "detections.json").read_bytes()

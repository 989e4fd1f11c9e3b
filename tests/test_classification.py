"""The second task end to end on made-up data: pretraining, search, training, baselines, test; resume; bad input."""

import json
from pathlib import Path

import pytest
import torch
from torchvision.models.resnet import Bottleneck, ResNet

import main_darts_found_ego
import main_darts_found_mmimdb
import main_darts_found_ntu
import main_darts_searchable_ego
import main_darts_searchable_mmimdb
import main_darts_searchable_ntu
import main_pretrain_ego
import main_pretrain_mmimdb
import main_pretrain_ntu
from datasets.classification import ego_gesture, mmimdb, ntu
from datasets.generated.ego import write_ego
from datasets.generated.mmimdb import write_mmimdb
from datasets.generated.ntu import write_ntu
from datasets.prepare_mmimdb import prepare_mmimdb
from engine.checkpointer import Checkpointer
from models.classification.encoders import DEPTHS, ENCODERS, clips
from models.search.parts import read_any
from tasks.classification.build import load_encoder
from tests.run_commands import named, refused, run
from tests.test_resume import struck_once
from utils.checkpoint import save
from utils.errors import UserError
from utils.run_folder import read_json

MAINS = {
    "mmimdb": (main_pretrain_mmimdb.main, main_darts_searchable_mmimdb.main, main_darts_found_mmimdb.main),
    "ntu": (main_pretrain_ntu.main, main_darts_searchable_ntu.main, main_darts_found_ntu.main),
    "ego": (main_pretrain_ego.main, main_darts_searchable_ego.main, main_darts_found_ego.main),
}
BACKBONES = {"mmimdb": "test_efficientnet", "ntu": "resnet18", "ego": "tiny"}
SINGLE = {"mmimdb": "text", "ntu": "skeleton", "ego": "depth"}
COMMON = ["--workers", 0, "--device", "cpu", "--no_report", "--batchsize", 4]


def make(name: str, folder: Path) -> Path:
    if name == "mmimdb":
        write_mmimdb(folder / "raw", {"train": 8, "dev": 6, "test": 4}, 1)
        prepare_mmimdb(folder / "raw/multimodal_imdb.hdf5", folder / "raw/split.json", folder / "data")
    elif name == "ntu":
        write_ntu(folder / "data", 1, 32, 1)
    else:
        write_ego(folder / "data", 1, 32, 1)
    return folder / "data"


@pytest.fixture(scope="module", params=MAINS)
def prepared(request, tmp_path_factory):
    """Give a data set with encoders: name, folder, working folder."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(DEPTHS, "tiny", (1, 1, 1, 1))
        patched.setattr(ego_gesture, "FRAMES", 16)
        patched.setattr(ego_gesture, "SIDE", 56)
        patched.setitem(ntu.FRAMES, "rgb", 4)
        patched.setattr(clips, "get_model", lambda name, weights: ResNet(Bottleneck, [1] * 4, width_per_group=8))
        patched.chdir(folder)
        data = make(request.param, folder)
        argv = [data, "--backbone", BACKBONES[request.param], "--no-imagenet", "--epochs", 1, *COMMON]
        assert MAINS[request.param][0]([str(word) for word in argv]) == 0
        yield request.param, data, folder


@pytest.fixture
def running(prepared, monkeypatch):
    monkeypatch.chdir(prepared[2])
    return prepared[:2]


def test_search_train_and_test(running, capsys):
    name, data = running
    _, search, found = MAINS[name]
    metric = "F1_weighted" if name == "mmimdb" else "accuracy"
    argv = [data, "--epochs", 1, "--cache_features", "disk", *COMMON]
    quick = name == "mmimdb"  # clips take their time
    more = ["--topk", 2] if name == "ntu" else []  # which learns on no more lists than the logits' epochs
    ends = [named(run(search, capsys, *argv, *more), "search_exp_dir") for _ in range(1 + quick)]
    genotypes = [read_any(end / "genotype.json") for end in ends]
    assert genotypes[0] == genotypes[-1]
    assert genotypes[0].parts["fusion"].space == "bmnas"
    assert f"{metric}_val" in genotypes[0].meta
    models = [torch.load(end / "best.pt", weights_only=True)["model"] for end in ends]
    assert all(torch.equal(models[0][key], models[-1][key]) for key in models[0])
    pretrained = torch.load(f"checkpoints/{name}/{SINGLE[name]}_encoder.pth", weights_only=True)
    kept = {k.partition("encoder.")[2]: v for k, v in models[0].items() if f"{SINGLE[name]}_encoder." in k}
    assert all(torch.equal(kept[key], value) for key, value in pretrained.items())  # frozen, norms' statistics too
    more = (["--baseline", SINGLE[name]], ["--baseline", "concat"]) if quick else ()
    for source in (["--search_exp_dir", ends[0]], *more):
        trained = named(run(found, capsys, *argv, *source), "eval_exp_dir")
        for part in ("val", "test") if quick else ("test",):
            text = run(found, capsys, data, "--eval_exp_dir", trained, "--eval_part", part, *COMMON)
            results = read_json(named(text, "results"))
            if part == "val":
                assert results[metric] == pytest.approx(results[f"{metric}_val"])  # as in training, cache or not
        answers = json.loads((named(text, "results").parent / "predictions.json").read_text())
        assert len(answers) == results["pairs"] > 0
        assert (results["part"], results["checkpoint_split"]) == ("test", "same")
        assert results["genotype_protocol"] == ("train/arch/val" if "--search_exp_dir" in source else None)


QUICKEST = pytest.mark.parametrize("prepared", ["mmimdb"], indirect=True)  # the code is the same for all


@QUICKEST
def test_encoders_learn_along_as_published(running, capsys):
    name, data = running
    argv = [data, "--epochs", 1, "--random_genotype", 2, "--save", "along", *COMMON]
    trained = named(run(MAINS[name][2], capsys, *argv), "eval_exp_dir")
    model = torch.load(trained / "best.pt", weights_only=True)["model"]
    before = torch.load("checkpoints/mmimdb/text_encoder.pth", weights_only=True)
    assert not torch.equal(model["streams.text_encoder.first.linear.weight"], before["first.linear.weight"])


@QUICKEST
def test_a_killed_search_ends_as_a_whole_one(running, capsys, monkeypatch):
    name, data = running
    search = MAINS[name][1]
    argv = [data, "--epochs", 2, "--strategy", "evolution", "--rounds", 3, "--population", 2, "--tournament", 2]
    argv += ["--topk", 2, "--topk_weights", "supernet", *COMMON]
    whole = named(run(search, capsys, *argv, "--save", "whole"), "search_exp_dir")
    with monkeypatch.context() as patched:
        patched.setattr(Checkpointer, "on_step_end", struck_once(Checkpointer.on_step_end, 5, 15))
        assert search([str(word) for word in (*argv, "--save", "cut")]) == 3
    capsys.readouterr()
    cut = named(run(search, capsys, *argv, "--save", "cut", "--resume", "auto"), "search_exp_dir")
    assert read_any(cut / "genotype.json") == read_any(whole / "genotype.json")
    first, second = (torch.load(end / "best.pt", weights_only=True)["model"] for end in (whole, cut))
    assert all(torch.equal(first[key], second[key]) for key in first)


@QUICKEST
def test_a_training_takes_the_encoder_files_of_its_search(running, capsys):
    name, data = running
    state = torch.load("checkpoints/mmimdb/text_encoder.pth", weights_only=True)
    save(Path("checkpoints/mmimdb/mine.pth"), {k: v + 1 if v.is_floating_point() else v for k, v in state.items()})
    argv = [data, "--epochs", 1, "--cache_features", "ram", *COMMON]
    text = run(MAINS[name][1], capsys, *argv, "--text_cp", "mine.pth")
    assert "--text_cp=mine.pth" in text
    trained = run(MAINS[name][2], capsys, *argv, "--search_exp_dir", named(text, "search_exp_dir"))
    model = torch.load(named(trained, "eval_exp_dir") / "best.pt", weights_only=True)["model"]
    key = "first.linear.weight"
    assert torch.equal(model[f"streams.text_encoder.{key}"], state[key] + 1)


@QUICKEST
def test_a_cached_test_opens_no_training_file(running, capsys, monkeypatch):
    name, data = running
    argv = [data, "--epochs", 1, "--baseline", "text", "--save", "apart", "--cache_features", "ram", *COMMON]
    trained = named(run(MAINS[name][2], capsys, *argv), "eval_exp_dir")
    opened, read = [], mmimdb.read_array
    monkeypatch.setattr(mmimdb, "read_array", lambda path, *more: opened.append(path) or read(path, *more))
    run(MAINS[name][2], capsys, data, "--eval_exp_dir", trained, "--cache_features", "ram", *COMMON)
    assert {path.parent.name for path in opened if path.name.startswith("text")} == {"test"}


DAMAGED = {"model": None, "progress": 3, "bad_files": None, "args": {}, "data_set": "ntu", "kind": "search"}


@QUICKEST
@pytest.mark.parametrize("field", DAMAGED)
def test_a_damaged_run_is_refused_in_a_line(running, capsys, tmp_path, field):
    name, data = running
    argv = [data, "--epochs", 1, "--baseline", "text", "--save", "whole", "--cache_features", "ram", *COMMON]
    known = sorted(Path().glob("runs/found-whole-*"))
    whole = known[0] if known else named(run(MAINS[name][2], capsys, *argv), "eval_exp_dir")
    state = torch.load(whole / "best.pt", weights_only=True) | {field: DAMAGED[field]}
    torch.save({k: v for k, v in state.items() if k != field or v is not None}, tmp_path / "best.pt")
    assert field in refused(MAINS[name][2], capsys, data, "--eval_exp_dir", tmp_path, *COMMON)


@QUICKEST
@pytest.mark.parametrize("content", [{"splits": 5}, {"backbone": 3}, {"classes": [1]}])
def test_a_damaged_record_of_pretraining_is_refused_in_a_line(running, capsys, tmp_path, content):
    (tmp_path / "pretrain.json").write_text(json.dumps(content))
    for main in MAINS["mmimdb"][:2]:
        told = refused(main, capsys, running[1], "--checkpointdir", tmp_path, *COMMON)
        assert f"{tmp_path}/pretrain.json: {next(iter(content))}: expected" in told


def test_a_file_of_other_names_is_taken_in_its_order_where_all_shapes_agree(tmp_path):
    encoder = ENCODERS["ntu"]["skeleton"]("", 5, False)
    theirs = {f"module.net.{n}": torch.randn_like(value) for n, value in enumerate(encoder.state_dict().values())}
    save(tmp_path / "a.checkpoint", {"state_dict": theirs})
    load_encoder(encoder, tmp_path / "a.checkpoint", "skeleton")
    assert all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), theirs.values(), strict=True))
    theirs["module.net.0"] = torch.zeros(3)
    for wrong in (theirs, {"state_dict": [1, 2]}, {"state_dict": {"x": 5}}):
        torch.save(wrong, tmp_path / "b.checkpoint")
        with pytest.raises(UserError, match="b.checkpoint"):
            load_encoder(encoder, tmp_path / "b.checkpoint", "skeleton")


WRONG = [
    (["--num_input_nodes", 7], "--num_input_nodes: expected"),
    (["--checkpointdir", "nowhere"], "no such checkpoint file"),
    (["--steps", 3, "--predecessors", "inputs", "--num_keep_edges", 3], "--num_keep_edges: expected 2"),
    (["--backbone", "no_such_net"], "--backbone"),
    (["--backbone", "vit_tiny_patch16_224"], "--backbone vit_tiny_patch16_224: expected vgg19 or a timm encoder"),
    (["--split_seed", 5], "--split_seed 5"),
    (["--augment"], "--augment: no such option"),  # nothing is drawn of a poster
    (["--strategy", "random", "--topk", 2], "--topk: no effect"),
]


@QUICKEST
@pytest.mark.parametrize(("options", "told"), WRONG)
def test_what_cannot_be_is_refused_in_a_line(running, capsys, options, told):
    name, data = running
    assert told in refused(MAINS[name][1], capsys, data, *COMMON, *options)

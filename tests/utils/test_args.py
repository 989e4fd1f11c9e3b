"""Options: precedence, configs, conversion, one-line errors, the published names and defaults."""

import pytest

from commands.options import parser_of
from tasks import TASKS
from utils.args import command, parse
from utils.errors import UserError
from utils.untrusted import options_from_run

PUBLISHED = {  # search | found where they differ; None: derived from the data or the streams when not given
    "seed": 2, "save": "EXP", "checkpointdir": "checkpoints/flira", "dataset": "flir_aligned", "parallel": False,
    "fullbb_path": "Att_Fusion_Net_Pretrained_Best.pth.tar", "head_path": "Head_Net_Pretrained_Best.pth.tar",
    "workers": 4, "no_prefetcher": False, "pin_mem": False, "batchsize": 16, "epochs": (30, 50), "drpt": (0.0, 0.2),
    "num_input_nodes": None, "num_keep_edges": 2, "C": 128, "L": 8, "multiplier": 2, "steps": 2, "node_multiplier": 3,
    "node_steps": 1, "fusion_levels": None, "num_classes": None, "weight_decay": (1e-4, 3e-4), "eta_max": 3e-3,
    "eta_min": 1e-6, "Ti": 5, "Tm": 2, "wandb": False,
}  # fmt: skip


def read(section: str, *argv: str):
    return parse(parser_of(TASKS["flira"]), ["data", *argv], section)


@pytest.mark.parametrize(("section", "which"), [("search", 0), ("found", 1)])
def test_published_names_and_defaults(section, which):
    args = read(section).plain()
    expected = {k: v[which] if isinstance(v, tuple) else v for k, v in PUBLISHED.items()}
    assert {k: args[k] for k in expected} == expected
    if section == "search":
        assert (args["arch_learning_rate"], args["arch_weight_decay"]) == (3e-4, 1e-3)


def config(tmp_path, text: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return str(path)


def test_typed_over_section_over_top_over_default(tmp_path):
    file = config(tmp_path, "epochs: 7\nC: 24\nlr: 0.1\nsearch: {epochs: 8, eta_max: 1e-2}\nfound: {epochs: 9}\n")
    args = read("search", "--config", file)
    assert (args.epochs, args.C, args.eta_max, args.Ti) == (8, 24, 0.01, 5)
    assert set(args.given_names) == {"config", "epochs", "C", "eta_max"} | {"data"}
    assert [args._origins[name] for name in ("data", "epochs", "Ti")] == ["command line", "config", "default"]
    assert read("found", "--config", file).epochs == 9
    assert read("pretrain", "--config", file).epochs == 7
    typed = read("search", "--config", file, "--epochs", "30")  # the default, typed, wins as well
    assert typed.epochs == 30
    assert set(typed.typed_names) == {"config", "epochs", "data"}


def test_config_values_are_converted_as_typed_ones(tmp_path):
    file = config(tmp_path, "image_size: 256x320\nscale_jitter: [0.5, 2]\nno-imagenet: true\npin-mem: true\n")
    args = read("pretrain", "--config", file)
    assert (args.image_size, args.scale_jitter) == ((256, 320), (0.5, 2.0))
    assert args.no_imagenet is args.pin_mem is True
    assert read("pretrain", "--image_size", "512").image_size == (512, 512)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "found epoch (did you mean epochs?)"),
        ("search: {epoch: 3}", "found search: epoch (did you mean epochs?)"),
        ("data: somewhere", "data"),
        ("config: other.yaml", "config"),
        ("search: {modality: rgb}", "search: modality"),
        ("epochs: many", "epochs: expected a whole number from 1, found 'many'"),
        ("epochs: 0", "epochs"),
        ("image_size: 256x320x3", "image_size"),
        ("image_size: 8", "image_size"),
        ("scale_jitter: 1", "scale_jitter: expected 2 values"),
        ("wandb: yes please", "wandb: expected true or false"),
        ("dataset: mars", "dataset: expected flir_aligned, "),
        ("[1, 2]", "expected option names"),
        ("search: 3", "expected option names"),
        ("a: [", "readable YAML"),
        ("!!python/object/apply:os.system ['true']", "readable YAML"),
    ],
)
def test_wrong_configs_are_one_line(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        read("search", "--config", config(tmp_path, text))
    assert message in str(error.value)
    assert "c.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_inheritance_spares_what_is_given(tmp_path):
    args = read("found", "--C", "64", "--config", config(tmp_path, "anchor_scale: 3"))
    run = {"C": 16, "anchor_scale": 2.0, "image_size": [64, 80], "epochs": 1}
    args = options_from_run(args, run, ("C", "anchor_scale", "image_size"), source="run")
    assert (args.C, args.anchor_scale, args.image_size, args.epochs) == (64, 3.0, (64, 80), 50)
    origins = [args._origins[name] for name in ("C", "anchor_scale", "image_size", "epochs")]
    assert origins == ["command line", "config", "run", "default"]


def test_options_are_frozen_and_changed_ones_are_new():
    args = read("search", "--C", "64")
    with pytest.raises(AttributeError, match="with_values"):
        args.C = 3
    more = args.with_values("data", C=64, num_classes=3)
    assert (args.num_classes, more.num_classes, more._origins["num_classes"]) == (None, 3, "data")
    assert more._origins["C"] == "command line"  # it had that value already
    assert args.with_values("checkpoint", C=16)._origins["C"] == "checkpoint"


def test_what_a_command_does_not_have_is_no_part_of_its_record():
    args = read("pretrain")
    assert args.overfit is None
    assert "overfit" not in args.plain()
    assert args.with_values("data", widen=None).plain()["widen"] is None


@pytest.mark.parametrize("argv", [["--epoch", "3"], ["--device"], ["--workers", "-1"], ["--drpt", "1"], ["--bogus"]])
def test_wrong_command_lines_are_one_line_and_code_2(argv, capsys):
    assert command(lambda given: read("search", *given))(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_other_errors_keep_their_traceback():
    @command
    def main(argv):
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        main([])


@pytest.mark.parametrize("section", ["pretrain", "search", "found"])
def test_help_names_every_option_with_its_default(section, capsys):
    parser = parser_of(TASKS["flira"])(section)
    for action in parser._actions:
        assert action.help, action.dest
        if action.option_strings and action.nargs != 0 and action.default is not None and action.dest != "help":
            assert "(" in action.help or action.dest.endswith("_path") or action.dest == "scale_jitter", action.dest
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--help"])
    assert end.value.code == 0

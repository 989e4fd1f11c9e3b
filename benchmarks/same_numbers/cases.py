"""What is run on both sides: the data, and the command lines of each case, as a user types them.

A case is run in a folder of its own, WORK/SIDE/CASE, on the data in WORK/data. Words with a `*` are file names to be
expanded, as by a shell; {code} is the checkout. A line that begins with KILLED is killed in its second epoch.
"""

from typing import NamedTuple

KILLED = "killed "
DATA_CASE = "data"
DATA, STREAMS = "../../data", "../pretrain_flira/checkpoints/flira"
CONFIG = """\
backbone: test_efficientnet
C: 16
num_input_nodes: 4
fusion_levels: 3
image_size: 64x80
anchor_scale: 2
norm_momentum: 0.1
batchsize: 3
workers: 0
device: cpu
no_report: true
pretrain: {no-imagenet: true, epochs: 2, head_epochs: 1, lr: 0.01, photometric: 0.2, scale_jitter: [0.8, 1.2]}
search: {epochs: 2, Ti: 1, steps: 1, multiplier: 1}
found: {epochs: 2, Ti: 1}
"""
FLIRA = f"flira.py {DATA}/flira --config {DATA}/tiny.yaml"
PRETRAIN, TEST = f"main_pretrain_{FLIRA}", f"main_darts_found_{FLIRA} --eval_exp_dir"
SEARCH, FOUND = (f"main_darts_{kind}_{FLIRA} --checkpointdir {STREAMS}" for kind in ("searchable", "found"))
CLASSIFICATION = "--workers 0 --device cpu --no_report --batchsize 4"
# The options of each strategy, so that together they take every way from supernet to genotype.
STRATEGIES = {
    "darts": "--space fusion_v1 --steps 2 --multiplier 2 --hessian",
    "darts2": "--space fusion_v2 --alternate step --pair_inputs",
    "gdas": "--space fusion_v2 --topk 2 --cache_features ram",
    "pcdarts": "--space fusion_v2 --cache_features disk --cache_dtype float16",
    "drnas": "--space fusion_v2 --pair_inputs --arch_warmup 1 --lambda_cost 0.5 --cost macs --cache_features disk",
    "fair": "--space fusion_v2 --pair_inputs --select perturb --cache_features ram",
    "sdarts-rs": "--space fusion_v1 --drpt 0.2 --photometric 0.3 --accum 2 --max_parameter_free 0",
    "random": "--space fusion_v2 --candidates 2 --max_parameter_free 1 --cache_features ram",
    "evolution": "--space fusion_v2 --rounds 5 --population 3 --tournament 2 --topk 2 --topk_weights supernet",
}
WHOLE = [
    f"{PRETRAIN} --checkpoint_every 1",
    f"{SEARCH} --epochs 4 --drpt 0.2 --photometric 0.3 --checkpoint_every 1",
    f"{FOUND} --epochs 4 --baseline concat_conv --modality_dropout 0.4 --photometric 0.3 --checkpoint_every 1",
    f"main_darts_searchable_mmimdb.py {DATA}/mmimdb {CLASSIFICATION} --save mmimdb --epochs 4 --checkpoint_every 1"
    " --checkpointdir ../mmimdb/checkpoints/mmimdb --cache_features ram",
]
TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2 {code}/"


class Case(NamedTuple):
    """Command lines that are run one after the other, and the cases whose folders they read."""

    commands: list[str]
    needs: tuple[str, ...] = ()


def classification(name: str, backbone: str, search: str) -> list[str]:
    """Return the four commands of a classification task."""
    common = f"{name}.py {DATA}/{name} {CLASSIFICATION}"
    cached = f"{common} --epochs 1 --cache_features disk"
    return [
        f"main_pretrain_{common} --epochs 1 --backbone {backbone} --no-imagenet",
        f"main_darts_searchable_{cached} {search}",
        f"main_darts_found_{cached} --search_exp_dir runs/search-EXP-*",
        f"main_darts_found_{common} --eval_exp_dir runs/found-EXP-*",
    ]


def mmimdb() -> list[str]:
    """Return the commands of MM-IMDB; encoders that learn along, a baseline and an evolution beside the four."""
    search, found = (f"main_darts_{k}_mmimdb.py {DATA}/mmimdb {CLASSIFICATION}" for k in ("searchable", "found"))
    evolution = "--strategy evolution --rounds 3 --population 2 --tournament 2 --topk 2 --topk_weights supernet"
    return [
        *classification("mmimdb", "test_efficientnet", "--predecessors inputs"),
        f"{search} --epochs 2 --save evolution --cache_features ram {evolution}",
        f"{found} --epochs 1 --save along --random_genotype 2",
        f"{found} --epochs 1 --save text --baseline text",
        f"{found} --save text --eval_exp_dir runs/found-text-* --eval_part val",
    ]


CASES = {
    DATA_CASE: Case(
        [
            "-m datasets.road_scenes flira --seed 3 --train 14 --val 4 --test 7 --width 80 --workers 1",
            "-m datasets.generated.mmimdb raw --train 8 --dev 6 --test 4",
            "-m datasets.prepare_mmimdb raw/multimodal_imdb.hdf5 raw/split.json mmimdb",
            "-m datasets.generated.ntu ntu --per_subject 1 --size 32",
            "-m datasets.generated.ego ego --per_subject 1 --size 32",
        ]
    ),
    "pretrain_flira": Case([PRETRAIN]),
    "pretrain_early": Case(
        [
            f"{PRETRAIN} --modality early --epochs 1",
            f"main_darts_found_{FLIRA} --baseline early --epochs 1",
        ]
    ),
    **{
        f"search_{name}": Case([f"{SEARCH} --strategy {name} {options}"], ("pretrain_flira",))
        for name, options in STRATEGIES.items()
    },
    "train_searched": Case(
        [
            f"{FOUND} --drpt 0.3 --search_exp_dir ../search_darts/runs/search-EXP-*",
            f"{TEST} runs/found-EXP-* --search_exp_dir ../search_darts/runs/search-EXP-* --robustness",
            f"-m tools.predict --eval_exp_dir runs/found-EXP-* --rgb {DATA}/flira/images_rgb_val/data --score 0"
            f" --thermal {DATA}/flira/images_thermal_val/data --out predicted --device cpu",
        ],
        ("pretrain_flira", "search_darts"),
    ),
    "train_streams": Case(
        [f"{FOUND} --baseline concat_conv --stream_lr 1e-3", f"{TEST} runs/found-EXP-* --eval_part val"],
        ("pretrain_flira",),
    ),
    "train_dropout": Case(
        [
            f"{FOUND} --random_genotype 3 --space fusion_v2 --modality_dropout 0.4 --cache_features disk --seed 5",
            f"{TEST} runs/found-EXP-* --cache_features disk",
        ],
        ("pretrain_flira",),
    ),
    "box_fusion": Case(
        [
            f"{FOUND} --baseline thermal --save one --epochs 1",
            f"{FOUND} --baseline rgb --save two --epochs 1",
            *(
                f"{TEST} runs/found-one-* --partner_exp_dir runs/found-two-* --box_fusion {name} --save {name}"
                for name in ("nms", "wbf")
            ),
        ],
        ("pretrain_flira",),
    ),
    "mmimdb": Case(mmimdb()),
    "ntu": Case(classification("ntu", "resnet18", "--topk 2")),
    "ego": Case(classification("ego", "resnext26", "--strategy gdas")),
    "whole": Case(WHOLE, ("pretrain_flira", "mmimdb")),
    "killed": Case(
        [f"{word}{line}{resume}" for line in WHOLE for word, resume in ((KILLED, ""), ("", " --resume auto"))],
        ("pretrain_flira", "mmimdb", "whole"),
    ),
    "two_ranks": Case(
        [f"{TORCHRUN}{SEARCH} --cache_features ram", f"{TORCHRUN}{FOUND} --baseline sum"], ("pretrain_flira",)
    ),
}


def chosen(names: list[str]) -> list[str]:
    """Return these cases and all that they need, in the order of the table; all where none is named."""
    wanted = set(names or CASES) | {DATA_CASE}
    for name in reversed(CASES):
        if name in wanted:
            wanted |= set(CASES[name].needs)
    return [name for name in CASES if name in wanted]


def recipe(name: str) -> list[str]:
    """Return all that decides what a case ends with, so that one of an earlier recipe is run again."""
    before = [line for need in CASES[name].needs for line in recipe(need)]
    return [CONFIG, *CASES[DATA_CASE].commands, *before, *CASES[name].commands]

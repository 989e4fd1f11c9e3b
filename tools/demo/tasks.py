"""The tasks that the demo runs on: data, methods and the columns of the table of each."""

from typing import NamedTuple

from datasets.road_scenes import SIZES

SINGLE = ("thermal", "rgb")
WIDENED = {"sum_widened": "sum", "concat_conv_widened": "concat_conv"}  # as many parameters as the searched network
WIDENED_TOWERS = {"fcos_widened": "fcos"}  # likewise
BOX_FUSIONS = {"box_nms": "nms", "box_wbf": "wbf"}  # of the detections of both single sensors; without training
TRAINED_FUSIONS = ("mean", "sum", "concat_conv", "eca_attn", "shuffle_attn", "rgb_twice", "early")
HAND_MADE = (*TRAINED_FUSIONS, *WIDENED, *BOX_FUSIONS)
DEFAULT_METHODS = ("thermal", "rgb", "sum", "concat_conv", "searched")
SCENE = "AP_scene_"
NEXT = """\
Your own data: FLIR-Aligned in any layout, or a YAML file that describes your set (--dataset, docs/own_data.md):
  python -m tools.check_data DIR
  python main_pretrain_flira.py DIR --modality both --config configs/laptop.yaml
  python main_darts_searchable_flira.py DIR --config configs/laptop.yaml
  python main_darts_found_flira.py DIR --config configs/laptop.yaml --search_exp_dir=<dir of search exp>"""


class Demo(NamedTuple):
    """What a demo of a task does.

    Args:
        seed, out, config: defaults of the options.
        data: folder of the generated data, in the folder of results.
        sizes: options of the generator with their defaults.
        single: methods of one modality; each modality is pretrained. Without any, one pretraining serves all methods.
        hand_made: methods without a search.
        default_methods: methods of the demo without --methods.
        scores: numbers of results.json that a row has, with their columns; `gains` compares the first two.
        in_points: whether the table shows scores in points of 100.
        next: printed at the end.
        camera: of a detector of one camera, which its picture shows.
    """

    seed: int
    out: str
    config: str
    data: str
    sizes: dict[str, int]
    single: tuple[str, ...]
    hand_made: tuple[str, ...]
    default_methods: tuple[str, ...]
    scores: dict[str, str]
    in_points: bool = False
    next: str = ""
    camera: str = ""

    @property
    def pretrainings(self) -> tuple[str, ...]:
        """Names of what is pretrained."""
        return self.single or ("detector",)

    @property
    def methods(self) -> tuple[str, ...]:
        return (*self.single, *self.hand_made, "random", "searched")


FLIRA = Demo(
    seed=2,
    out="runs/demo",
    config="configs/demo.yaml",
    data="scenes",
    sizes=SIZES,
    single=SINGLE,
    hand_made=HAND_MADE,
    default_methods=DEFAULT_METHODS,
    scores={"AP": "AP", "AP50": "AP50", "AP_val": "AP_val", "LAMR_person": "LAMR people"},
    next=NEXT,
)
MMIMDB = Demo(
    seed=1,
    out="runs/demo-mmimdb",
    config="configs/demo_mmimdb.yaml",
    data="mmimdb",
    sizes={"train": 800, "dev": 400, "test": 500},
    single=("text", "image"),
    hand_made=("sum", "concat"),
    default_methods=("text", "image", "sum", "concat", "random", "searched"),
    scores={name: name for name in ("F1_weighted", "F1_micro", "F1_macro", "F1_samples", "F1_weighted_val")},
    in_points=True,
)
FAD = Demo(
    seed=2,
    out="runs/demo-fad",
    config="configs/demo_fad.yaml",
    data="scenes",
    sizes={"train": 900, "val": 100, "test": 200, "width": 192},
    single=(),
    hand_made=("fcos", "fcos_wired", *WIDENED_TOWERS),
    default_methods=("fcos", *WIDENED_TOWERS, "random", "searched"),
    scores={"AP": "AP", "AP50": "AP50", "AP_val": "AP_val", "LAMR_person": "LAMR people"},
    camera="thermal",
)
DEMOS = {"flira": FLIRA, "mmimdb": MMIMDB, "fad": FAD}

"""Options of classification: published names and defaults (2104.09379, section 4), and ours. Imports no torch.

Options that all tasks share: commands/options.py.
"""

from models.search.fusion_cells.choices import SEQUENCES
from tasks.classification.presets import DataSet
from tasks.fusion_options import add_space_options
from utils.args import Parser
from utils.option_types import positive

F1_TYPES = ("weighted", "micro", "macro", "samples")


def add_options(parser: Parser, section: str, preset: DataSet) -> None:
    """Add the options of "pretrain", "search" or "found"."""
    parser.set_defaults(augment=False, f1_type="weighted", backbone=preset.backbone)
    parser.set_defaults(checkpointdir=f"checkpoints/{preset.name}")
    add_data_options(parser, preset)
    if section == "pretrain":
        names, text = [*preset.files, "both"], "which encoders to train (both)"
        parser.group("pretraining").add_argument("--modality", choices=names, default="both", help=text)
        return
    parser.set_defaults(**(preset.search if section == "search" else preset.found))
    steps = {"node_steps": preset.node_steps, "node_multiplier": preset.node_steps}
    add_space_options(parser, rank=SEQUENCES, default="bmnas", text="search space", **steps)
    add = parser.group("search space").add_argument
    text = "what a step may read: inputs and earlier steps, no pair twice, as in the paper; or inputs alone, as in the "
    text += "public code (all)"
    add("--predecessors", choices=["all", "inputs"], default="all", help=text)
    add("--C", type=positive, default=preset.channels, help="channels of a feature (%(default)s)")
    add("--L", type=positive, default=preset.length, help="positions of a feature (%(default)s)")
    add("--num_input_nodes", type=positive, help="taps of all encoders, for a check (from the encoders)")
    if section == "found":
        parser.set_defaults(stream_lr=preset.found["eta_max"] if preset.train_encoders else 0.0)
        text = "train one modality, or the last taps summed or side by side (none)"
        names = [*preset.files, "sum", "concat"]
        parser.group("found network").add_argument("--baseline", choices=names, help=text)


def add_data_options(parser: Parser, preset: DataSet) -> None:
    add = parser.group("data").add_argument
    add("--small_dataset", action="store_true", help="the first 64 examples of each list, to try a command out (off)")
    if preset.draws:
        add(
            "--augment", action="store_true", help="training draws crops; not with cached features (off; published: on)"
        )
    add = parser.group("network").add_argument
    for modality, option in preset.files.items():
        name = f"{modality}_encoder.pth"
        add(f"--{option}", default=name, metavar="FILE", help=f"{modality} file in checkpointdir ({name})")
    if preset.multi_label:
        text = "the F1 by which an epoch is chosen: the mean over genres by their number, of all decisions, over "
        text += "genres, or over films (weighted)"
        add("--f1_type", choices=F1_TYPES, default="weighted", help=text)

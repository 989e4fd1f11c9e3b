"""Options that the commands of all tasks share, and the parser of a task's command. Imports no torch.

`--help` is the manual: unit, default, published value. Parsing and configs: utils/args.py. A task adds its own options
and sets its published defaults (tasks/*/options.py).
"""

from functools import partial

from engine.task import Task
from models.search.strategies import COSTS, STRATEGIES
from utils.args import MakeParser, Options, Parser
from utils.errors import UserError, flags
from utils.option_types import above_zero, count, interval, names, not_negative, positive, probability, seed

# What `--help` shows; `--help all` shows every option.
EVERYDAY = ("data", "dataset", "image_size", "small_dataset", "split_seed", "workers", "hflip", "backbone")
EVERYDAY += ("checkpointdir", "C", "modality", "init", "encoder_weights", "freeze_encoder", "encoder_lr", "batchsize")
EVERYDAY += ("epochs", "lr", "drpt", "eta_max", "weight_decay", "stream_lr", "accum", "seeds", "space", "strategy")
EVERYDAY += ("arch_learning_rate", "topk", "lambda_cost", "search_exp_dir", "genotype", "baseline", "random_genotype")
EVERYDAY += ("eval_exp_dir", "eval_part", "robustness", "cache_features", "config", "seed", "save", "device", "amp")
EVERYDAY += ("parallel", "wandb", "resume", "checkpoint_every", "dry_run")
PURPOSE = {
    "pretrain": "Train the networks that a search starts from; writes checkpointdir.",
    "search": "Search the architecture on frozen encoders; writes RUN/genotype.json.",
    "found": "Train the found network or a baseline, or test a trained one (--eval_exp_dir).",
}
# Values of options that a command or a task does not have.
ABSENT = {"normalization": "data", "stream_lr": 0.0, "cache_features": "off", "pair_inputs": False, "num_keep_edges": 2}
ABSENT |= dict.fromkeys(("seeds", "eval_exp_dir", "search_exp_dir", "results", "baseline", "genotype"))
ABSENT |= dict.fromkeys(
    ("folds", "fold", "random_genotype", "cache_dir", "overfit", "max_parameter_free", "cache_level")
)
RECIPE_NAMES = ("adam_restarts", "sgd_steps", "sgd_cosine")  # of engine/recipes.py, for search and training
SOURCES = ("search_exp_dir", "genotype", "baseline", "random_genotype")
OF_SPACE = ("space", "predecessors", "steps", "multiplier", "node_steps", "node_multiplier", "max_parameter_free")
FOR_TEST = ("results", "eval_part", "eval_dataset", "robustness", "box_fusion", "partner_exp_dir")
# Options that one strategy alone reads.
READ_BY = {"candidates": "random", "population": "evolution", "tournament": "evolution", "rounds": "evolution"}
OF_LOGITS = ("arch_learning_rate", "arch_weight_decay", "alternate", "arch_warmup", "pair_inputs", "hessian")
OF_LOGITS += ("early_stop", "lambda_cost", "cost", "select")
OF_TOPK = ("topk_epochs", "topk_weights")


def make_parser(task: Task, section: str) -> Parser:
    """Return the parser of a task's "pretrain", "search" or "found"."""
    parser = Parser(f"{task.title}. {PURPOSE[section]}", usage="%(prog)s DIR [options]", everyday=EVERYDAY)
    parser.set_defaults(**ABSENT)
    add_shared_options(parser)
    if section == "pretrain":
        add_pretrain_options(parser)
    else:
        add_weight_options(parser)
        add_recipe_options(parser)
        parser.group("search space")
        add_phase_options = add_search_options if section == "search" else add_found_options
        add_phase_options(parser)
        if task.encoders_learn:
            add_start_options(parser)
        if task.encoders_learn or section == "found":
            add_stream_rate(parser)
    add_cache_options(parser)
    task.add_options(parser, section)
    add_run_options(parser)
    for group in parser._action_groups:
        group._group_actions.sort(key=lambda action: action.dest not in EVERYDAY)
    return parser


def parser_of(task: Task) -> MakeParser:
    """Return what makes the parsers of a task's commands."""
    return partial(make_parser, task)


def add_shared_options(parser: Parser) -> None:
    add = parser.group("data").add_argument
    add("data", metavar="DIR", nargs="?", help="folder of the data set; with --resume that of the run, unless given")
    add("--split_seed", type=count, default=0, help="seed of the cut into train, arch and val (0)")
    text = "published protocol: no part is kept apart for arch and val, as docs/data.md says; results say so (off)"
    add("--paper-protocol", action="store_true", help=text)
    text = "examples that training may leave out, in all, since a file of them cannot be read; a test leaves out none "
    add("--max_bad_files", type=count, default=0, metavar="N", help=text + "(0)")
    add("--workers", type=count, default=4, help="loader processes (4, as published)")
    add("--pin-mem", action="store_true", help="pin loader memory, for CUDA (off)")
    add = parser.group("network").add_argument
    add("--backbone", default="", metavar="NAME", help="encoder of each modality, by timm's name (%(default)s)")
    add("--checkpointdir", default="", metavar="DIR", help="folder of pretrained weights (%(default)s)")


def add_pretrain_options(parser: Parser) -> None:
    add = parser.group("pretraining").add_argument
    add("--batchsize", type=positive, default=16, help="examples per step (%(default)s)")
    add("--epochs", type=positive, default=30, help="epochs of each network (%(default)s)")
    add("--lr", type=not_negative, default=1e-3, help="highest learning rate, AdamW, one cycle (%(default)s)")
    add("--weight_decay", type=not_negative, default=1e-4, help="weight decay (%(default)s)")
    text = "share of the steps in which the learning rate rises (%(default)s)"
    add("--warmup", type=probability, default=0.1, help=text)
    text = "encoders keep their start weights and the statistics of their norms; only what follows them learns (off)"
    add("--freeze_encoder", action="store_true", help=text)
    text = "highest learning rate of the encoders; statistics of their norms are frozen (none: they learn as the rest)"
    add("--encoder_lr", type=above_zero, metavar="LR", help=text)
    add_start_options(parser)


def add_start_options(parser: Parser) -> None:
    """Add what encoders start from."""
    add = parser.group("pretraining").add_argument
    text = "start from random weights, not from ImageNet's where there are any (off)"
    undone = "start from ImageNet weights though a config says no-imagenet (off)"
    add("--imagenet", dest="no_imagenet", action="store_false", default=False, help=undone)
    add("--no-imagenet", action="store_true", help=text)
    text = "start encoders from a file, .pth or .safetensors, in place of ImageNet weights from the network: of timm, "
    text += "torchvision, EfficientNet-PyTorch or a detector of ours; FILE for all pictures, MODALITY=FILE for one "
    add("--encoder_weights", nargs="+", metavar="[MODALITY=]FILE", help=text + "(none)")
    text = "mean and standard deviation of pictures: of the data set, or those that the encoder was pretrained with "
    text += "(%(default)s; with --encoder_weights: encoder)"
    add("--normalization", choices=["data", "encoder"], default="data", help=text)


def add_weight_options(parser: Parser) -> None:
    add = parser.group("weights").add_argument
    add("--batchsize", type=positive, default=16, help="examples per step (%(default)s)")
    add("--epochs", type=positive, default=30, help="epochs (%(default)s)")
    add("--drpt", type=probability, default=0.0, help="dropout in the fusion nodes (%(default)s)")
    text = "highest learning rate of a cosine cycle, Adam (%(default)s)"
    add("--eta_max", type=not_negative, default=3e-3, help=text)
    add("--eta_min", type=not_negative, default=1e-6, help="lowest learning rate of a cosine cycle (%(default)s)")
    add("--Ti", type=positive, default=5, help="epochs of the first cosine cycle (%(default)s)")
    add("--Tm", type=positive, default=2, help="factor from cycle to cycle (%(default)s)")
    add("--weight_decay", type=not_negative, default=1e-4, help="weight decay (%(default)s)")
    add("--seeds", type=seed, nargs="+", metavar="N", help="one run per seed, then mean and spread (the one of --seed)")


def add_recipe_options(parser: Parser) -> None:
    """Add the choice of optimiser and schedule, and the values of recipes other than the published one."""
    add = parser.group("weights").add_argument
    text = "optimiser and schedule: Adam with cosine restarts, or SGD with steps or one cosine (%(default)s)"
    add("--recipe", choices=RECIPE_NAMES, default=RECIPE_NAMES[0], help=text)
    text = "of sgd_steps: epochs, also fractions, after which the learning rate is a tenth (none)"
    add("--marks", type=above_zero, nargs="+", metavar="EPOCH", help=text)
    add("--momentum", type=probability, default=0.9, help="factor of the last step in the sgd recipes (0.9)")
    add("--warmup_steps", type=count, default=0, metavar="N", help="steps of a lower rate in the sgd recipes (0)")
    text = "rate in these steps: rising from a third, or a third (linear)"
    add("--warmup_kind", choices=("linear", "constant"), default="linear", help=text)
    add("--biases_apart", action="store_true", help="biases learn at twice the rate, without weight decay (off)")


def add_run_options(parser: Parser) -> None:
    add = parser.group("run").add_argument
    text = "YAML of option names; sections pretrain, search, found; typed options win (none)"
    add("--config", metavar="FILE", help=text)
    add("--seed", type=seed, default=2, help="seed of every random draw but the split's (2)")
    add("--save", default="EXP", help="name in the run folder's name (EXP)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add("--amp", action="store_true", help="bfloat16 autocast (off)")
    text = "torch.compile the network: minutes of compiling at the start, faster steps then (off)"
    add("--compile", action="store_true", help=text)
    text = "one process per GPU of this machine; for anything else torchrun, docs/many_devices.md (off)"
    add("--parallel", action="store_true", help=text)
    add("--wandb", action="store_true", help="log to Weights & Biases; offline where there is no key (off)")
    add("--no_report", action="store_true", help="leave out report.html of the run folder (written)")
    add("--dry_run", action="store_true", help="build everything, print sizes and steps, and leave (off)")
    text = "refuse operations that may give other digits on each run of a GPU; a CPU has none of them (off)"
    add("--deterministic", action="store_true", help=text)
    add("--clip_grad", type=not_negative, default=10.0, help="largest gradient norm (10; 0: no limit)")
    text = "batches whose gradients are averaged for one step: batchsize x N examples in the memory of one batch (1)"
    add("--accum", type=positive, default=1, metavar="N", help=text)
    text = "steps that may be skipped, in all, since their loss or gradient is not finite; their examples are named "
    add("--max_bad_steps", type=count, default=10, metavar="N", help=text + "(10)")
    text = "save the run every N steps, or after a time as 30s, 10m, 2h, beside the end of each epoch (10m)"
    add("--checkpoint_every", type=interval, default="10m", metavar="N|TIME", help=text)
    text = "go on with a run that was stopped: its folder, or auto: the newest with this --save, else a new one (none)"
    add("--resume", metavar="auto|RUN", help=text)
    add("--allow_split_mismatch", action="store_true", help="take checkpoints of another split; results say so (off)")


def add_search_options(parser: Parser) -> None:
    add = parser.group("search").add_argument
    text = "docs/search.md; as published: darts, darts2 (second order) (darts)"
    add("--strategy", choices=list(STRATEGIES), default="darts", help=text)
    text = "parts of the network that are searched, separated by commas (all that can be)"
    add("--search_parts", type=names, metavar="A,B", help=text)
    text = "genotype file of the parts that are not searched; a part that it lacks is made by hand (none)"
    add("--genotype", metavar="FILE", help=text)
    add("--search_exp_dir", metavar="RUN", help="the same from the genotype.json of a search run (none)")
    text = "parts that are not searched and whose weights do not learn, such as head (none)"
    add("--freeze_parts", type=names, metavar="A,B", help=text)
    text = "learning rate of the architecture parameters, Adam (3e-4)"
    add("--arch_learning_rate", type=not_negative, default=3e-4, help=text)
    add("--arch_weight_decay", type=not_negative, default=1e-3, help="weight decay of these (1e-3)")
    add("--alternate", choices=["epoch", "step"], default="epoch", help="weights and architecture in turn (epoch)")
    text = "epochs at the start in which the architecture parameters are frozen (0)"
    add("--arch_warmup", type=count, default=0, metavar="N", help=text)
    text = "the supernet gives a node two mixtures of states, as the found network has it, not one twice (off)"
    add("--pair_inputs", action="store_true", help=text)
    text = "genotypes of --strategy random, each trained for epochs / N (one per epoch)"
    add("--candidates", type=positive, metavar="N", help=text)
    add("--population", type=positive, default=10, help="of --strategy evolution: the youngest that breed (10)")
    add("--tournament", type=positive, default=4, help="of --strategy evolution: drawn, the fittest breeds (4)")
    add("--rounds", type=positive, default=40, help="of --strategy evolution: genotypes rated on val (40)")
    add = parser.group("collapse").add_argument
    text = "log the dominant eigenvalue of the Hessian with respect to the architecture parameters per epoch (off)"
    add("--hessian", action="store_true", help=text)
    text = "end the search when that eigenvalue rises, or when too many choices have no parameters (never)"
    add("--early_stop", choices=["eigenvalue", "parameter_free"], help=text)
    add = parser.group("from supernet to genotype").add_argument
    text = "take the strongest operations, or those whose removal costs the supernet most on val (argmax)"
    add("--select", choices=["argmax", "perturb"], default="argmax", help=text)
    text = "train the N likeliest genotypes briefly and take the best on val (1: do not)"
    add("--topk", type=positive, default=1, metavar="N", help=text)
    add("--topk_epochs", type=positive, default=1, metavar="N", help="epochs of each of these (1)")
    text = "these begin where the search began, or on the supernet's weights, all then on the same batches (start)"
    add("--topk_weights", choices=["start", "supernet"], default="start", help=text)
    add = parser.group("cost").add_argument
    text = "weight of the expected cost in the loss of the architecture, 1 being the cost of an even mixture (0)"
    add("--lambda_cost", type=not_negative, default=0.0, metavar="L", help=text)
    text = "what costs: multiply-accumulates, parameters, or seconds measured here per operation (macs)"
    add("--cost", choices=list(COSTS), default="macs", help=text)


def add_found_options(parser: Parser) -> None:
    add = parser.group("found network").add_argument
    add("--search_exp_dir", metavar="RUN", help="search run whose genotype.json is trained (none)")
    add("--genotype", metavar="FILE", help="train this genotype, JSON or public text form (none)")
    add("--random_genotype", type=seed, metavar="SEED", help="train a genotype drawn uniformly from this seed (none)")
    add("--eval_exp_dir", metavar="RUN", help="run whose best.pt is tested; nothing is trained (none)")
    add("--eval_part", choices=["test", "val"], default="test", help="with --eval_exp_dir: part to test on (test)")


def add_stream_rate(parser: Parser) -> None:
    text = "learning rate of the encoders, trained along; statistics of their norms are frozen (%(default)s; 0: frozen)"
    parser.group("weights").add_argument("--stream_lr", type=not_negative, default=0.0, metavar="LR", help=text)


def add_cache_options(parser: Parser) -> None:
    add = parser.group("cached features").add_argument
    text = "keep the outputs of the frozen encoders instead of computing them in every epoch: in memory, in files "
    text += "below cache_dir that later runs read, or where there is room (off)"
    add("--cache_features", choices=["off", "ram", "disk", "auto"], default="off", help=text)
    text = "type of what is kept; the half types take half the room and change the results' last digits (float32)"
    add("--cache_dtype", choices=["float32", "float16", "bfloat16"], default="float32", help=text)
    add("--cache_dir", default="cache", metavar="DIR", help="folder of the files; delete it at any time (cache)")


def check_encoder(options: Options) -> None:
    """Refuse an encoder that is both frozen and learning."""
    if options.freeze_encoder and options.encoder_lr:
        raise UserError(f"--freeze_encoder: expected no --encoder_lr beside it, found {options.encoder_lr:g}")


def check_combinations(options: Options) -> None:
    """Refuse options of a search that are not defined or would be ignored."""
    strategy, name = STRATEGIES[options.strategy], options.strategy
    if options.amp and strategy.second_order:
        raise UserError("--strategy darts2: expected float32, found --amp: finite differences need the digits")
    if options.accum > 1 and strategy.second_order:
        raise UserError(f"--strategy darts2: expected --accum 1 (its gradient is of one batch), found {options.accum}")
    if options.compile and (strategy.searcher != "gradient" or strategy.relaxation == "gumbel"):
        raise UserError(f"--strategy {name}: expected no --compile, as another network runs in each step")
    check_unread(options)
    if strategy.partial > 1 and options.topk > 1:
        why = "brief trainings run on the supernet's operations, which see a part of the channels only"
        raise UserError(f"--topk: expected 1 with --strategy {name} ({why}), found {options.topk}")
    if name == "random" and options.topk > 1:
        raise UserError("--topk: no effect with --strategy random, which trains each of its genotypes already")
    if options.arch_warmup >= options.epochs and strategy.searcher == "gradient":
        raise UserError(f"--arch_warmup: expected less than the {options.epochs} epochs, found {options.arch_warmup}")
    if name == "random" and options.epochs % candidates(options):
        raise UserError(f"--candidates: expected a divisor of {options.epochs} epochs, found {options.candidates}")


def check_parts(task: Task, options: Options) -> None:
    """Refuse parts that the network does not have, or that are both searched and frozen, and an unread file."""
    searched, searchable = task.searched_parts(options), task.searchable_parts
    if unknown := [part for part in searched if part not in searchable]:
        raise UserError(f"--search_parts: expected parts of {', '.join(searchable)}, found {', '.join(unknown)}")
    unsearched = [part for part in (*searchable, *task.other_parts) if part not in searched]
    if unknown := [part for part in task.frozen_parts(options) if part not in unsearched]:
        expected = ", ".join(unsearched)
        raise UserError(f"--freeze_parts: expected parts that are not searched, {expected}, found {', '.join(unknown)}")
    sources = [f"--{name}" for name in ("genotype", "search_exp_dir") if options[name] is not None]
    if len(sources) > 1:
        raise UserError(f"{sources[0]}: expected no {sources[1]} beside it, found both")
    if sources and set(searchable) <= set(searched):
        raise UserError(f"{sources[0]}: no effect without --search_parts: every part is searched")


def check_unread(options: Options) -> None:
    """Refuse typed options that the strategy, --topk 1 or --lambda_cost 0 leaves unread."""
    unread = [name for name, strategy in READ_BY.items() if strategy != options.strategy]
    unread += OF_LOGITS if STRATEGIES[options.strategy].searcher != "gradient" else ()
    why = dict.fromkeys(unread, f"with --strategy {options.strategy}")
    why |= {} if options.topk > 1 else dict.fromkeys(OF_TOPK, "alone: expected --topk of at least 2")
    why |= {} if options.lambda_cost else {"cost": "alone: expected --lambda_cost above 0"}
    for name in filter(options.is_typed, why):
        raise UserError(f"--{name}: no effect {why[name]}")


def check_edges(options: Options) -> None:
    expected = "expected 2 (a genotype has two edges per node)"
    if options.num_keep_edges != 2:
        raise UserError(f"--num_keep_edges: {expected}, found {options.num_keep_edges}")


def candidates(options: Options) -> int:
    """Return the number of genotypes of a random search: one per epoch unless --candidates is given."""
    return options.candidates or options.epochs


def source_of(options: Options) -> str:
    """Return which of SOURCES says what is trained; refuse none, several, and options that would be ignored."""
    if for_test := [name for name in FOR_TEST if options.is_typed(name)]:
        raise UserError(f"{flags(for_test)}: expected --eval_exp_dir beside it, found none")
    named = [name for name in SOURCES if options[name] is not None]
    if len(named) != 1:
        raise UserError(f"expected exactly one of {flags(SOURCES)}, found {flags(named) or 'none'}")
    unused = [name for name in OF_SPACE if options.is_typed(name) and named[0] != "random_genotype"]
    if unused:
        raise UserError(f"{flags(unused)}: no effect with --{named[0]}: sizes come from the genotype")
    return named[0]

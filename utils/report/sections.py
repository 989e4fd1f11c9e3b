"""The sections of a report, each from the files of a run; one without anything to show has no blocks."""

from typing import Any

from datasets.corruptions import KINDS
from datasets.parts import Parts
from datasets.splits import OVERFIT, PAPER
from models.fusion_detector import MODALITIES, found_fusions
from models.search.derive import operation_counts
from models.search.draw import draw_level
from models.search.genotypes import Genotype
from models.search.spaces import level_inputs
from models.search.strategies import STRATEGIES
from utils.args import options_of
from utils.coco_eval import precision_by_recall
from utils.errors import UserError, short
from utils.options import make_parser
from utils.plots import phases
from utils.report import drawings
from utils.report.gallery import MIN_SCORE, NUM_PAIRS, gallery, readable
from utils.report.page import Block, Facts, Pictures, Section, Table, Words
from utils.report.run import NONE, Run, counted, duration, number, points
from utils.reporting import count_parameters

SHOWN_GENOTYPES = 10  # of an evolution
SCENE = "AP_scene_"
TITLES = {"pretrain": "Pretraining", "search": "Search", "found": "Training", "test": "Test"}
WEIGHTS_LEARN = "Weights learn on train and arch; the epoch is chosen on val."
LOGITS_LEARN = "Weights learn on train, logits on arch; the epoch is chosen on val."
UNREAD = " The test pairs are not read."


def what_was_run(run: Run) -> Section:
    """Return command, data and split, code and machine."""
    split, known = run.split, run.environment
    sizes = {name: len(names) for name, names in split.parts.items()} if split else {}
    if run.kind == "test":
        told = f"Tested on {counted(run.results.get('pairs'))} pairs of {run.results.get('part')}; nothing is trained."
    else:
        told = LOGITS_LEARN if run.kind == "search" and learns(run) == "logits" else WEIGHTS_LEARN
        told += UNREAD if split and split.protocol != PAPER else ""
    if split and split.protocol == OVERFIT:
        told += f" Overfitting, a check of the whole job: learned and chosen on the same {sizes['train']} pairs."
    if split and split.protocol == PAPER:
        told += (
            " Published protocol: the test pairs serve as arch and val, so the numbers are those of a choice on them."
        )
    facts = {
        "run folder": str(run.path),
        "command": known.get("command", NONE),
        "data": f"{run.args.get('data')} ({run.args.get('dataset')})",
        "pairs": ", ".join(f"{name} {counted(size)}" for name, size in sizes.items()),
        "split": f"{split.hash}, protocol {split.protocol}, seed {split.seed}" if split else NONE,
        "seed": run.seed,
        "commit": known.get("commit", NONE),
        "machine": f"{known.get('processor', NONE)}; GPUs: {known.get('gpus', NONE)}; torch {known.get('torch', NONE)}",
    }
    if run.fused:
        both = f"{run.results.get('eval_exp_dir')} and {run.results.get('partner_exp_dir')}"
        facts |= {"boxes of": f"{run.results['fused']}: {both}"}
    return Section("What was run", [Words(told), Facts(facts), _options(run)])


def _options(run: Run) -> Facts:
    """Return all options, folded; those that are not at their default first."""
    defaults = {
        name: action.default
        for name, action in options_of(make_parser("found" if run.kind == "test" else run.kind)).items()
    }
    shown = {name: value for name, value in run.args.items() if name != "data"}
    ours = {
        name: f"{value} (default {_plain(defaults[name])})"
        for name, value in shown.items()
        if name in defaults and _plain(value) != _plain(defaults[name])
    }
    rest = {name: f"{_plain(value)}" for name, value in shown.items() if name not in ours}
    return Facts(ours | rest, "All options; those with another value than the default first")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def learns(run: Run) -> str:
    """Return what the search's strategy has learned: logits, candidates or paths; nothing where none is known."""
    strategy = STRATEGIES.get(str(run.args.get("strategy")))
    return strategy.learns if strategy else ""


def chosen(run: Run) -> dict[str, str]:
    """Return what a search's supernet, and the genotype that it ended with, have on val."""
    found, tried = run.read("discretisation.json"), briefly_trained(run)
    scores = {"AP on val, supernet": points((run.best or {}).get("AP_val"))} if learns(run) == "logits" else {}
    name = str(found.get("chosen"))
    if name in tried:
        return scores | {"AP on val, chosen, briefly trained": points(tried[name])}
    if number(found.get("AP_val_inherited")) is not None and name == str(found.get("genotype")):
        return scores | {"AP on val, chosen, on its weights": points(found["AP_val_inherited"])}
    return scores | ({"AP on val": points((run.best or {}).get("AP_val"))} if not scores else {})


def briefly_trained(run: Run) -> dict[str, float]:
    """Return the best AP on val of each genotype that was trained briefly."""
    best: dict[str, float] = {}
    for row in run.rows:
        if row.get("phase") == "topk":
            name = str(row.get("genotype"))
            best[name] = max(best.get(name, 0), number(row.get("AP_val"), 0))
    return best


def genotype(run: Run) -> Section:
    """Return each level's cell, drawn and in words, and its operations."""
    found = run.genotype
    if found is None:
        return Section("Genotype", [])
    cells = []
    for place, level in enumerate(found.levels):
        cells.append(drawings.picture(draw_level(found, place), f"Cell of {level}. {cell_in_words(found, place)}"))
    words = [[level, cell_in_words(found, place)] for place, level in enumerate(found.levels)]
    counts = ", ".join(f"{name} {count}" for name, count in operation_counts(found).most_common())
    facts = Facts(
        {"id": found.id, "space": found.space, "operations": counts, "parameters of the fusion": counted(_size(found))}
    )
    where = "Inputs on the left, warm: thermal, cool: RGB, white: not used. A step fuses its inputs x and y."
    return Section(
        "Genotype",
        [facts, Words(where), Pictures(cells), Table(["level", "inputs and operations"], words, worded=True)],
    )


def _size(found: Genotype) -> int:
    return sum(count_parameters(fusion) for fusion in found_fusions(found, 0.0))


def cell_in_words(found: Genotype, place: int) -> str:
    """Return what each step of a level's cell reads and does, in words."""
    cell = found.cells[place]
    states = (*level_inputs(found.inputs, place, found.levels), *(f"step {n + 1}" for n in range(len(cell.steps))))
    said = []
    for n, step in enumerate(cell.steps):
        pair = [states[s] if op == "skip" else f"{op} of {states[s]}" for op, s in cell.edges[2 * n : 2 * n + 2]]
        said.append(f"step {n + 1}: {' and '.join(pair)} by {', then '.join(step.inner_steps)}")
    return f"{'; '.join(said)}; output: {', '.join(states[s] for s in cell.concat)}"


def logits(run: Run) -> Section:
    """Return how the weights of operations and inputs moved over a search."""
    if not run.alphas:
        return Section("Logits", [])
    told = (
        "What derivation goes by where neither --select perturb nor --max_parameter_free decides otherwise: the share "
    )
    told += "of each operation, and of each input that of its best operation. Of inputs, warm lines are thermal, cool "
    told += "ones RGB. The strongest of a step is thick and named; dotted: the epoch that counts."
    blocks: list[Block] = [Words(told)]
    best = (run.best or {}).get("epoch", 0)
    for kind in ("ops", "edges"):
        levels = run.alphas[-1]["levels"].items()
        blocks.append(Pictures([drawings.alphas(level, kind, run.alphas, own[kind], best) for level, own in levels]))
    return Section("Logits over epochs", blocks)


def curves(run: Run) -> Section:
    """Return loss, AP and, of searches, entropy and operation counts over epochs."""
    if not run.rows:
        return Section("Curves", [])
    pictures = drawings.curves(phases("", run.path), best_in_words(run))
    counts = [name for name in run.rows[-1] if name.startswith("count_")]
    rows = [row for row in run.rows if "phase" not in row]
    if counts and rows:
        series = {n.removeprefix("count_"): [(row["epoch"], row.get(n, 0)) for row in rows] for n in counts}
        series = {name: values for name, values in series.items() if any(count for _, count in values)}
        last = ", ".join(f"{name} {values[-1][1]}" for name, values in series.items())
        pictures.append(
            drawings.lines("operations of the genotype", series, f"Operation counts over the epochs; at the end {last}")
        )
    if any(number(row.get("eigenvalue")) is not None for row in rows):
        values = [(row["epoch"], row["eigenvalue"]) for row in rows if number(row.get("eigenvalue")) is not None]
        alt = f"Dominant eigenvalue of the logits' Hessian over the epochs, at the end {values[-1][1]:.3g}"
        pictures.append(drawings.lines("dominant eigenvalue", {"eigenvalue": values}, alt))
    return Section("Curves", [Pictures(pictures)])


def best_by_phase(run: Run) -> dict[str, float]:
    """Return the best AP on val of each phase."""
    best: dict[str, float] = {}
    for row in run.rows:
        phase = str(row.get("phase", ""))
        best[phase] = max(best.get(phase, 0), number(row.get("AP_val"), 0))
    return best


def best_in_words(run: Run) -> str:
    return "best " + ", ".join(f"{phase} {points(value)}".lstrip() for phase, value in best_by_phase(run).items())


def settled(run: Run) -> Section:
    """Return what became of the supernet at the end of a search: what was tried on val, and with which result."""
    found, lived = run.read("discretisation.json"), run.read_list("evolution.json")
    blocks: list[Block] = []
    if found:
        names = {"AP_val_supernet": "supernet, as a mixture"}
        names |= {"AP_val_inherited": f"genotype {found.get('genotype')} on the supernet's weights"}
        facts = {f"AP on val: {words}": points(found.get(name)) for name, words in names.items()}
        blocks.append(Facts(facts | {"genotype that was chosen": str(found.get("chosen"))}))
    if lived:
        head = ["rank", "loss on val", "genotype", "its steps"]
        rows = [
            [str(n), f"{number(one.get('loss_val'), 0):.4f}", str(one.get("genotype")), str(one.get("argmax"))]
            for n, one in enumerate(lived, 1)
        ]
        told = f"The fittest of {len(lived)} genotypes of the evolution, rated on the supernet's weights"
        blocks.append(Table(head, rows[:SHOWN_GENOTYPES], told, worded=True))
    if tried := briefly_trained(run):
        rows = [[name, points(value)] for name, value in tried.items()]
        blocks.append(Table(["genotype", "AP on val"], rows, "Trained briefly, each from the search's start"))
    return Section("From supernet to genotype", blocks)


def scores(run: Run) -> Section:
    """Return AP, by class and by size: of a test its own, else those of the epoch that counts, on val."""
    names = list(
        dict.fromkeys(
            n.removesuffix("_val").partition("_")[2] for n in (run.results or run.best or {}) if n.startswith("AP50_")
        )
    )
    suffix = "" if run.kind == "test" else "_val"
    classes = [name for name in names if name and not name.startswith("scene_") and name != "val"]
    columns = ["AP", "AP50", "LAMR"]
    rows = [["all classes", points(run.value(f"AP{suffix}")), points(run.value(f"AP50{suffix}")), NONE]]
    rows += [[name, *(points(run.value(f"{c}_{name}{suffix}")) for c in columns)] for name in classes]
    if all(row[-1] == NONE for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    where = f"{run.results.get('part')} pairs" if run.kind == "test" else f"val, epoch {(run.best or {}).get('epoch')}"
    told = (
        f"{where}; points of 100. LAMR: log-average miss rate, lower is better."
        if len(columns) > 2
        else f"{where}; points of 100"
    )
    blocks: list[Block] = [Table(["class", *columns], rows, told)]
    sizes = {
        "AP75": "AP75",
        "AP_small": "small objects",
        "AP_medium": "medium",
        "AP_large": "large",
        "AR100": "AR, 100 boxes",
    }
    more = {
        words: points(run.value(f"{name}{suffix}"))
        for name, words in sizes.items()
        if run.value(f"{name}{suffix}") is not None
    }
    return Section("Scores", [*blocks, Facts(more)] if run.value(f"AP{suffix}") is not None else [])


def by_scene(run: Run) -> Section:
    """Return AP by scene, where the data names scenes."""
    scenes = {name.removeprefix(SCENE): run.value(name) for name in run.results if name.startswith(SCENE)}
    values = {name: 100 * value for name, value in scenes.items() if value is not None}
    if not values:
        return Section("By scene", [])
    alt = "AP by scene: " + ", ".join(f"{name} {value:.1f}" for name, value in values.items())
    rows = [
        [n, counted(run.value(f"pairs_scene_{n}")), points(v), points(run.value(f"AP50_scene_{n}"))]
        for n, v in scenes.items()
    ]
    return Section(
        "By scene",
        [
            drawings.bars("AP by scene", values, alt, "points of 100"),
            Table(["scene", "pairs", "AP", "AP50"], rows),
        ],
    )


def robustness(run: Run) -> Section:
    """Return what the failure of a sensor costs, where that was tested."""
    known = run.read("robustness.json")
    if not known:
        return Section("Robustness", [])
    from utils.robustness_plot import draw

    rows = robustness_rows(known, f"{run.path / 'robustness.json'}")
    clean, table = number(rows[0]["AP"], 0), []
    for row in rows:
        what = row["kind"].replace("_", " "), row["sensor"], str(row["severity"] or NONE)
        lost = NONE if row["AP"] is None else f"{100 * (row['AP'] - clean):+.1f}"
        table.append([*what, points(row["AP"]), lost])
    table[0][-1] = NONE
    worst = sorted(table[1:], key=lambda line: line[3] == NONE or float(line[3]))[:3]
    alt = f"AP with sensors dead, corrupted and shifted; clean {points(clean)}; lowest: "
    alt += "; ".join(f"{kind} of {sensor}, severity {severity}: {score}" for kind, sensor, severity, score, _ in worst)
    figure = draw(known | {"part": run.results.get("part"), "method": run.method}, rows)
    return Section(
        "Robustness",
        [drawings.picture(figure, alt), Table(["what", "sensor", "severity", "AP", "against clean"], table)],
    )


def robustness_rows(known: dict, source: str) -> list[dict]:
    """Return the rows of robustness.json, the clean test and others; UserError where they are none."""
    rows = known.get("rows")
    if not isinstance(rows, list) or len(rows) < 2 or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{source}: rows: expected the clean test and others, found {short(rows)}")
    for place, row in enumerate(rows):
        fits = {
            "kind": row.get("kind") in ((*KINDS,) if place else ("clean",)),
            "sensor": row.get("sensor") in ((*MODALITIES, "both") if place else ("none",)),
            "severity": type(row.get("severity")) is int,
            "AP": "AP" in row and (row["AP"] is None or number(row["AP"]) is not None),
        }
        if wrong := [name for name, right in fits.items() if not right]:
            found = short(row.get(wrong[0]))
            raise UserError(f"{source}: rows[{place}]: {wrong[0]}: expected one of a test, found {found}")
    return rows


def found_boxes(run: Run, parts: Parts | None, part: str) -> list[Section]:
    """Return precision against recall, and the gallery, on a part of the data, where detections were written.

    Raises:
        UserError: the data are not those that the run was scored on.
    """
    if parts is None or not part or not (run.path / "detections.json").exists():
        return []
    if not run.finished:  # detections and scores of the best epoch are not written at one moment
        told = "Precision against recall and the gallery come when the run has finished."
        return [Section("Gallery", [Words(told)])]
    detections = run.read_list("detections.json")
    check_detections(detections, parts, f"{run.path / 'detections.json'}")
    records = readable(parts, part, run.bad_files)
    ids = [record.image_id for record in records]
    known = parts.ground_truth(part), detections, ids, parts.data.category_ids, parts.data.classes
    precision = precision_by_recall(*known)
    areas = {name: sum(values) / len(values) for name, values in precision.items()}
    check_score(run, "AP50" if run.kind == "test" else "AP50_val", areas)
    blocks: list[Block] = []
    if precision:
        words = ", ".join(f"{name} {points(area)}" for name, area in areas.items())
        alt = f"Precision against recall at IoU 0.5; the area below is AP50 in points of 100: {words}"
        blocks.append(drawings.precision_recall(precision, alt))
    told = f"The {NUM_PAIRS} pairs of {part} with the most missed objects; "
    told += f"detections of a score of at least {MIN_SCORE:g}."
    pictures = [Words(told), gallery(parts, part, records, detections, run.sensor)]
    return [Section("Precision and recall", blocks), Section("Gallery", pictures)]


def check_detections(detections: list[dict], parts: Parts, source: str) -> None:
    """Refuse what is no list of detections of the data's classes."""
    known = set(parts.data.category_ids)
    for place, one in enumerate(detections):
        box = one.get("bbox")
        right = isinstance(box, list) and len(box) == 4 and all(number(side) is not None for side in box)
        named = isinstance(one.get("image_id"), str | int) and type(one.get("category_id")) is int
        if not right or not named or number(one.get("score")) is None or one["category_id"] not in known:
            raise UserError(
                f"{source}: entry {place}: expected bbox, score and a category_id of the data, found {short(one)}"
            )


def check_score(run: Run, name: str, areas: dict[str, float]) -> None:
    """Refuse data on which the detections of a run do not score what it says: its own have moved or changed."""
    told, found = run.value(name), sum(areas.values()) / len(areas) if areas else None
    if (told is None) != (found is None) or (told is not None and abs(told - found) > 1e-6):
        raise UserError(
            f"{run.path}: data: expected those of the run, on which its detections have {name} {told}, found others "
            f"with {found}"
        )


def cost(run: Run) -> Section:
    """Return what it took: time, speed, memory, pairs met; of a test what runs."""
    timing, first = run.read("timing.json"), {"test": "clean test", "search": "search"}.get(run.kind, "training")
    own = {
        n.removesuffix("wall_seconds").strip("_"): value for n, value in timing.items() if n.endswith("wall_seconds")
    }
    facts = {f"time, {name or first}": duration(value) for name, value in own.items()}
    facts |= {"time in all": duration(run.seconds)} if len(facts) > 1 else {}
    memory = max((number(row.get("memory_mb"), 0) for row in run.rows), default=0)
    speed = [row["pairs_per_s"] for row in run.rows if number(row.get("pairs_per_s")) is not None]
    facts |= {"pairs per second in training": f"{sum(speed) / len(speed):.1f}"} if speed else {}
    facts |= {"memory at most": f"{memory:,.0f} MiB"} if memory else {}
    passes = sum(number(row.get("pairs"), 0) for row in run.rows)
    facts |= {"pair passes": counted(passes)} if passes else {}
    skipped = sum({str(row.get("phase")): number(row.get("bad_steps"), 0) for row in run.rows}.values())
    facts |= {"steps skipped": counted(skipped)} if skipped else {}
    names = {
        "parameters": "parameters that run",
        "parameters_fusion": "parameters of the fusion",
        "macs": "multiply-accumulates per pair",
    }
    facts |= {words: counted(run.results.get(name)) for name, words in names.items() if name in run.results}
    facts |= _operation_costs(run)
    return Section("Cost", [Facts(facts)] if facts else [])


def _operation_costs(run: Run) -> dict[str, str]:
    what = run.read("costs.json").get("cost")
    return (
        {"cost in the search's objective": f"{what}, weight {run.args.get('lambda_cost')} (costs.json)"} if what else {}
    )

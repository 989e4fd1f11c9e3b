"""Sections of a search: its genotype, how the logits moved, and what became of the supernet."""

from models.search.fusion_cells.choices import SPACES, level_inputs
from models.search.fusion_cells.derive import operation_counts
from models.search.fusion_cells.draw import colours_in_words, draw_level
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.layers import Features
from models.search.parameters import count_parameters
from models.search.strategies import STRATEGIES
from report import drawings
from report.page import Block, Facts, Pictures, Section, Table, Words
from report.run import Run, counted, number, points

SHOWN_GENOTYPES = 10  # of an evolution


def searcher_of(run: Run) -> str:
    """Return what the search's strategy has learned: logits, candidates or paths; nothing where none is known."""
    strategy = STRATEGIES.get(str(run.args.get("strategy")))
    return strategy.searcher if strategy else ""


def chosen(run: Run) -> dict[str, str]:
    """Return what a search's supernet, and the genotype that it ended with, have on val."""
    found, tried, on_val = run.read("discretisation.json"), briefly_trained(run), f"{run.metric} on val"
    scores = {f"{on_val}, supernet": points(run.score)} if searcher_of(run) == "gradient" else {}
    name = str(found.get("chosen"))
    if name in tried:
        return scores | {f"{on_val}, chosen, briefly trained": points(tried[name])}
    inherited = number(found.get(f"{run.metric}_val_inherited"))
    if inherited is not None and name == str(found.get("genotype")):
        return scores | {f"{on_val}, chosen, on its weights": points(inherited)}
    return scores | ({on_val: points(run.score)} if not scores else {})


def briefly_trained(run: Run) -> dict[str, float]:
    """Return the best score on val of each genotype that was trained briefly."""
    best: dict[str, float] = {}
    for row in run.rows:
        if row.get("phase") == "topk":
            name = str(row.get("genotype"))
            best[name] = max(best.get(name, 0), number(row.get(f"{run.metric}_val"), 0))
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
        {
            "id": found.id,
            "space": found.space,
            "operations": counts,
            "parameters of the fusion": counted(_size(found, run)),
        }
    )
    where = f"Inputs on the left, {colours_in_words(found.inputs)}, white: not used. A step fuses its inputs x and y."
    return Section(
        "Genotype",
        [facts, Words(where), Pictures(cells), Table(["level", "inputs and operations"], words, worded=True)],
    )


def _size(found: Genotype, run: Run) -> int:
    features = Features(SPACES[found.space].rank, found.channels, number((run.trained or run).args.get("L"), 0) or 0)
    return sum(count_parameters(FoundFusion(cell, features)) for cell in found.cells)


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
    told += "of each operation, and of each input that of its best operation. Of inputs, "
    told += f"{colours_in_words(run.genotype.inputs) if run.genotype else 'each has its colour'}. "
    told += "The strongest of a step is thick and named; dotted: the epoch that counts."
    blocks: list[Block] = [Words(told)]
    best = (run.best or {}).get("epoch", 0)
    for kind in ("ops", "edges"):
        levels = run.alphas[-1]["levels"].items()
        blocks.append(Pictures([drawings.alphas(level, kind, run.alphas, own[kind], best) for level, own in levels]))
    return Section("Logits over epochs", blocks)


def settled(run: Run) -> Section:
    """Return what became of the supernet at the end of a search: what was tried on val, and with which result."""
    found, lived = run.read("discretisation.json"), run.read_list("evolution.json")
    blocks: list[Block] = []
    if found:
        names = {f"{run.metric}_val_supernet": "supernet, as a mixture"}
        names |= {f"{run.metric}_val_inherited": f"genotype {found.get('genotype')} on the supernet's weights"}
        facts = {f"{run.metric} on val: {words}": points(found.get(name)) for name, words in names.items()}
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
        start = "supernet's weights" if run.args.get("topk_weights") == "supernet" else "search's start"
        blocks.append(Table(["genotype", f"{run.metric} on val"], rows, f"Trained briefly, each from the {start}"))
    return Section("From supernet to genotype", blocks)

"""Sections of a search: the genotype, the logits over the epochs, and the choice of the genotype."""

from models.search.fusion_cells.choices import SPACES, level_inputs
from models.search.fusion_cells.derive import operation_counts
from models.search.fusion_cells.draw import colours_in_words
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.layers import Features
from models.search.parameters import count_parameters
from models.search.parts import PARTS
from models.search.strategies import STRATEGIES
from report import drawings
from report.formatting import counted, number, points
from report.page import Block, Facts, Pictures, Section, Table, Words
from report.run import Run

MAX_GENOTYPES = 10  # of an evolution
LOGITS = """\
What derivation goes by where neither --select perturb nor --max_parameter_free decides otherwise: the share \
of each operation, and of each input that of its best operation. Of inputs, {}. \
The strongest of a step is thick and named; dotted: the epoch that counts."""


def searcher_of(run: Run) -> str:
    """Return how the search's strategy searches: gradient, random or evolution; "" if the strategy is unknown."""
    strategy = STRATEGIES.get(str(run.args.get("strategy")))
    return strategy.searcher if strategy else ""


def chosen(run: Run) -> dict[str, str]:
    """Return the metric on val of the supernet and of the chosen genotype."""
    choice, trained, on_val = run.read("discretisation.json"), briefly_trained(run), f"{run.metric} on val"
    scores = {f"{on_val}, supernet": points(run.score)} if searcher_of(run) == "gradient" else {}
    name = str(choice.get("chosen"))
    if name in trained:
        return scores | {f"{on_val}, chosen, briefly trained": points(trained[name])}
    inherited = number(choice.get(f"{run.metric}_val_inherited"))
    if inherited is not None and name == str(choice.get("genotype")):
        return scores | {f"{on_val}, chosen, on its weights": points(inherited)}
    return scores | ({on_val: points(run.score)} if not scores else {})


def briefly_trained(run: Run) -> dict[str, float]:
    """Return the best metric on val of each genotype that was trained briefly."""
    return run.best_by("genotype", (row for row in run.rows if row.get("phase") == "topk"))


def architecture(run: Run) -> Section:
    """Return the architecture: fusion cells by level, drawn and in words, and a picture of each other part."""
    if run.architecture is None:
        return Section("Genotype", [])
    blocks = _fusion(run, run.genotype) if run.genotype else []
    for part, genotype in run.architecture.parts.items():
        if part != "fusion":
            blocks.append(Words(f"{part}, genotype {genotype.id}: {genotype.words}"))
            figures = PARTS[part].figures(genotype)
            blocks.append(Pictures([drawings.picture(figure, f"Cell of the {part}") for figure in figures]))
    return Section("Genotype", blocks)


def _fusion(run: Run, genotype: Genotype) -> list[Block]:
    """Return the cell of each level as a picture and in words, and the counts of operations."""
    words = {level: cell_in_words(genotype, place) for place, level in enumerate(genotype.levels)}
    alts = [f"Cell of {level}. {cell}" for level, cell in words.items()]
    cells = [drawings.picture(figure, alt) for figure, alt in zip(PARTS["fusion"].figures(genotype), alts)]
    counts = ", ".join(f"{name} {count}" for name, count in operation_counts(genotype).most_common())
    facts = {"id": genotype.id, "space": genotype.space, "operations": counts}
    facts |= {"parameters of the fusion": counted(_size(genotype, run))}
    legend = f"Inputs on the left, {colours_in_words(genotype.inputs)}, white: not used. "
    legend += "A step fuses its inputs x and y."
    table = Table(["level", "inputs and operations"], [list(line) for line in words.items()], worded=True)
    return [Facts(facts), Words(legend), Pictures(cells), table]


def _size(genotype: Genotype, run: Run) -> int:
    length = number((run.trained or run).args.get("L"), 0) or 0
    features = Features(SPACES[genotype.space].rank, genotype.channels, length)
    return sum(count_parameters(FoundFusion(cell, features)) for cell in genotype.cells)


def cell_in_words(genotype: Genotype, place: int) -> str:
    """Return the inputs and operations of each step of a level's cell, in words."""
    cell = genotype.cells[place]
    states = [*level_inputs(genotype.inputs, place, genotype.levels)]
    states += [f"step {n}" for n in range(1, len(cell.steps) + 1)]
    steps = []
    for n, step in enumerate(cell.steps):
        pair = [states[s] if op == "skip" else f"{op} of {states[s]}" for op, s in cell.edges[2 * n : 2 * n + 2]]
        steps.append(f"step {n + 1}: {' and '.join(pair)} by {', then '.join(step.inner_steps)}")
    return f"{'; '.join(steps)}; output: {', '.join(states[s] for s in cell.concat)}"


def logits(run: Run) -> Section:
    """Return the relaxed weights of operations and inputs over the epochs."""
    if not run.alphas:
        return Section("Logits", [])
    colours = colours_in_words(run.genotype.inputs) if run.genotype else "each has its colour"
    blocks: list[Block] = [Words(LOGITS.format(colours))]
    best = (run.best or {}).get("epoch", 0)
    for kind in ("ops", "edges"):
        charts = [drawings.alphas(level, kind, run.alphas, best) for level in run.alphas[-1]["levels"]]
        blocks.append(Pictures(charts))
    return Section("Logits over epochs", blocks)


def supernet_to_genotype(run: Run) -> Section:
    """Return how the genotype was chosen at the end of a search: the candidates and their metric on val."""
    choice, population = run.read("discretisation.json"), run.read_list("evolution.json")
    blocks: list[Block] = []
    if choice:
        names = {f"{run.metric}_val_supernet": "supernet, as a mixture"}
        names |= {f"{run.metric}_val_inherited": f"genotype {choice.get('genotype')} on the supernet's weights"}
        facts = {f"{run.metric} on val: {words}": points(choice.get(name)) for name, words in names.items()}
        blocks.append(Facts(facts | {"genotype that was chosen": str(choice.get("chosen"))}))
    if population:
        head = ["rank", "loss on val", "genotype", "its steps"]
        rows = []
        for rank, entry in enumerate(population[:MAX_GENOTYPES], 1):
            loss = f"{number(entry.get('loss_val'), 0):.4f}"
            rows.append([str(rank), loss, str(entry.get("genotype")), str(entry.get("argmax"))])
        caption = f"The fittest of {len(population)} genotypes of the evolution, rated on the supernet's weights"
        blocks.append(Table(head, rows, caption, worded=True))
    if trained := briefly_trained(run):
        rows = [[name, points(value)] for name, value in trained.items()]
        start = "supernet's weights" if run.args.get("topk_weights") == "supernet" else "search's start"
        blocks.append(Table(["genotype", f"{run.metric} on val"], rows, f"Trained briefly, each from the {start}"))
    return Section("From supernet to genotype", blocks)

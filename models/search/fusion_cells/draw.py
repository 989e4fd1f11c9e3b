"""Draw a genotype: one panel per pyramid level, from the taps on the left to the level's fused map on the right.

A panel shows what the genotype decides: the taps that each step reads; inside each step the states x and y, the fusion
operations and their inner edges; and the states that are concatenated. What all nodes have in common is written at the
foot of the picture.

Only this module imports matplotlib for genotypes. It uses the object-oriented interface, without global state.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve

from models.search.fusion_cells.choices import MAPS, SPACES, level_inputs
from models.search.fusion_cells.genotype import CellGenotype, Genotype, Names, edge_pairs
from utils.errors import printable, short

# The palette of Okabe and Ito, whose colours colour-blind readers can distinguish.
WARM, COOL = "#B85000", "#0067A3"  # darker than in the palette, because white text stands on them
OPERATION_COLOURS = {"Sum": "#F0E442", "ECAAttn": "#8FD4BC", "ShuffleAttn": "#E3B5D0", "ConcatConv": "#A9D8F5"}
OPERATION_COLOURS |= {"ChannelWeights": "#F7EFA0", "ECAGate": "#B9E5D6", "SpatialAttn": "#B9E5D6", "CBAM": "#B9E5D6"}
OPERATION_COLOURS |= {"ConcatConv3x3": "#8CC6EA", "GLU": "#F3C98F", "ReliabilityGate": "#F3C98F"}
OPERATION_COLOURS |= {"ScaleDotAttn": "#B9E5D6", "LinearGLU": "#F3C98F", "ConcatFC": "#A9D8F5"}
STEP_COLOUR, INK, FAINT, MUTED, OTHER_COLOUR = "#444444", "#222222", "#BBBBBB", "#777777", "#DDDDDD"
# Almost white and INK, for text on a coloured ground: a dark page does not change them (report/drawings.py).
LIGHT_ON, DARK_ON = "#FFFFFE", "#222221"
CENTRED = {"ha": "center", "va": "center_baseline"}

# Places and sizes in a panel, in inches.
TAP_WIDTH, TAP_HEIGHT, TAP_PITCH = 1.25, 0.24, 0.32
GUTTER = 1.15  # between taps and steps; edges cross here only
LEAD, OP_WIDTH, OP_PITCH, OP_HEIGHT = 0.46, 1.15, 1.55, 0.34  # inside a step
X_LANE, OP_LANE, DETOUR_LANE, Y_LANE = 0.2, -0.06, -0.3, -0.4  # heights inside a step, from its middle
STEP_HEIGHT, STEP_PITCH = 1.1, 1.3
OUT_WIDTH, TITLE_HEIGHT, MARGIN, PAD, FOOT = 0.95, 0.36, 0.3, 0.12, 0.6
DPI = 110


def draw_genotype(genotype: Genotype, path: str | Path) -> Path:
    """Write a PNG file of every level's cell and return its path.

    Args:
        genotype: its inputs are named MODALITY/bifpnREPEAT.
        path: the picture to write; its folder must exist.
    """
    foot = f"Left: features of the frozen streams ({colours_in_words(genotype.inputs)}, white: not used).  "
    foot += "Step: bar = concat and, of several states, 1×1 conv, norm, ReLU; then + x, norm."
    return draw_panels(genotype, panels_of(genotype), foot, path)


def draw_panels(genotype: Genotype, panels: Sequence["Panel"], foot: str, path: str | Path) -> Path:
    """Write a PNG file of a panel for each level, below the genotype's id, and return its path.

    Args:
        foot: a line below the panels.
    """
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    width, height = max(p.width for p in panels) + MARGIN, max(p.height for p in panels) + MARGIN
    size = columns * width + MARGIN - 2 * PAD, rows * height - MARGIN + 2 * FOOT
    axes = _canvas(size)
    for place, (panel, level) in enumerate(zip(panels, genotype.levels, strict=True)):
        left = MARGIN + (place % columns) * width
        panel.draw(axes, level, left, size[1] - FOOT - (place // columns) * height - panel.height)
    _head_and_foot(axes, genotype, foot, size)
    axes.figure.savefig(path)
    return Path(path)


def draw_levels(genotype: Genotype, panels: Sequence["Panel"]) -> list[Figure]:
    """Return the drawing of each level's cell alone."""
    figures = []
    for level, panel in zip(genotype.levels, panels, strict=True):
        axes = _canvas((panel.width, panel.height))
        panel.draw(axes, level, PAD, 0)
        figures.append(axes.figure)
    return figures


def panels_of(genotype: Genotype) -> list["Panel"]:
    """Return the drawing of each level's cell."""
    inputs = [level_inputs(genotype.inputs, number, genotype.levels) for number in range(len(genotype.levels))]
    rank = SPACES[genotype.space].rank
    return [Panel(names, cell, rank) for names, cell in zip(inputs, genotype.cells, strict=True)]


class Panel:
    """The drawing of one level's cell. Its size is known before it is drawn."""

    def __init__(self, inputs: Names, cell: CellGenotype, rank: int):
        self.inputs, self.cell = inputs, cell
        self.output = "1×1 conv" if rank == MAPS else "norm, ReLU"
        self.num_steps = len(cell.edges) // 2
        self.step_width = LEAD + max((len(s.inner_steps) for s in cell.steps), default=1) * OP_PITCH + 0.35
        self.step_left = TAP_WIDTH + GUTTER
        self.out_left = self.step_left + self.step_width + 0.55
        self.width = self.out_left + OUT_WIDTH + 0.3
        self.bypassing = [state for state in cell.concat if state < len(inputs)]  # taps that are output directly
        self.below = 0.3 if self.bypassing else 0  # room for them below the steps
        body = max(len(inputs) * TAP_PITCH, self.num_steps * STEP_PITCH) + self.below
        self.height = body + TITLE_HEIGHT + 0.15

    def draw(self, axes: Axes, level: str, left: float, bottom: float) -> None:
        """Draw with the lower left corner at (left, bottom)."""
        self.axes, self.left, self.bottom = axes, left, bottom
        self.middle = bottom + (self.height - TITLE_HEIGHT + self.below) / 2
        draw_box(axes, left - PAD, bottom, self.width, self.height, "#F7F7F7", "#E2E2E2", zorder=0)
        title = f"{level}   (stride {2 ** int(level[1:])})" if re.fullmatch("P[0-9]{1,2}", level) else level
        draw_text(axes, left, bottom + self.height - 0.2, printable(title), 13, weight="bold")
        self._draw_taps()
        for number, pair in enumerate(edge_pairs(self.cell.edges)):
            self._draw_step(number)
            for port, (operation, state) in enumerate(pair):
                self._draw_edge(number, port, operation, state)
        self._draw_output(level)

    def _tap_y(self, tap: int) -> float:
        return self.middle + ((len(self.inputs) - 1) / 2 - tap) * TAP_PITCH

    def _step_y(self, step: int) -> float:
        return self.middle + ((self.num_steps - 1) / 2 - step) * STEP_PITCH

    def _port_y(self, step: int, port: int) -> float:
        return self._step_y(step) + (X_LANE, Y_LANE)[port]

    def _colour(self, state: int) -> str:
        """Return the colour of a state: that of its modality, or of the result of a step."""
        if state >= len(self.inputs):
            return STEP_COLOUR
        return modality_colours(self.inputs).get(self.inputs[state].partition("/")[0], INK)

    def _draw_taps(self) -> None:
        used = {state for _, state in self.cell.edges} | set(self.cell.concat)
        for tap, name in enumerate(self.inputs):
            modality, _, repeat = name.partition("/")
            colour, y = self._colour(tap), self._tap_y(tap)
            fill, edge, ink = (colour, colour, LIGHT_ON) if tap in used else ("white", FAINT, MUTED)
            draw_box(self.axes, self.left, y - TAP_HEIGHT / 2, TAP_WIDTH, TAP_HEIGHT, fill, edge)
            text = printable(f"{modality}  {repeat.replace('bifpn', 'BiFPN ')}")
            draw_text(self.axes, self.left + TAP_WIDTH / 2, y, text, 9, ink, **CENTRED)

    def _draw_edge(self, step: int, port: int, operation: str, state: int) -> None:
        """Draw an edge to a step, from a tap or from an earlier step, which it leaves on the right and passes below."""
        end = self.left + self.step_left, self._port_y(step, port)
        if state < len(self.inputs):
            start = self.left + TAP_WIDTH, self._tap_y(state)
            _curve(self.axes, start, end, self._colour(state))
        else:
            source = state - len(self.inputs)
            right, gap = self.left + self.step_left + self.step_width + 0.12, self._step_y(source) - STEP_PITCH / 2
            start, lane = (right - 0.12, self._step_y(source)), end[0] - 0.2 - 0.08 * source
            corners = [start, (right, start[1]), (right, gap), (lane, gap), (lane, end[1]), end]
            _line(self.axes, corners, STEP_COLOUR)
        if operation != "skip":
            text, box = operation.replace("_", " ").removesuffix(" 3x3"), {"fc": "white", "ec": FAINT, "pad": 1.5}
            draw_text(self.axes, end[0] - 0.22, end[1], text, 7, ha="right", bbox=box, zorder=6)

    def _draw_step(self, number: int) -> None:
        """Draw the node of a step: the states x and y, a box per inner step, and the bar that concatenates."""
        step = self.cell.steps[number]
        left, y = self.left + self.step_left, self._step_y(number)
        draw_box(self.axes, left, y - STEP_HEIGHT / 2, self.step_width, STEP_HEIGHT, "white", STEP_COLOUR, line=1.4)
        draw_text(self.axes, left + 0.1, y + 0.42, f"step {number + 1}", 8.5, weight="bold")
        ports = [(left + 0.14, self._port_y(number, port)) for port in (0, 1)]
        bar = left + self.step_width - 0.12
        first = left + LEAD + OP_WIDTH / 2
        centres = [(first + place * OP_PITCH, y + OP_LANE) for place in range(len(step.inner_steps))]
        states = ports + [(centre[0] + OP_WIDTH / 2, centre[1]) for centre in centres]
        for state in step.inner_concat:
            end = bar, states[state][1]
            self._draw_inner(states, state, end, y, FAINT if state < 2 else STEP_COLOUR, arrow=False)
        for operation, centre, pair in zip(step.inner_steps, centres, edge_pairs(step.inner_edges), strict=True):
            self._draw_operation(operation, centre)
            for (_, state), offset in zip(pair, (0.08, -0.08)):
                end = centre[0] - OP_WIDTH / 2, centre[1] + offset
                self._draw_inner(states, state, end, y, STEP_COLOUR, arrow=True)
        heights = [y + Y_LANE - 0.06, y + X_LANE + 0.06]
        self.axes.plot([bar, bar], heights, color=INK, linewidth=4, solid_capstyle="butt", zorder=4)
        for name, (x, port_y), (_, state) in zip("xy", ports, edge_pairs(self.cell.edges)[number]):
            self.axes.plot(x, port_y, "o", color=self._colour(state), markersize=11, zorder=5)
            ink = LIGHT_ON if state < len(self.inputs) else "white"
            draw_text(self.axes, x, port_y, name, 8, ink, zorder=6, **CENTRED)

    def _draw_inner(self, states: list, state: int, end: tuple, y: float, colour: str, arrow: bool) -> None:
        """Draw an inner edge: x and y follow their lanes; the result of an operation passes later ones below."""
        start, bend = states[state], 0.26
        if state >= 2 and end[0] - start[0] > OP_WIDTH:
            down, up = (start[0] + bend, y + DETOUR_LANE), (end[0] - bend, y + DETOUR_LANE)
            _curve(self.axes, start, down, colour, 1.2, arrow=False)
            _line(self.axes, [down, up], colour, 1.2)
            start = up
        elif state < 2:
            lane = max(start[0], end[0] - bend), start[1]
            _line(self.axes, [start, lane], colour, 1.2)
            start = lane
        _curve(self.axes, start, end, colour, 1.2, arrow)

    def _draw_operation(self, operation: str, centre: tuple[float, float]) -> None:
        x, y = centre
        fill = OPERATION_COLOURS.get(operation, OTHER_COLOUR)
        draw_box(self.axes, x - OP_WIDTH / 2, y - OP_HEIGHT / 2, OP_WIDTH, OP_HEIGHT, fill, INK, zorder=4)
        draw_text(self.axes, x, y, operation, 10, DARK_ON, zorder=5, **CENTRED)

    def _draw_output(self, level: str) -> None:
        """Draw the concatenation, the edges to it from steps, and those from taps, which pass below the steps."""
        x, tall = self.left + self.out_left, 0.62
        draw_box(self.axes, x, self.middle - tall / 2, OUT_WIDTH, tall, "white", INK, line=1.4)
        text = f"concat\n{self.output}\n→ {printable(level)}"
        draw_text(self.axes, x + OUT_WIDTH / 2, self.middle, text, 9, ha="center")
        for place, state in enumerate(self.cell.concat):
            y = self.middle + tall * (0.5 - (place + 1) / (len(self.cell.concat) + 1))
            if state >= len(self.inputs):
                start = self.left + self.step_left + self.step_width, self._step_y(state - len(self.inputs))
                _curve(self.axes, start, (x, y), STEP_COLOUR)
        for place, state in enumerate(self.bypassing):
            lane, down = self.bottom + 0.12 + 0.05 * place, self.left + TAP_WIDTH + 0.12 + 0.05 * place
            up = x + OUT_WIDTH / 2 + 0.12 * place
            corners = [(self.left + TAP_WIDTH, self._tap_y(state)), (down, self._tap_y(state)), (down, lane)]
            _line(self.axes, [*corners, (up, lane), (up, self.middle - tall / 2)], self._colour(state))


def modality_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colours of the first two modalities, in alphabetical order, of names MODALITY/TAP."""
    modalities = sorted({name.partition("/")[0] for name in names if "/" in name})
    return dict(zip(modalities, (COOL, WARM)))


def colours_in_words(inputs: Names) -> str:
    """Return a line that names the modality of each colour."""
    words = {WARM: "warm", COOL: "cool"}
    return ", ".join(f"{words[colour]}: {modality}" for modality, colour in modality_colours(inputs).items())


def _head_and_foot(axes: Axes, genotype: Genotype, foot: str, size: tuple[float, float]) -> None:
    facts = {"seed": genotype.meta.get("seed")}
    facts |= {f"{n.removesuffix('_val')} on val": v for n, v in genotype.meta.items() if n.endswith("_val")}
    words = [f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {short(v)}" for k, v in facts.items() if v is not None]
    text = "   ".join([f"Genotype {genotype.id}", *words])
    draw_text(axes, MARGIN - PAD, size[1] - FOOT / 2, text, 15, weight="bold")
    draw_text(axes, MARGIN - PAD, FOOT / 2, foot, 9.5)


def _canvas(size: tuple[float, float]) -> Axes:
    """Return the axes of a new figure, in inches."""
    axes = Figure(figsize=size, dpi=DPI, facecolor="white").add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(0, size[1]))
    axes.axis("off")
    return axes


def draw_text(axes, x, y, text, size, colour=INK, **style) -> None:
    """Write text, vertically centred unless the style says otherwise."""
    axes.text(x, y, text, **{"size": size, "color": colour, "va": "center", "parse_math": False} | style)


def draw_box(axes, x, y, width, height, fill, edge, line=0.8, zorder=3) -> None:
    shape = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=fill, ec=edge, lw=line, zorder=zorder))


def _curve(axes, start, end, colour, width=1.8, arrow=True) -> None:
    """Draw an edge that leaves and arrives horizontally."""
    bend = (end[0] - start[0]) * 0.5
    points = [start, (start[0] + bend, start[1]), (end[0] - bend, end[1]), end]
    codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
    _stroke(axes, Curve(points, codes), end, colour, width, arrow)


def _line(axes, corners, colour, width=1.8) -> None:
    _stroke(axes, Curve(corners), corners[-1], colour, width, arrow=False)


def _stroke(axes, curve, end, colour, width, arrow) -> None:
    axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=colour, lw=width, zorder=3.5, capstyle="round"))
    if arrow:
        head = [(end[0], end[1]), (end[0] - 0.09, end[1] + 0.045), (end[0] - 0.09, end[1] - 0.045)]
        axes.fill(*zip(*head), color=colour, zorder=3.6, linewidth=0)

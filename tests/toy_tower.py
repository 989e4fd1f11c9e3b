"""A searchable tower: per place a chain of edges, each a mixture of two operations; and its space."""

import hashlib
import json
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import nn

from models.search.relaxations import EVALUATION
from models.search.space import Choice
from utils.errors import UserError, short

OPS = ("skip", "conv")


@dataclass(frozen=True)
class ToyGenotype:
    """The operation of each edge, by place."""

    towers: tuple[tuple[str, ...], ...]
    meta: dict = field(default_factory=dict, compare=False)

    @property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(self.towers).encode()).hexdigest()[:12]

    @property
    def words(self) -> str:
        return ", ".join("/".join(ops) for ops in self.towers)

    def to_json(self) -> dict:
        towers = [list(ops) for ops in self.towers]
        return {"format": 1, "space": "toy", "id": self.id, "towers": towers, "meta": self.meta}


class ToyTower(nn.Module):
    """A supernet: a chain of mixtures on maps (B, C, H, W)."""

    def __init__(self, space: "ToySpace", channels: int):
        super().__init__()
        self.space, self.stage, self.active = space, EVALUATION, None
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(space.num_edges))
        self.alpha_edges = nn.Parameter(1e-3 * torch.randn(space.num_edges, len(OPS)))
        self.register_buffer("mask_edges", torch.zeros(space.num_edges, len(OPS)), persistent=False)

    def weights(self):
        return (self.alpha_edges + self.mask_edges).softmax(dim=-1)

    def forward(self, x):
        for n, (conv, weights) in enumerate(zip(self.convs, self.weights())):
            if self.active is None:
                x = weights[0] * x + weights[1] * conv(x)
            elif self.active[n] == "conv":
                x = conv(x)
        return x


@dataclass(frozen=True)
class ToySpace:
    """Chains of `num_edges` edges at each of the places."""

    places: tuple[str, ...] = ("box", "cls")
    num_edges: int = 2
    spaces = ("toy",)

    @property
    def num_choices(self):
        return len(self.sizes)

    @property
    def sizes(self):
        return (len(OPS),) * self.num_edges * len(self.places)

    @property
    def kinds(self):
        return ("operation",) * len(self.sizes)

    def allowed(self, prefix):
        return (True,) * len(OPS)

    def to_code(self, genotype):
        return tuple(OPS.index(op) for ops in genotype.towers for op in ops)

    def from_code(self, code):
        ops, n = [OPS[token] for token in code], self.num_edges
        return ToyGenotype(tuple(tuple(ops[n * place : n * (place + 1)]) for place in range(len(self.places))))

    def derive(self, supernets):
        return self.from_code([int(row.argmax()) for supernet in supernets.values() for row in supernet.weights()])

    def sample(self, rng):
        return self.from_code([rng.randrange(size) for size in self.sizes])

    def mutate(self, genotype, rng):
        code = list(self.to_code(genotype))
        place = rng.randrange(len(code))
        code[place] = 1 - code[place]
        return self.from_code(code)

    def top_k(self, supernets, count):
        rows = [row.log().tolist() for supernet in supernets.values() for row in supernet.weights()]
        codes = product(range(len(OPS)), repeat=len(rows))
        ranked = sorted(((sum(r[t] for r, t in zip(rows, code)), code) for code in codes), reverse=True)
        return [(score, self.from_code(code)) for score, code in ranked[:count]]

    def activate(self, supernets, genotype):
        for place, supernet in enumerate(supernets.values()):
            supernet.active = None if genotype is None else genotype.towers[place]

    def choices(self, supernets):
        edges = range(self.num_edges)
        yield [Choice(s.mask_edges, [(n, 0), (n, 1)], num_kept=1) for s in supernets.values() for n in edges]

    def cost_table(self, measure, device):
        return {place: {"edges": {"skip": 0.0, "conv": 1.0}} for place in self.places}

    def cost(self, genotype, table):
        by_place = zip(self.places, genotype.towers, strict=True)
        return sum(table[place]["edges"][op] for place, ops in by_place for op in ops)

    def expected_cost(self, supernets, table, device):
        even = len(self.sizes) / 2
        return lambda: sum(supernet.weights()[:, 1].sum() for supernet in supernets.values()) / even

    def validate(self, genotype):
        if tuple(map(len, genotype.towers)) != (self.num_edges,) * len(self.places):
            raise UserError("towers: expected another number of edges")

    def describe(self, genotype):
        counts = {f"count_{op}": sum(ops.count(op) for ops in genotype.towers) for op in OPS}
        free = {"parameter_free": counts["count_skip"]}
        return counts | free | {"genotype": genotype.id, "argmax": genotype.words}

    def describe_logits(self, supernets):
        return {"entropy": float(sum(torch.special.entr(s.weights().detach()).sum() for s in supernets.values()))}

    def named_weights(self, supernets):
        rows = {place: supernet.weights().tolist() for place, supernet in supernets.items()}
        return {
            place: {"edges": {f"edge {n}": dict(zip(OPS, row)) for n, row in enumerate(own)}, "ops": {}}
            for place, own in rows.items()
        }

    def from_json(self, data, source):
        towers = data.get("towers") if isinstance(data, dict) else None
        if not isinstance(towers, list) or not all(isinstance(t, list) and set(t) <= set(OPS) for t in towers):
            raise UserError(f"{source}: field towers: expected lists of {', '.join(OPS)}, found {short(towers)}")
        genotype = ToyGenotype(tuple(map(tuple, towers)), data.get("meta", {}))
        self.validate(genotype)
        return genotype


def draw(genotype, path):
    path.write_bytes(genotype.words.encode())
    return path


class ToyTowers(nn.Module):
    """The towers of a head: maps of the levels to those for classes and those for boxes."""

    def __init__(self, channels: int):
        super().__init__()
        space = ToySpace()
        self.box, self.cls = (ToyTower(space, channels) for _ in range(2))

    def forward(self, maps):
        return [self.cls(x) for x in maps], [self.box(x) for x in maps]

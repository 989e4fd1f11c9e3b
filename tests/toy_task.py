"""A regression on two made 1-D modalities: about the least that a task says."""

import torch
from torch import nn

from datasets.classification.examples import Example, LabelledData, cut
from engine.task import Pretraining, Stage, Task, data_module
from models.classification.fused_classifier import Encoders, FusionClassifier, SingleClassifier
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.space import fusion_space
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.strategies import STRATEGIES
from utils import checkpoint


class Encoder(nn.Sequential):
    channels, statistics = {"first": 5, "second": 5}, None

    def __init__(self):
        super().__init__(nn.Linear(2, 5), nn.Linear(5, 5), nn.Linear(5, 1))

    def taps(self, x):
        return [self[0](x), self[1](self[0](x))]


class Closeness:
    def __init__(self):
        self.answers = []

    def add(self, batch, predictions):
        for name, value, label in zip(batch["file_names"], predictions.tolist(), batch["labels"].tolist(), strict=True):
            self.answers.append({"name": name, "value": value, "error": abs(value - label)})

    def compute(self):
        return {"closeness": 1 / (1 + sum(answer["error"] for answer in self.answers))}


class Toy(Task):
    name, title, metric, logged = "toy", "Toy: a regression", "closeness", ("closeness",)

    def add_options(self, parser, section):
        parser.set_defaults(space="bmnas", C=8, checkpointdir="checkpoints/toy")

    def open_data(self, options):
        load = lambda example, modalities, seed: dict.fromkeys(modalities, torch.ones(2) * example.label[0])  # noqa: E731
        lists = {name: [Example(f"{name}{i}", {}, (i,)) for i in range(8)] for name in ("train", "dev", "test")}
        data = LabelledData("toy", [*"01234567"], False, ("left", "right"), lists, load)
        return data_module(data, cut(data, options.split_seed, paper_protocol=False), options)

    def pretraining(self, options, data):
        models = {name: SingleClassifier(name, Encoder()) for name in data.data.modalities}
        stages = [Stage(name, lambda *_, m=m: m, data.of(name), options.epochs) for name, m in models.items()]
        return Pretraining(stages, lambda done: {f"{name}.pth": m.encoder.state_dict() for name, m in done.items()})

    def build_streams(self, options, data, pretrained=True):
        encoders = {name: Encoder() for name in data.data.modalities}
        for name, encoder in encoders.items() if pretrained else ():
            checkpoint.load_state(encoder, checkpoint.load(f"{options.checkpointdir}/{name}.pth"), name)
        return Encoders(encoders, length=4, square=False)

    def spaces(self, options, streams):
        sizes = {"length": 4, "predecessors": "all", "feature_sizes": ((4,),), "pair_inputs": options.pair_inputs}
        return {"fusion": fusion_space(streams.tap_names, streams.level_names, options.C, name="bmnas", **sizes)}

    def build_supernet(self, options, data):
        streams, learning = self.build_streams(options, data), STRATEGIES[options.strategy]
        supernet = SearchableFusion(self.spaces(options, streams)["fusion"], 0.0, learning.relaxation, learning.partial)
        return FusionClassifier(streams, supernet, options.C, 1, 0.0)

    def build_network(self, options, data, streams, architecture, pretrained=True):
        features = self.spaces(options, streams)["fusion"].features
        return FusionClassifier(streams, FoundFusion(architecture.parts["fusion"].cells[0], features), 8, 1, 0.0)

    def losses(self, model, batch, ranks=None):
        return {"loss": (self.predict(model, batch) - batch["labels"].float()).square().mean()}

    def predict(self, model, batch):
        return model(batch["inputs"])[:, 0]

    make_evaluator = staticmethod(lambda data, part, full=False: Closeness())

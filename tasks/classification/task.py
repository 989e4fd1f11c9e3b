"""The classification task: one class of K by cross entropy, or any number of them by binary cross entropy.

F1 at a threshold of 0.3 and accuracy by scikit-learn, as BM-NAS reports them (2104.09379, section 4).

Shapes: B batch, K classes; batches as collated by datasets/classification/examples.py.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.data_module import DataModule
from engine.encoder_weights import WeightsFile, loaded_in_words, paths_by_modality, read_weights_files, record_of
from engine.pretrained import PRETRAINED, check_split, pretrained_with
from engine.task import Pretraining, Stage, Task
from models.classification.encoders import load_start
from models.classification.fused_classifier import Encoders, FusionClassifier, SingleClassifier
from models.search.architecture import Architecture, Reader
from models.search.fusion_cells.choices import SEQUENCES
from models.search.fusion_cells.genotype_file import FusionReader
from models.search.space import Space
from tasks.classification import build
from tasks.classification.options import F1_TYPES
from tasks.classification.presets import DataSet
from utils.args import Options
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import UserError, short
from utils.seed import seed_everything
from utils.untrusted import LIST

THRESHOLD = 0.3
BACKBONED = {"image", "rgb", "depth"}  # modalities whose network --backbone names
SIZES = ("backbone", "normalization", "C", "L", "split_seed", "paper_protocol", "small_dataset")


class Classification(Task):
    """The hooks of classification on the data set of a preset; see `Task`.

    Args:
        preset: what the data set differs by.
        f1_type: of multi-label data, the mean over classes by which an epoch is chosen, one of F1_TYPES.
    """

    from_pretraining = ("backbone", "normalization")

    def __init__(self, preset: DataSet, f1_type: str = "weighted"):
        self.preset = preset
        self.name, self.title, self.multi_label = preset.name, preset.title, preset.multi_label
        self.from_search = (*SIZES, "checkpointdir", *preset.files.values())
        self.rebuilt_from = (*SIZES, "baseline", *(["f1_type"] if preset.multi_label else []))
        self.metric = f"F1_{f1_type}" if self.multi_label else "accuracy"
        self.logged = tuple(dict.fromkeys((self.metric, "F1_weighted" if self.multi_label else "F1_macro")))
        self.fields = {
            "args.normalization": (("data", "encoder").__contains__, "data or encoder"),
            "data_set": (lambda name: name == preset.name, preset.name),
            "classes": LIST,
        }

    def with_options(self, options: Options) -> "Classification":
        return Classification(self.preset, options.f1_type)

    def check_options(self, options: Options) -> Options:
        """Freeze the encoders where their features are cached, and unless --stream_lr is given."""
        if "modality" in options and options.encoder_weights and not options.is_given("normalization"):
            return options.with_values("default", normalization="encoder")
        if options.eval_exp_dir:
            return options.with_values("run", augment=False, stream_lr=0.0)
        if options.stream_lr and options.cache_features != "off" and not options.is_given("stream_lr"):
            return options.with_values("default", stream_lr=0.0)
        return options

    def open_data(self, options: Options) -> DataModule:
        return build.open_examples(self.preset, options)

    def complete(self, options: Options, data: DataModule) -> Options:
        """Add the number of classes and the name of the data set."""
        if "modality" in options and min(options.batchsize, len(data.records("train"))) < 2:
            raise UserError("--batchsize: expected at least 2 examples, which batch norm needs, found 1")
        return options.with_values("data", num_classes=len(data.data.classes), dataset=data.data.name)

    def facts(self, data: DataModule, section: str) -> dict[str, Any]:
        return {"data_set": self.name} | ({"classes": data.data.classes} if section == "found" else {})

    def next_options(self, options: Options, section: str) -> dict[str, Any]:
        files = self.preset.files.values() if section != "found" else ()
        return {name: options[name] for name in files if options.is_typed(name)}

    def check_pretrained(self, options: Options, data: DataModule) -> str:
        path, record = Path(options.checkpointdir) / PRETRAINED, pretrained_with(options.checkpointdir)
        if record.get("classes", data.data.classes) != data.data.classes:
            found = short(json.dumps(record["classes"]))
            raise UserError(f"{path}: classes: expected those of the data, {len(data.data.classes)}, found {found}")
        allowed = options.allow_split_mismatch
        return check_split(path.parent, data.split, data.data.modalities, unit=data.unit, allow_mismatch=allowed)

    def check_trained(self, options: Options, state: dict, source: str) -> None:
        if options.baseline not in (None, "sum", "concat", *self.preset.files):
            raise UserError(f"{source}: args.baseline: expected one of {self.name}, found {short(options.baseline)}")

    def check_data(self, options: Options, data: DataModule, state: dict, source: str) -> None:
        if state["classes"] != data.data.classes:
            raise UserError(f"{source}: classes: expected those of the data, found {short(state['classes'])}")
        if not data.records(options.eval_part):
            raise UserError(f"{options.data}: {options.eval_part} list: expected examples, found none")

    def build_streams(self, options: Options, data: DataModule, pretrained: bool = True) -> Encoders:
        return build.build_streams(self.preset, options, data.data, pretrained)

    def spaces(self, options: Options, streams: Encoders) -> dict[str, Space]:
        return {"fusion": build.make_space(options, streams)}

    def readers(self, options: Options, streams: Encoders) -> dict[str, Reader]:
        return {"fusion": FusionReader(streams.tap_names, streams.level_names, options.C, rank=SEQUENCES)}

    def build_supernet(self, options: Options, data: DataModule) -> FusionClassifier:
        return build.supernet(options, self.build_streams(options, data))

    def build_network(
        self,
        options: Options,
        data: DataModule,
        streams: Encoders,
        architecture: Architecture | None,
        pretrained: bool = True,
    ) -> FusionClassifier:
        return build.found_classifier(options, streams, architecture)

    def brackets(self, model: FusionClassifier) -> dict[str, nn.Module]:
        return {"encoders": model.streams, "reshape": model.reshape, "fusion": model.fusions, "classifier": model.head}

    def pretraining(self, options: Options, data: DataModule) -> Pretraining:
        """Return a stage per encoder, each trained as a classifier by itself, on the train list."""
        pictures = [m for m in data.data.modalities if m in BACKBONED]
        kept = self.kept_encoders(options, data, pictures)
        weights = read_weights_files(options.encoder_weights, data.data.modalities, pictures)

        def classifier(modality: str, models: dict, log: Callable[[str], None]) -> SingleClassifier:
            seed_everything(options.seed)  # so that a modality trained alone equals one of both
            file = weights.get(modality)
            imagenet = not (options.no_imagenet or file)
            encoder = build.build_encoder(self.preset, options, data.data, modality, imagenet)
            if file:
                source = f"--encoder_weights {file.path} (--backbone {options.backbone})"
                log(loaded_in_words(modality, file, load_start(encoder, file.state, source, modality)))
            network = SingleClassifier(modality, encoder)
            if modality in kept:
                network.keep_encoder(trainable=not options.freeze_encoder)
            return network

        def stage(modality: str) -> Stage:
            features = "vector" if modality in kept and options.freeze_encoder else ""
            network = partial(classifier, modality)
            return Stage(modality, network, data.of(modality), options.epochs, features=features)

        return Pretraining(
            [stage(modality) for modality in data.data.modalities],
            modalities=tuple(self.preset.files),
            files=lambda models: {
                build.encoder_file(self.preset, options, m).name: model.get_submodule("encoder").state_dict()
                for m, model in models.items()
            },
            facts=lambda: self.recorded_facts(options, data) | self.recorded_start(options, data, weights),
            check=lambda: self.check_others(options, data),
            next_command=lambda files: (
                f"main_darts_searchable_{self.name}.py",
                self.next_options(options, "pretrain"),
            ),
        )

    def kept_encoders(self, options: Options, data: DataModule, pictures: list[str]) -> set[str]:
        """Return the modalities whose encoder keeps the statistics of its norms, and maybe its parameters.

        Those of pictures are kept, and others that start from a file.

        Raises:
            UserError: there is none, or one of pictures would start from random weights.
        """
        name = "freeze_encoder" if options.freeze_encoder else "encoder_lr"
        if not options.freeze_encoder and options.encoder_lr is None:
            return set()
        files = paths_by_modality(options.encoder_weights or (), data.data.modalities, pictures)
        if not (kept := {*pictures, *files}):
            expected = f"expected one of the encoders of {', '.join(sorted(BACKBONED & set(self.preset.files)))}"
            raise UserError(f"--{name}: {expected}, found --modality {options.modality}, which has no start weights")
        random = [modality for modality in pictures if modality not in files]
        if random and (options.no_imagenet or not self.preset.imagenet):
            found = "--no-imagenet" if self.preset.imagenet else f"none for the encoders of {self.name}"
            expected = f"expected start weights of {', '.join(random)} (--encoder_weights or ImageNet's)"
            raise UserError(f"--{name}: {expected}, found {found}")
        return kept

    def recorded_facts(self, options: Options, data: DataModule) -> dict[str, Any]:
        """Return what pretrain.json records: the backbone of those encoders that --backbone names, and the classes."""
        earlier = pretrained_with(options.checkpointdir).get("backbone", options.backbone)
        backbone = options.backbone if BACKBONED & set(data.data.modalities) else earlier
        return {"backbone": backbone, "classes": data.data.classes}

    def recorded_start(self, options: Options, data: DataModule, weights: dict[str, WeightsFile]) -> dict[str, Any]:
        """Return what pretrain.json records of the start weights and the normalization that belongs to them."""
        record = record_of(options.checkpointdir, data.data.modalities, weights)
        if BACKBONED & set(data.data.modalities):
            chosen = options.normalization
        else:
            chosen = pretrained_with(options.checkpointdir).get("normalization", "data")
        return record | ({} if chosen == "data" else {"normalization": chosen})

    def check_others(self, options: Options, data: DataModule) -> None:
        """Refuse another backbone, or other classes, than those of the encoders that stay in checkpointdir."""
        record, path = pretrained_with(options.checkpointdir), Path(options.checkpointdir) / PRETRAINED
        others = sorted(set(record.get("splits", {})) - set(data.data.modalities))
        values = {"classes": data.data.classes}
        if BACKBONED & set(others) and BACKBONED & set(data.data.modalities):
            values["backbone"] = options.backbone
        for name, value in values.items():
            if others and record.get(name) != value:
                expected = f"{short(record.get(name))} as for {', '.join(others)} in {path}"
                raise UserError(f"{name}: expected {expected}, found {short(value)}; name another --checkpointdir")

    def losses(self, model: nn.Module, batch: dict, ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Return "loss" of a batch, the mean over examples (and classes), or of this rank's share of one."""
        scores = model(batch["inputs"])
        measure = F.binary_cross_entropy_with_logits if self.multi_label else F.cross_entropy
        loss = measure(scores.float(), batch["labels"])
        return {"loss": loss if ranks.count == 1 else loss * len(scores) * ranks.count / batch["size"]}

    def predict(self, model: nn.Module, batch: dict) -> Tensor:
        """Return the probability of each class (B, K)."""
        scores = model(batch["inputs"]).float()
        return scores.sigmoid() if self.multi_label else scores.softmax(dim=1)

    def make_evaluator(self, data: DataModule, part: str, full: bool = False) -> "ClassEvaluator":
        """Return the evaluator of a part; `full`: F1 of each class also."""
        return ClassEvaluator(self, data.data.classes, full)


class ClassEvaluator:
    """Collects probabilities and labels; scores what was added."""

    def __init__(self, task: Classification, classes: list[str], full: bool):
        self.multi_label, self.metric, self.classes, self.full = task.multi_label, task.metric, classes, full
        self.probabilities: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.answers: list[dict] = []

    def add(self, batch: dict, predictions: Tensor) -> None:
        self.probabilities.append(predictions.cpu())
        self.labels.append(batch["labels"].cpu())
        for name, row in zip(batch["file_names"], predictions.tolist(), strict=True):
            self.answers.append({"name": name, "probabilities": [round(p, 5) for p in row]})

    def compute(self) -> dict[str, float | None]:
        """Return accuracy or F1 of each type, 0..1, the task's metric first; None where there are no examples."""
        if not self.labels:
            names = [f"F1_{kind}" for kind in F1_TYPES] if self.multi_label else ["accuracy", "F1_macro"]
            return dict.fromkeys([self.metric, *names])
        from sklearn.metrics import accuracy_score, f1_score  # takes its time to import

        probabilities, labels = torch.cat(self.probabilities), torch.cat(self.labels)
        found = probabilities > THRESHOLD if self.multi_label else probabilities.argmax(dim=1)
        metrics: dict[str, float | None]
        f1 = partial(f1_score, labels.numpy(), found.numpy(), zero_division=0)
        if self.multi_label:
            metrics = {f"F1_{kind}": float(f1(average=kind)) for kind in F1_TYPES}
            metrics = {self.metric: metrics[self.metric]} | metrics
            present = labels.any(dim=0)
        else:
            metrics = {"accuracy": float(accuracy_score(labels, found)), "F1_macro": float(f1(average="macro"))}
            present = labels.bincount(minlength=len(self.classes)) > 0
        if self.full:  # F1 of each class; None of one that no example has
            scores = f1(labels=list(range(len(self.classes))), average=None).tolist()
            metrics |= {f"F1_class_{name}": scores[n] if present[n] else None for n, name in enumerate(self.classes)}
        return metrics

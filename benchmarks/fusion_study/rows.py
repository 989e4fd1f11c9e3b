"""Rows of a fusion study: those that exist, those that are missing, and the row of a finished command.

- results/fusion_study.csv: a row per method and seed
- results/fusion_ranking.csv: a row per random genotype that was trained twice
- results/fusion_rating.csv: a row per rating of such a genotype by a supernet
- results/fusion_failure.csv: a row per training that was tested with one sensor black

A row is identified by dataset, scenes, config, config_hash, seed and method (or number, and kind of rating).
config_hash covers everything that the row depends on: sizes, the sections of the config that its commands read, and its
options.
"""

import json
from pathlib import Path

from benchmarks.fusion_study.config import Method, Study, content_hash
from benchmarks.fusion_study.jobs import AGAIN, BLACK, RATE, Wanted, failing_slug, ratings_file
from benchmarks.rows import append_row, read_rows, same
from datasets.scenes import scenes_hash
from datasets.scenes.scene import conditions
from tools.demo.jobs import searched_in, tested_in, trained_in
from tools.demo.options import Options
from tools.demo.summary import row
from tools.demo.tasks import BOX_FUSIONS, SCENE
from tools.jobs import Finished
from utils.run_folder import read_json
from utils.subprocesses import named
from utils.untrusted import read_yaml

STUDY, RANKING, RATING, FAILURE = "fusion_study", "fusion_ranking", "fusion_rating", "fusion_failure"
RATINGS = ("weights", "brief")
SUPERNET = ("AP_val_supernet", "AP_val_inherited")  # keys of discretisation.json
SCENES = tuple(sorted({*conditions(), "day", "night"}))


def key_columns(study: Study, data: str | None, options: object, searches: bool) -> dict[str, object]:
    """Return the columns that identify the data of a row, and its config_hash.

    Args:
        study: the study.
        data: folder of the pairs; None if scenes are rendered.
        options: the options of the row, plain values.
        searches: whether the row depends on a search.
    """
    config = read_yaml(study.commands, f"--config {study.commands}") or {}
    unread = () if searches else ("search",)
    config = {name: value for name, value in config.items() if name not in unread}
    sections = [config, study.sizes, options]
    place = {"dataset": Path(data).resolve().name if data else "road_scenes", "scenes": "" if data else scenes_hash()}
    return place | {"config": study.name, "config_hash": content_hash(sections)} | study.sizes


def method_key(study: Study, data: str | None, method: Method) -> dict[str, object]:
    """Return the columns that identify the rows of a method, without the seed."""
    options = [list(method.search) if method.search is not None else None, list(method.train)]
    return key_columns(study, data, options, method.search is not None) | {"method": method.name}


def ranking_key(study: Study, data: str | None) -> dict[str, object]:
    """Return the columns that identify the rows of genotypes trained twice, without seed and number."""
    options = [list(study.kendall.genotypes[0].train[2:]), study.kendall.second_training_seed]
    return key_columns(study, data, options, False)


def rating_key(study: Study, data: str | None, rating: str) -> dict[str, object]:
    """Return the columns that identify the rows of a kind of rating, without seed and number."""
    epochs = study.kendall.brief_epochs if rating == "brief" else 0
    return key_columns(study, data, [list(study.kendall.search), epochs], True) | {"rating": rating}


def failing_key(study: Study, data: str | None, method: Method, dropout: float) -> dict[str, object]:
    """Return the columns that identify the row of a method with one sensor black."""
    of_method = method_key(study, data, method)
    return of_method | {"config_hash": content_hash([of_method["config_hash"], dropout]), "modality_dropout": dropout}


def chosen(method: Method, only: tuple[str, ...]) -> bool:
    """Return whether these names include a method, its group or its kind; without names all methods are chosen."""
    return not only or bool({method.name, method.group, method.kind} & set(only))


def missing(study: Study, data: str | None, seed: int, only: tuple[str, ...] = ()) -> Wanted:
    """Return what has no row yet at a seed. `only`: names as for `chosen`, or kendall, sensor_failure."""
    rows, methods, ranked, scored, failing = read_rows(STUDY), [], [], False, []
    for method in study.methods:
        columns = method_key(study, data, method) | {"seed": seed}
        wanted = chosen(method, only) and seed in method.seeds
        if wanted and not any(same(found, columns) for found in rows):
            methods.append(method)
    if study.kendall and seed in study.kendall.seeds and (not only or "kendall" in only):
        columns, rows = ranking_key(study, data) | {"seed": seed}, read_rows(RANKING)
        for number, method in enumerate(study.kendall.genotypes):
            if not any(same(found, columns | {"number": number}) for found in rows):
                ranked.append(method)
        last, rows = {"seed": seed, "number": len(study.kendall.genotypes) - 1}, read_rows(RATING)
        scored = any(not any(same(found, rating_key(study, data, r) | last) for found in rows) for r in RATINGS)
    if study.failing and seed in study.failing.seeds and (not only or "sensor_failure" in only):
        rows = read_rows(FAILURE)
        for method, dropout in ((m, p) for m in study.failing.methods for p in (0.0, study.failing.dropout)):
            columns = failing_key(study, data, method, dropout) | {"seed": seed}
            if not any(same(found, columns) for found in rows):
                failing.append((method, dropout))
    return Wanted(tuple(methods), tuple(ranked), scored, tuple(failing))


def append_finished(study: Study, wanted: Wanted, options: Options, name: str, done: Finished) -> None:
    """Append the rows that are complete now that a job has finished, unless another process has appended them."""
    for method in wanted.methods:
        if name == f"test_{method.slug}":
            columns = method_key(study, options.data, method) | {"kind": method.kind, "seed": options.seed}
            append_row(STUDY, {"train_seed": options.seed} | measured(study, method, done), key=columns)
    for method in wanted.ranked:
        names = (f"test_{method.slug}", f"test_{method.slug}{AGAIN}")
        if name in names and all(job in done for job in names):
            columns = ranking_key(study, options.data) | {"seed": options.seed}
            number = {"number": study.kendall.genotypes.index(method)}
            append_row(RANKING, ranked(study, method, done), STUDY, columns | number)
    if wanted.scored and name == RATE:
        append_ratings(study, options)
    for method, dropout in wanted.failing:
        if name == f"{BLACK}_{failing_slug(method, dropout)}":
            columns = failing_key(study, options.data, method, dropout) | {"seed": options.seed}
            append_row(FAILURE, failed(failing_slug(method, dropout), done), STUDY, columns)


def failed(slug: str, done: Finished) -> dict[str, object]:
    """Return AP of a trained method: clean, and with each sensor black."""
    tested = Path(named(done[f"{BLACK}_{slug}"].text, "results")).parent
    by_sensor = {row["sensor"]: row["AP"] for row in read_json(tested / "robustness.json")["rows"]}
    names = {"AP": "none", "AP_thermal_black": "thermal", "AP_rgb_black": "rgb"}
    return {name: round(by_sensor[sensor], 6) for name, sensor in names.items()} | {"run": trained_in(done, slug)}


def measured(study: Study, method: Method, done: Finished) -> dict[str, object]:
    """Return the numbers of a tested method. `seconds`: training and test; of box fusion with both trainings."""
    search = study.search_name(method.search) if method.kind == "searched" else ""
    found, results = row(method.slug, done, search), read_json(tested_in(done, method.slug) / "results.json")
    if method.name in BOX_FUSIONS:
        on_val = Path(named(done[f"val_{method.slug}"].text, "results"))
        found["AP_val"] = read_json(on_val)["AP"]
    columns = {"genotype": _genotype(Path(found["run"]))}
    columns |= {name: found.get(name) for name in ("AP_val", "AP", "AP50", "LAMR_person")}
    columns |= {f"{SCENE}{scene}": results.get(f"{SCENE}{scene}") for scene in SCENES}
    columns |= _discretisation(Path(searched_in(done, search))) if search else dict.fromkeys(SUPERNET)
    columns |= {"params": found["params"], "macs": results.get("macs")}
    columns |= {"search_pair_passes": found.get("search_pair_passes", 0), "train_pair_passes": found["pair_passes"]}
    seconds = found.get("search_seconds", 0)
    columns |= {"search_seconds": seconds, "seconds": round(found["seconds"] - seconds, 1), "run": found["run"]}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in columns.items()}


def append_ratings(study: Study, options: Options) -> None:
    """Append a row per genotype and kind of rating, unless it exists."""
    for rating in RATINGS:
        columns = rating_key(study, options.data, rating) | {"seed": options.seed}
        for entry in json.loads(ratings_file(options).read_text(encoding="utf-8")):
            facts = {"genotype": entry["genotype"], "score": round(entry[rating], 6)}
            append_row(RATING, facts, STUDY, columns | {"number": entry["number"]})


def ranked(study: Study, method: Method, done: Finished) -> dict[str, object]:
    """Return the AP of both trainings of a genotype."""
    first, second = (read_json(tested_in(done, method.slug + end) / "results.json") for end in ("", AGAIN))
    facts = {"genotype": _genotype(Path(trained_in(done, method.slug)))}
    scores = {f"{name}_{i}": round(r[name], 6) for name in ("AP", "AP_val") for i, r in ((1, first), (2, second))}
    return facts | scores | {"second_seed": study.kendall.second_training_seed}


def _genotype(run: Path) -> str:
    """Return the id of the genotype that a run trained; "" if it trained none."""
    return read_json(run / "genotype.json")["id"] if (run / "genotype.json").exists() else ""


def _discretisation(run: Path) -> dict[str, float | None]:
    """Return AP on val of a search's supernet, and of its genotype on the supernet's weights."""
    file = run / "discretisation.json"
    content = read_json(file, default={})
    return {name: content.get(name) for name in SUPERNET}

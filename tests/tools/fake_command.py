"""Stands in for every command of the demo and of the fusion study, within 0.1 s.

Checks what it is given, and writes what the real one would.

    fake_command.py SCRIPT OPTIONS...

FAKE_SCENES is the data set that "rendering" copies, FAKE_GENOTYPE the file that a search finds, FAKE_BREAK the --save
name of a run that fails, FAKE_SHORT that of a training that stops an epoch early.
"""

import json
import os
import shutil
import sys
from pathlib import Path

AP = {"thermal": 0.2, "rgb": 0.25, "sum": 0.3, "concat_conv": 0.28, "searched": 0.33, "box_nms": 0.31, "random": 0.9}
PARAMETERS = {"thermal": 100, "rgb": 100, "box_nms": 200}


def main(script: str, argv: list[str]) -> None:
    options = options_of(argv[1:]) if script.startswith(("main_", "benchmarks.")) else {}
    with open("commands.txt", "a") as file:
        file.write(" ".join([script, *argv]) + "\n")
    print("threads:", os.environ["OMP_NUM_THREADS"])
    if os.environ.get("FAKE_BREAK") == options.get("--save", "render"):
        sys.exit("error: broken on purpose")
    if script == "datasets.road_scenes":
        shutil.copytree(os.environ["FAKE_SCENES"], argv[0])
        return
    assert Path(argv[0]).is_dir()
    if script == "benchmarks.fusion_study.rate_genotypes":
        numbers = range(int(options["--genotypes"]))
        assert options["--epochs"] == "2"
        scores = [{"number": n, "genotype": f"drawn{n}", "weights": -1 - 0.1 * n, "brief": 0.1 * n} for n in numbers]
        Path(options["--out"]).write_text(json.dumps(scores))
    elif script == "main_pretrain_flira.py":
        folder = Path(options["--checkpointdir"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / options["--modality"]).touch()
        print(f"checkpointdir: {folder}")
    elif "--eval_exp_dir" in options:
        test(argv[0], options)
    else:
        learn(script, options)


def options_of(argv: list[str]) -> dict[str, str]:
    """Return options with their values; "" of a switch."""
    following = [*argv[1:], "--"]
    return {a: "" if b.startswith("--") else b for a, b in zip(argv, following) if a.startswith("--")}


def learn(script: str, options: dict[str, str]) -> None:
    assert {p.name for p in Path(options["--checkpointdir"]).iterdir()} >= {"thermal", "rgb"}
    for name in ("--search_exp_dir", "--match_parameters"):
        assert name not in options or (Path(options[name]) / "genotype.json").exists()
    kind, key = ("search", "search_exp_dir") if "searchable" in script else ("found", "eval_exp_dir")
    epochs = 2 - (os.environ.get("FAKE_SHORT") == options["--save"])
    rows = [{"epoch": i, "train_loss": 1.0, "AP_val": 0.1} for i in range(epochs)]
    entropies = {"entropy_ops": 1.0, "entropy_edges": 0.5, "entropy_inner_edges": 0.5} if kind == "search" else {}
    rows = [row | entropies for row in rows]
    run = folder(kind, options)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "split.json").write_text(json.dumps({"parts": {"train": ["a"] * 5, "arch": ["b"] * 4, "val": ["c"]}}))
    if kind == "search":
        shutil.copy(os.environ["FAKE_GENOTYPE"], run / "genotype.json")
        (run / "discretisation.json").write_text(json.dumps({"AP_val_supernet": 0.21, "AP_val_inherited": 0.19}))
    if "--random_genotype" in options:
        (run / "genotype.json").write_text(json.dumps({"id": f"drawn{options['--random_genotype']}"}))
    print(f"{key}: {run}")


def test(data: str, options: dict[str, str]) -> None:
    assert all((Path(options[n]) / "metrics.jsonl").exists() for n in options if n.endswith("exp_dir"))
    (truth,) = Path(data).glob("images_thermal_val/flir.json")
    items = json.loads(truth.read_text())["annotations"][: len(options["--save"])]
    found = [{k: item[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9} for item in items]
    run, method = folder("test", options), options["--save"]
    results = {"AP": AP.get(method, 0.1), "AP50": AP.get(method, 0.1) + 0.2, "AP_val": 0.3, "LAMR_person": 0.5}
    results |= {"AP_scene_day": 0.4, "AP_scene_night": None, "parameters": PARAMETERS.get(method, 300)}
    (run / "results.json").write_text(json.dumps(results))
    (run / "detections.json").write_text(json.dumps(found))
    if options.get("--robustness") == "black":
        rows = [{"sensor": s, "AP": ap} for s, ap in {"none": 0.3, "thermal": 0.1, "rgb": 0.2}.items()]
        (run / "robustness.json").write_text(json.dumps({"rows": rows}))
    print(f"results: {run}/results.json")


def folder(kind: str, options: dict[str, str]) -> Path:
    run = Path(f"runs/{kind}-{options['--save']}-{os.getpid()}-{len(list(Path().glob('runs/*')))}")
    run.mkdir(parents=True)
    return run


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

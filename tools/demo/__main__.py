"""The whole job on synthetic road scenes in minutes: render, pretrain, search, train, test, compare, draw.

    python -m tools.demo        (`make demo`)

Each step is a command that works alone; its output is OUT/logs/NAME.log. OUT gets summary.json, table.txt, table.md,
genotype.png, curves.png and detections.png; the runs are in runs/, as always. What a summary holds: summary.py.
"""

import contextlib
import hashlib
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from datasets.detection.opening import open_data_set
from datasets.road_scenes import check_width, scenes_hash
from tools.demo.jobs import cache_folder, demo_jobs, environment_for, methods_needed
from tools.demo.options import CORES, Options, parse
from tools.demo.pictures import draw_pictures
from tools.demo.summary import in_words, markdown_tables, summarize, text_tables
from tools.jobs import JobFailed, run_jobs
from tools.out_folder import prepare
from utils.args import command
from utils.errors import UserError
from utils.run_folder import commit, write_json

NEXT = """\
Your own data: FLIR-Aligned in any layout, or a YAML file that describes your set (--dataset, docs/own_data.md):
  python -m tools.check_data DIR
  python main_pretrain_flira.py DIR --modality both --config configs/laptop.yaml
  python main_darts_searchable_flira.py DIR --config configs/laptop.yaml
  python main_darts_found_flira.py DIR --config configs/laptop.yaml --search_exp_dir=<dir of search exp>"""


@command
def main(argv: list[str]) -> None:
    with exit_codes():
        run_demo(parse(argv))
    print(f"\n{NEXT}")


@contextlib.contextmanager
def exit_codes():
    """Leave with the code of a command that failed, or 130 when interrupted or terminated, saying what happened."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the commands are stopped then, too
    try:
        yield
    except JobFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        raise SystemExit(failure.code if failure.code > 0 else 1) from None
    except KeyboardInterrupt:
        print("stopped, and all commands with it", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def run_demo(options: Options, resume: bool = False) -> dict:
    """Run everything, write OUT, and return the summary.

    Args:
        resume: go on with what an earlier call with `resume` has finished in OUT, if options, code and config are the
            same (methods aside); else, as without, OUT is renamed and all is done anew.

    Raises:
        UserError: an option or file is wrong.
        JobFailed: a command failed; the others were stopped.
    """
    started, out = time.perf_counter(), Path(options.out)
    check_data(options)
    resume = prepare(out, stamp_of(options), resume, () if options.data else ("logs/render.json",))
    jobs = demo_jobs(options)
    print(f"{len(jobs)} commands, {options.slots} side by side on {CORES} cores; logs in {out}/logs", flush=True)
    try:
        done = run_jobs(jobs, options.slots, out / "logs", environment_for(options.slots, CORES), resume, say)
    finally:
        shutil.rmtree(cache_folder(options), ignore_errors=True)  # gigabytes that nobody needs any more
    data = open_data_set(options.data or out / "scenes")
    summary = summarize(options.methods, done, data.info["test"].get("hash"), options.seed)
    write_summary(out, summary, started)
    draw_pictures(out, data, summary, done, methods_needed(options.methods))
    write_summary(out, summary, started)
    print(f"\n{text_tables(summary)}\n{in_words(summary)}")
    print(f"{summary['wall_s']:.0f} s on {summary['device']}; table and pictures: {out}/")
    return summary


def say(line: str) -> None:
    print(line, flush=True)


def write_summary(out: Path, summary: dict, started: float) -> None:
    """Write summary.json and the tables, with the time until now."""
    summary["wall_s"] = round(time.perf_counter() - started, 1)
    write_json(out / "summary.json", summary)
    (out / "table.txt").write_text(f"{text_tables(summary)}\n{in_words(summary)}\n", encoding="utf-8")
    (out / "table.md").write_text(f"{markdown_tables(summary)}\n{in_words(summary)}\n", encoding="utf-8")


def check_data(options: Options) -> None:
    """Refuse, before anything is moved aside, data that is not there or would be moved, and scenes that cannot be."""
    if options.data:
        data, out = Path(options.data).resolve(), Path(options.out).resolve()
        if not data.is_dir():
            raise UserError(f"--data {options.data}: no such data folder")
        if out in (data, *data.parents):
            raise UserError(
                f"--data {options.data}: expected a folder outside of --out {options.out}, which is renamed"
            )
    check_width(options.width)


def stamp_of(options: Options) -> dict:
    """Return what the results depend on, methods aside."""
    facts = {k: v for k, v in asdict(options).items() if k not in ("methods", "slots")}
    return facts | {"commit": commit(), "renderer": scenes_hash(), "config_hash": config_hash(options.config)}


def config_hash(path: str) -> str:
    """Name the content of a config by 8 hex digits."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]
    except OSError as error:
        raise UserError(f"--config {path}: expected a readable YAML file, found: {error}") from None


if __name__ == "__main__":
    sys.exit(main())

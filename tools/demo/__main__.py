"""The whole job on generated data in minutes: generate, pretrain, search, train, test, compare, draw.

    python -m tools.demo                    (`make demo`: RGB-thermal detection on synthetic road scenes)
    python -m tools.demo --task mmimdb      (`make demo-mmimdb`: genres of made-up films, whose poster and plot each
                                            name half)
    python -m tools.demo --task fad         (`make demo-fad`: head towers, on the thermal pictures of road scenes)

Each step is a separate command; its output is OUT/logs/NAME.log. OUT gets summary.json (summary.py), table.txt,
table.md, genotype.png, curves.png and, for detection, detections.png. The runs are in runs/.
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
from tools.demo.jobs import cache_folder, data_folder, demo_jobs, environment_for
from tools.demo.options import CORES, Options, parse
from tools.demo.pictures import draw_pictures
from tools.demo.summary import aligned, in_words, markdown, summarize, tables
from tools.jobs import JobFailed, Queue
from tools.out_folder import prepare
from utils.args import command
from utils.errors import UserError
from utils.run_folder import commit, write_json

DETECTION = ("flira", "fad")


@command
def main(argv: list[str]) -> None:
    options = parse(argv)
    with exit_codes():
        run_demo(options)
    if options.demo.next:
        print(f"\n{options.demo.next}")


@contextlib.contextmanager
def exit_codes():
    """Exit with the code of a command that failed, or with 130 when interrupted or terminated, after a message."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the commands are stopped as well
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
        options: what to run.
        resume: reuse what an earlier call with `resume` has finished in OUT, if options, code and config are the same
            (methods may differ). Otherwise OUT is renamed and everything runs again.

    Raises:
        UserError: an option or a file is wrong.
        JobFailed: a command failed; the others were stopped.
    """
    started, out = time.perf_counter(), Path(options.out)
    check_data(options)
    jobs = demo_jobs(options)
    resume = prepare(out, stamp_of(options), resume)
    print(f"{len(jobs)} commands, {options.slots} side by side on {CORES} cores; logs in {out}/logs", flush=True)
    try:
        done = Queue(jobs, options.slots, out / "logs", environment_for(options.slots, CORES), resume, say).run()
    finally:
        shutil.rmtree(cache_folder(options), ignore_errors=True)  # gigabytes that are of no further use
    pairs = open_data_set(data_folder(options)) if options.task in DETECTION else None
    summary = summarize(options, done, pairs.info["test"].get("hash") if pairs else None)
    write_summary(options, summary, started)
    draw_pictures(options, pairs, summary, done)
    text = write_summary(options, summary, started)
    print(f"\n{text}", end="")
    print(f"{summary['wall_s']:.0f} s on {summary['device']}; table and pictures: {out}/")
    return summary


def say(line: str) -> None:
    print(line, flush=True)


def write_summary(options: Options, summary: dict, started: float) -> str:
    """Write summary.json and the tables, with the seconds since the start; returns the tables as text."""
    out, found = Path(options.out), tables(summary, options.demo)
    summary["wall_s"] = round(time.perf_counter() - started, 1)
    write_json(out / "summary.json", summary)
    text = "\n\n".join([*map(aligned, found), in_words(summary)]) + "\n"
    (out / "table.txt").write_text(text, encoding="utf-8")
    (out / "table.md").write_text("\n".join([*map(markdown, found), in_words(summary)]) + "\n", encoding="utf-8")
    return text


def check_data(options: Options) -> None:
    """Check the data folder and the width of scenes before anything is moved aside."""
    if options.data:
        data, out = Path(options.data).resolve(), Path(options.out).resolve()
        if not data.is_dir():
            raise UserError(f"--data {options.data}: no such data folder")
        if out in (data, *data.parents):
            outside = f"outside of --out {options.out}, which is renamed"
            raise UserError(f"--data {options.data}: expected a folder {outside}")
    if "width" in options.sizes:
        check_width(options.sizes["width"])


def stamp_of(options: Options) -> dict:
    """Return what the results depend on, except for the methods."""
    facts = {k: v for k, v in asdict(options).items() if k not in ("methods", "slots")}
    return facts | {"commit": commit(), "renderer": scenes_hash(), "config_hash": config_hash(options.config)}


def config_hash(path: str) -> str:
    """Name the content of a config by 8 hex digits."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]
    except OSError as error:
        raise UserError(f"--config {path}: expected a readable YAML file, found: {error}") from None


if __name__ == "__main__":
    raise SystemExit(main())

"""Compares single sensors, hand-made fusions, random and searched networks on the same pairs, over several seeds.

    python -m benchmarks.fusion_study --config configs/study.yaml [--seeds 11 12] [--methods NAME|KIND ...] [--list]

Seed S renders its own scenes and trains with seed S, in runs/fusion_study-CONFIG-S. A row is appended as soon as its
test has finished, and no row is measured twice. A seed that was stopped is resumed after the commands that finished. A
command that fails stops only the commands that need it. Methods are chosen by AP_val and reported by AP. Rows:
results/fusion_*.csv. Summary of the rows: python -m benchmarks.fusion_study.report.

The same command line may run several times at once in one clone: in terminals, as tasks of a SLURM array on a shared
file system, or by torchrun. Each process runs commands that no other process runs; the commands of a process that was
killed run again.
"""

import argparse
from pathlib import Path

from benchmarks.fusion_study.config import KINDS, Study, content_hash, read_study
from benchmarks.fusion_study.jobs import Wanted, study_jobs
from benchmarks.fusion_study.report import report
from benchmarks.fusion_study.rows import FAILURE, RANKING, RATING, RATINGS, STUDY, append_finished, chosen, missing
from benchmarks.rows import read_rows
from datasets.scenes import scenes_hash
from tools.demo.__main__ import check_data, exit_codes, say
from tools.demo.jobs import cache_folder, environment_for
from tools.demo.options import CORES, Options
from tools.jobs import JobFailed, Queue
from tools.out_folder import shared
from utils.args import Parser, command
from utils.errors import UserError, near
from utils.option_types import positive
from utils.option_types import seed as as_seed
from utils.untrusted import read_yaml


@command(joins=False)
def main(argv: list[str]) -> None:
    args = parse(argv)
    study = read_study(args.config)
    check(study, args)
    seeds = args.seeds or list(study.seeds)
    if args.list:
        for seed in seeds:
            print(listed(study, args, seed))
        return
    with exit_codes():
        measure(study, args, seeds)
    print(report(*(read_rows(name) for name in (STUDY, RANKING, RATING, FAILURE))))


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Measure single sensors, hand-made, random and searched fusions on the same pairs.")
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="YAML file of the study, as configs/study.yaml")
    add("--data", metavar="DIR", help="a FLIR-Aligned folder, if the config says data: folder")
    add("--seeds", type=as_seed, nargs="+", metavar="SEED", help="only these seeds of the config (all)")
    text = "only these methods of the config; also names of a group of random ones or of a kind: "
    text += f"{', '.join((*KINDS, 'kendall', 'sensor_failure'))} (all)"
    add("--methods", nargs="+", metavar="NAME", help=text, default=())
    add("--slots", type=positive, default=Options.slots, help=f"commands side by side ({Options.slots})")
    add("--list", action="store_true", help="print which rows exist and which are missing, then exit")
    return parser.parse_args(argv)


def check(study: Study, args: argparse.Namespace) -> None:
    """Check that the study has the given seeds and methods, and that --data fits its config."""
    if study.rendered == bool(args.data):
        expected = "none, since the config says data: road_scenes" if args.data else "a folder, as the config says"
        raise UserError(f"--data: expected {expected}, found {args.data}")
    names = [name for m in study.methods for name in (m.name, m.group)] + [
        *KINDS,
        *(("kendall",) if study.kendall else ()),
        *(("sensor_failure",) if study.failing else ()),
    ]
    for name in args.methods:
        if name not in names:
            raise UserError(f"--methods: no such method or kind in {study.path}: {name}{near(name, names)}")
    for seed in args.seeds or ():
        if seed not in seeds_of(study):
            raise UserError(f"--seeds: expected some of {seeds_of(study)} as {study.path} has, found {seed}")
    check_data(options_of(study, args, study.seeds[0]))


def seeds_of(study: Study) -> list[int]:
    """Return all seeds of the study."""
    return sorted(
        {
            *study.seeds,
            *(s for m in study.methods for s in m.seeds),
            *(s for more in (study.kendall, study.failing) if more for s in more.seeds),
        }
    )


def options_of(study: Study, args: argparse.Namespace, seed: int) -> Options:
    """Return the options of one seed's commands."""
    sizes = study.sizes if study.rendered else {}
    out = f"runs/{STUDY}-{study.name}-{seed}"
    return Options(seed=seed, out=out, config=study.commands, data=args.data, slots=args.slots, methods=(), sizes=sizes)


def measure(study: Study, args: argparse.Namespace, seeds: list[int]) -> None:
    """Measure what has no row yet, seed by seed; the first failure is raised at the end."""
    failed = None
    for seed in seeds:
        wanted = missing(study, args.data, seed, tuple(args.methods))
        if wanted:
            try:
                measure_seed(study, wanted, options_of(study, args, seed))
            except JobFailed as failure:
                failed = failed or failure
    if failed:
        raise failed


def measure_seed(study: Study, wanted: Wanted, options: Options) -> None:
    """Run the commands of one seed and append each row when its test has finished."""
    out = Path(options.out)
    stamp = {"scenes": scenes_hash(), "sizes": study.sizes, "seed": options.seed, "data": options.data}
    stamp["config_hash"] = content_hash(read_yaml(study.commands, f"--config {study.commands}"))
    jobs = study_jobs(study, wanted, options)
    count = len(wanted.methods) + len(wanted.ranked) + len(wanted.failing)
    count += len(study.kendall.genotypes) * len(RATINGS) if wanted.scored else 0
    env = environment_for(options.slots, CORES)
    append = lambda name, done: append_finished(study, wanted, options, name, done)  # noqa: E731
    plan = f"{count} rows, {len(jobs)} commands, {options.slots} side by side; logs in {out}/logs"
    with shared(out, stamp, cache_folder(options)) as lock:
        say(f"seed {options.seed}: {plan}")
        Queue(jobs, options.slots, out / "logs", env, True, say, append, keep_going=True, hold=(lock,)).run()


def listed(study: Study, args: argparse.Namespace, seed: int) -> str:
    """Return the rows of one seed that exist and those that are missing, in words."""
    left = missing(study, args.data, seed, tuple(args.methods))
    asked = [m for m in study.methods if seed in m.seeds and chosen(m, args.methods)]
    done = [m.name for m in asked if m not in left.methods]
    lines = [f"seed {seed}: {len(done)} done: {', '.join(done) or 'none'}"]
    lines.append(f"  {len(left.methods)} missing: {', '.join(m.name for m in left.methods) or 'none'}")
    if left.ranked:
        lines.append(f"  {len(left.ranked)} genotypes to be trained twice")
    if left.scored:
        lines.append("  genotypes to be rated by the supernet")
    if left.failing:
        lines.append(f"  {len(left.failing)} trainings to be tested with either sensor black")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())

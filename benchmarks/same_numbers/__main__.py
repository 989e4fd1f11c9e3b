"""Run the same commands with the code of two commits and compare all that they compute, digit by digit.

    python -m benchmarks.same_numbers A B [--only NAME ...] [--work DIR]

A and B are commits, or WORKTREE: the working tree as it is. Each is cloned, and the same command lines (cases.py) are
run with both, one after the other, on one thread and the same tiny made-up data: pretrainings, a search by each
strategy, trainings, tests, prediction, classification, runs that are killed and resumed, two ranks. Then genotypes,
detections, results, metrics without times, and the weights of checkpoints are compared (compare.py), without any
tolerance. A's killed runs are compared with its undisturbed ones as well. Ends with "N files, 0 differences" and 0, or
with 1.

In DIR the results stay, by commit: a case that is there is not run again.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

from benchmarks.same_numbers.cases import CASES, DATA_CASE, chosen
from benchmarks.same_numbers.compare import Comparison, Difference
from benchmarks.same_numbers.sides import Side, run_cases, side_of
from utils.args import Parser, command
from utils.errors import UserError

SHOWN = 20  # files that differ


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    cases = chosen(args.only)
    with tempfile.TemporaryDirectory() as scratch:
        sides = [side_of(name, Path(args.work or scratch).resolve()) for name in (args.a, args.b)]
        for letter, name, side in zip("AB", (args.a, args.b), sides):
            print(f"{letter}: {name}, {side.folder}", flush=True)
            run_cases(side, cases)
        comparison = compare(*sides, cases)
    report(comparison)
    if comparison.differences:
        sys.exit(1)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("a", metavar="A", help="a commit, or WORKTREE")
    parser.add_argument("b", metavar="B", help="a commit, or WORKTREE")
    parser.add_argument("--only", metavar="NAME", nargs="+", default=[], help="cases, and what they need (all)")
    parser.add_argument("--work", metavar="DIR", help="folder that keeps what each side has computed (none)")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.only if name not in CASES]:
        raise UserError(f"--only: expected names of {', '.join(CASES)}, found {', '.join(unknown)}")
    return args


def compare(a: Side, b: Side, cases: list[str]) -> Comparison:
    """Compare all cases that have ended well on both sides; one that has not is a difference."""
    comparison = Comparison()
    for name in cases:
        ended = ["ended" if side.is_done(name) else "failed" for side in (a, b)]
        if "failed" in ended:
            comparison.differences.append(Difference(name, "command", *ended))
        elif name != DATA_CASE:
            comparison.compare(a.place(name), b.place(name), name)
    if "killed" in cases and a.is_done("killed"):
        comparison.compare(a.place("whole"), a.place("killed"), "killed against whole")
    return comparison


def report(comparison: Comparison) -> None:
    """Print remarks, the first difference of each file, and how many there are in all."""
    for remark, count in sorted(comparison.notes.items()):
        print(f"{remark} ({count} files)")
    of_files = [list(found) for _, found in itertools.groupby(comparison.differences, lambda found: found.file)]
    for first, *more in of_files[:SHOWN]:
        print(f"differs: {first}" + f" (and {len(more)} more in it)" * bool(more))
    if len(of_files) > SHOWN:
        print(f"and {len(of_files) - SHOWN} more files")
    print(f"{comparison.num_files} files, {len(comparison.differences)} differences")


if __name__ == "__main__":
    raise SystemExit(main())

"""Break lines that matter, one at a time, and see whether the tests notice: prints caught or missed for each.

    python -m benchmarks.mutations [--only softmax flip]

Works on a clone of the last commit in a temporary folder; the checkout is not touched. Exit code 1 if a mutation is
missed, or if its old text no longer stands exactly once in its file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from utils.subprocesses import ROOT


class Mutation(NamedTuple):
    """A text of a file, what takes its place, and the tests that must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation(
        "softmax over edges instead of operations",
        "models/search/relaxations.py",
        '"""Return the softmax of each row."""\n    return logits.softmax(dim=-1)',
        '"""Return the softmax of each row."""\n    return logits.softmax(dim=0)',
        "tests/models/search/test_relaxations.py",
    ),
    Mutation(
        "logits learn as weights",
        "models/search/parameters.py",
        "if p.requires_grad and not _is_logit(name)]",
        "if p.requires_grad]",
        "tests/test_known_faults.py",
    ),
    Mutation(
        "second-order term with the wrong sign",
        "models/search/second_order.py",
        "logit.grad = g - xi * (plus - minus) / (2 * eps)",
        "logit.grad = g + xi * (plus - minus) / (2 * eps)",
        "tests/models/search/test_second_order.py",
    ),
    Mutation(
        "the last of equal pairs is derived",
        "models/search/fusion_cells/derive.py",
        "return max(filter(allowed, state_pairs(rows)), key",
        "return max(reversed([*filter(allowed, state_pairs(rows))]), key",
        "tests/models/search/fusion_cells/test_derive.py",
    ),
    Mutation(
        "a genotype of other sizes is read",
        "models/search/fusion_cells/genotype_file.py",
        '"levels": list(levels), "C": self.channels}',
        '"levels": list(levels)}',
        "tests/models/search/fusion_cells/test_genotype.py tests/test_bad_input.py",
    ),
    Mutation(
        "images are mirrored without their boxes",
        "datasets/detection/transforms.py",
        "        if placement.flip:\n            boxes_xyxy",
        "        if False:\n            boxes_xyxy",
        "tests/datasets/detection/test_transforms.py",
    ),
    Mutation(
        "neighbouring frames in train and val",
        "datasets/splits.py",
        "length = min(max(len(names) // 20, 1), MAX_BLOCK)",
        "length = 1",
        "tests/datasets/test_splits.py",
    ),
    Mutation(
        "a resumed epoch begins with its first batch",
        "datasets/batches.py",
        "return iter(batches[self.start :])",
        "return iter(batches)",
        "tests/datasets/test_loader.py",
    ),
    Mutation(
        "mirrored features under the key of plain ones",
        "datasets/feature_cache.py",
        'mirrored = "mirrored" if variant.flip else "plain"',
        'mirrored = "plain"',
        "tests/engine/test_features.py tests/test_caching.py",
    ),
    Mutation(
        "frozen streams go into training mode",
        "models/search/parameters.py",
        "return super().train(False)",
        "return super().train(mode)",
        "tests/test_known_faults.py",
    ),
    Mutation(
        "a non-finite step is taken",
        "engine/nonfinite.py",
        "good = finite & (self.bad <= self.max_bad_steps)",
        "good = self.bad <= self.max_bad_steps",
        "tests/engine/test_nonfinite.py",
    ),
    Mutation(
        "the last of equal epochs is the best",
        "engine/progress.py",
        "score <= self.best",
        "score < self.best",
        "tests/engine tests/test_mains.py",
    ),
    Mutation(
        "gradients of accumulated batches are summed",
        "engine/step.py",
        "(loss / len(batches)).backward",
        "loss.backward",
        "tests/engine/test_accum.py",
    ),
    Mutation(
        "ranks sum their gradients",
        "utils/distributed.py",
        "for tensor in tensors])) / self.count",
        "for tensor in tensors]))",
        "tests/utils/test_distributed.py",
    ),
    Mutation(
        "files are replaced before they are whole",
        "utils/files.py",
        '    temporary = path.with_name(path.name + ".tmp")',
        "    temporary = path",
        "tests/utils/test_saving.py",
    ),
    Mutation(
        "images of any size are decoded",
        "datasets/images.py",
        "if width * height > MAX_PIXELS",
        "if False",
        "tests/test_trust.py",
    ),
    Mutation(
        "logits learn while they warm up",
        "engine/bilevel.py",
        "epochs_done < self.warmup",
        "epochs_done < 0",
        "tests/test_strategies.py",
    ),
    Mutation(
        "a search never ends early by the count",
        "engine/collapse.py",
        "if found > most else",
        "if found > 99 else",
        "tests/engine/test_collapse.py tests/test_strategies.py",
    ),
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="mutations whose name has one of these")
    words = parser.parse_args(argv).only
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(clone)], check=True)
        taken = [mutation for mutation in MUTATIONS if any(word in mutation.name for word in words)]
        caught = [is_caught(clone, mutation) for mutation in taken]
    print(f"{sum(caught)} of {len(caught)} mutations caught")
    return 0 if all(caught) else 1


def is_caught(clone: Path, mutation: Mutation) -> bool:
    """Apply a mutation to the clone, run its tests and put the file back; prints how it went."""
    path, started = clone / mutation.file, time.perf_counter()
    source = path.read_text(encoding="utf-8") if path.exists() else ""
    if source.count(mutation.old) != 1:
        print(
            f"stale   {mutation.name}: {mutation.file}: expected its old text once, found {source.count(mutation.old)}"
        )
        return False
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    words = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutation.tests.split()]
    done = subprocess.run(
        [sys.executable, *words], cwd=clone, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    path.write_text(source, encoding="utf-8")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    word = "caught" if done.returncode == 1 and failed else "missed"
    by = failed[0].removeprefix("FAILED ").partition(" - ")[0] if failed else f"exit code {done.returncode}"
    print(f"{word:7} {mutation.name}: {by}, {time.perf_counter() - started:.0f} s", flush=True)
    return word == "caught"


if __name__ == "__main__":
    raise SystemExit(main())

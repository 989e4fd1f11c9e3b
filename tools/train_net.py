"""Train towers of a genotype by the published command line of FAD: tasks/detection/published.py, docs/fad.md."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts this folder first, whose profile.py would hide its own.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from tools.published_lines import published

    raise SystemExit(published("train")())

"""How much memory and disk is free, as the system tells it."""

import os
import shutil
from pathlib import Path

# Where a container's limit and use stand, and what of the use are files that can be dropped; of either version.
CGROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that are free: of the machine, or of the container where its limit is lower."""
    try:
        lines = dict(line.split(":") for line in (proc / "meminfo").read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # not told here: half of what there is
    return max(0, min([free, *(_left(groups, *names) for names in CGROUPS)]))


def _left(groups: Path, limit: str, used: str, droppable: str) -> float:
    try:
        numbers = [int((groups / name).read_text(encoding="ascii")) for name in (limit, used)]
        statistics = (groups / limit).with_name("memory.stat").read_text(encoding="ascii").split()
        return numbers[0] - numbers[1] + int(statistics[statistics.index(droppable) + 1])
    except (OSError, ValueError):  # no such group, or "max": no limit
        return float("inf")


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where the folder is, or will be."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(existing).free

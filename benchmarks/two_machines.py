"""Two network namespaces as two machines on this one: a search and a training over what joins them.

    python -m benchmarks.two_machines DIR --config FILE [--processes 1] [--cut]

DIR is a data set, FILE a config with a pretrained checkpointdir beside it (checkpoints/flira). Each machine works in a
folder of its own, as if no disk were shared: data and checkpoints are copied to both, and what the second one has
written is told. --cut: take the second machine away in the middle of the search, and see how long the first one takes
to end; then search on with the first one alone. Needs root and iproute2. Row: results/two_machines.csv.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rows import append_row
from utils.option_types import positive
from utils.subprocesses import ROOT, environment

NAMES, LINKS = ("nasdsf0", "nasdsf1"), ("nasdsf-eth0", "nasdsf-eth1")
ADDRESSES, PORT = ("10.213.77.1", "10.213.77.2"), 29577
PATIENCE = 300
LONG = 4  # epochs of a search that is cut


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DIR")
    parser.add_argument("--config", required=True, metavar="FILE")
    parser.add_argument("--processes", type=positive, default=1, help="of each machine (1)")
    parser.add_argument("--cut", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place, machines():
        folders = [prepared(Path(place) / name, args) for name in NAMES]
        row = {"dataset": Path(args.data).name, "machines": 2, "processes_each": args.processes, "cut": args.cut}
        row |= dict.fromkeys(("search_codes", "search_s", "training_codes", "training_s", "seconds_to_end"))
        row |= cut_off(args, folders) if args.cut else searched_and_trained(args, folders)
        row["written_by_second"] = sum(1 for _ in (folders[1] / "runs").rglob("*"))
    append_row("two_machines", row)
    print(row)


@contextmanager
def machines() -> Iterator[None]:
    """Have two namespaces joined by a link inside the block."""
    run("ip", "link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1])
    try:
        for name, link, address in zip(NAMES, LINKS, ADDRESSES, strict=True):
            run("ip", "netns", "add", name)
            run("ip", "link", "set", link, "netns", name)
            for words in (["address", "add", f"{address}/24", "dev", link], ["link", "set", link, "up"]):
                run("ip", "-n", name, *words)
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def prepared(folder: Path, args: argparse.Namespace) -> Path:
    """Return the folder of a machine, with copies of what the commands read."""
    folder.mkdir()
    shutil.copytree(args.data, folder / "data")
    shutil.copytree("checkpoints/flira", folder / "checkpoints" / "flira")
    shutil.copyfile(args.config, folder / "config.yaml")
    return folder


def start(args: argparse.Namespace, folders: list[Path], *command: object) -> list[subprocess.Popen]:
    """Start a command on both machines, as their users would."""
    return [start_one(args, folder, number, *command) for number, folder in enumerate(folders)]


def start_one(args: argparse.Namespace, folder: Path, number: int, *command: object) -> subprocess.Popen:
    launch = ["--nnodes", "2", "--node-rank", number, "--nproc-per-node", args.processes]
    launch += ["--master-addr", ADDRESSES[0], "--master-port", PORT]
    script, *options = command
    own = [sys.executable, "-m", "torch.distributed.run", *launch, ROOT / script, *options]
    env = environment({"GLOO_SOCKET_IFNAME": LINKS[number], "OMP_NUM_THREADS": "1"})
    words = ["ip", "netns", "exec", NAMES[number], *map(str, own)]
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(words, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)


def wait_for(processes: list[subprocess.Popen], folders: list[Path]) -> list[int]:
    codes = [process.wait(PATIENCE) for process in processes]
    if any(codes):
        print("\n".join((folder / "log.txt").read_text(errors="replace")[-3000:] for folder in folders))
    return codes


def searched_and_trained(args: argparse.Namespace, folders: list[Path]) -> dict[str, object]:
    """Search on both machines, then train what was found; the run folder is the first one's."""
    common, told = ["data", "--config", "config.yaml"], {}
    for kind, script, own in (("search", "searchable", ()), ("training", "found", ("--search_exp_dir",))):
        options = [*own, *(newest(folders[0], "search") for _ in own)]
        started = time.perf_counter()
        codes = wait_for(start(args, folders, f"main_darts_{script}_flira.py", *common, *options), folders)
        told |= {f"{kind}_codes": " ".join(map(str, codes)), f"{kind}_s": round(time.perf_counter() - started, 1)}
    return told


def cut_off(args: argparse.Namespace, folders: list[Path]) -> dict[str, object]:
    """Kill all of the second machine in the middle of a search; then go on with the first one alone."""
    common = ["main_darts_searchable_flira.py", "data", "--config", "config.yaml"]
    both = start(args, folders, *common, "--checkpoint_every", "1", "--epochs", LONG)
    wait_until(lambda: "epoch 1" in (folders[0] / "log.txt").read_text(errors="replace"))
    listed = subprocess.run(["ip", "netns", "pids", NAMES[1]], check=True, capture_output=True, text=True)
    for process in listed.stdout.split():
        os.kill(int(process), signal.SIGKILL)
    started = time.perf_counter()
    code = both[0].wait(PATIENCE)
    told = {"search_codes": f"{code}", "seconds_to_end": round(time.perf_counter() - started, 1)}
    words = ["ip", "netns", "exec", NAMES[0], sys.executable, str(ROOT / common[0]), "--resume"]
    started = time.perf_counter()
    subprocess.run([*words, newest(folders[0], "search")], cwd=folders[0], env=environment(), check=True)
    return told | {"search_s": round(time.perf_counter() - started, 1)}


def newest(folder: Path, kind: str) -> str:
    return str(max((folder / "runs").glob(f"{kind}-*")).relative_to(folder))


def wait_until(there) -> None:
    ends = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > ends:
            raise TimeoutError(f"expected a search under way within {PATIENCE} s, found none")
        time.sleep(0.2)


if __name__ == "__main__":
    main()

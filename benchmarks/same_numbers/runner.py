"""Run cases with a checkout's code, each command in a process that is forked behind the imports.

    python runner.py < JOBS

JOBS is JSON: "code", a checkout, which must be on PYTHONPATH, and "cases", a list of "name", "folder", "files" to be
written there (text by name), "commands", and "mark", which done.json holds when all commands have ended well. Importing
torch takes seconds, which a fork does not need. It is a process of its own all the same: what one command sets is not
there in the next.

Nothing of the project is imported but by the commands, which may be of any commit.
"""

import contextlib
import glob
import hashlib
import importlib
import json
import os
import runpy
import shlex
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from torch import Tensor

KILLED = "killed "
LOG, DONE = "log.txt", "done.json"
LARGE = 20_000_000  # bytes of a checkpoint of which digests are kept
EACH = 0.002  # seconds between two looks at a run that is to be killed


def main() -> None:
    del sys.path[0]  # this file's own folder, which a checkout does not have
    jobs = json.load(sys.stdin)
    code = Path(jobs["code"])
    for path in sorted(code.glob("main_*.py")):
        with contextlib.suppress(ImportError):  # the command itself will say it
            importlib.import_module(path.stem)
    for case in jobs["cases"]:
        run_case(code, case)


def run_case(code: Path, case: dict) -> None:
    """Run the commands of a case in an empty folder; says how long it took, or which command failed and why."""
    folder, started = Path(case["folder"]), time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in case["files"].items():
        (folder / name).write_text(text)
    for line in case["commands"]:
        if fault := run_line(code, folder, line):
            print(f"  {case['name']}: {fault}: {line}", flush=True)
            return
    seconds = time.perf_counter() - started
    tidy(folder)
    (folder / DONE).write_text(json.dumps({"mark": case["mark"], "seconds": round(seconds, 1)}))
    print(f"  {case['name']}: {seconds:.1f} s", flush=True)


def tidy(folder: Path) -> None:
    """Remove what nobody compares, and leave of large checkpoints the digests of their tensors."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    for path in folder.glob("runs/*/last*.pt"):
        path.unlink()
    for path in folder.rglob("*.pt*"):
        if path.stat().st_size > LARGE:
            state = torch.load(path, map_location="cpu", weights_only=True)
            torch.save({"model": {name: digest(tensor) for name, tensor in state.get("model", state).items()}}, path)


def digest(tensor: Tensor) -> str:
    """Return a tensor's kind, shape and the digest of its numbers."""
    content = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"


def run_line(code: Path, folder: Path, line: str) -> str:
    """Run a command line; returns what went wrong, or nothing."""
    kill = line.startswith(KILLED)
    words = [word for part in shlex.split(line.removeprefix(KILLED)) for word in expanded(part, code, folder)]
    pid = fork(code, folder, words)
    if kill and not killed(pid, folder):
        return "ended before it was killed"
    _, status = (0, 0) if kill else os.waitpid(pid, 0)
    if status == 0:
        return ""
    last = (folder / LOG).read_text(errors="replace").strip().rpartition("\n")[2]
    return f"exit code {os.waitstatus_to_exitcode(status)}, {last}"


def expanded(word: str, code: Path, folder: Path) -> list[str]:
    """Return the words that a shell makes of one."""
    word = word.replace("{code}", str(code))
    return sorted(glob.glob(word, root_dir=folder)) or [word] if "*" in word else [word]


def fork(code: Path, folder: Path, words: list[str]) -> int:
    """Start a command; returns its process."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.chdir(folder)
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        print("$", shlex.join(words), flush=True)
        status = ended(code, words)
    except BaseException:  # noqa: BLE001 (this process ends here)
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def ended(code: Path, words: list[str]) -> int:
    """Run a script or a module as Python does; returns its exit code."""
    is_module = words[0] == "-m"
    sys.argv = words[1:] if is_module else [str(code / words[0]), *words[1:]]
    try:
        if is_module:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def killed(pid: int, folder: Path) -> bool:
    """Kill a run behind a step of its second epoch; False where it ended before."""
    started, saves = time.time_ns(), set()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        saves.add(save_behind_an_epoch(folder))
        # One of them is of the first epoch's last step, one of its end.
        if sum(moment > started for moment in saves) > 2:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        time.sleep(EACH)
    return False


def save_behind_an_epoch(folder: Path) -> int:
    """Return when the newest run was last saved, in ns; 0 where it has not finished an epoch."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        run = max((folder / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        if (run / "metrics.jsonl").stat().st_size > 0:
            return max(path.stat().st_mtime_ns for path in run.glob("last*.pt"))
    return 0


if __name__ == "__main__":
    main()

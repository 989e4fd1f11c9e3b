"""wandb, offline: what it keeps, that it goes on, and that nothing it does can stop a run."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from utils import tracking
from utils.errors import UserError
from utils.tracking import Tracker, has_key

REPO = Path(__file__).resolve().parents[2]
# A run: argv is its folder, its wandb id or "", what happens to wandb's process, and the steps of its rows.
SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.modules["torch"] = object()  # utils.errors knows its kinds of faults; a second less without it
from utils import tracking

def service():
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                return int(stat.parent.name)
        except OSError:
            pass

folder, run_id, happens, *steps = sys.argv[1:]
if happens == "hang":
    tracking.FINISH_LIMIT = tracking.TEARDOWN_LIMIT = 0.5
tracker = tracking.Tracker(True, Path(folder), {"lr": 0.1}, print, run_id or None)
print("id", tracker.id)
print("service", service())
if happens == "interrupt":
    signal.signal(signal.SIGINT, lambda *_: print("interrupted"))
    os.killpg(0, signal.SIGINT)  # as a terminal does at Ctrl-C
elif happens:
    os.kill(service(), signal.SIGKILL if happens == "die" else signal.SIGSTOP)
for step in map(int, steps):
    tracker.log({"epoch": step, "AP_val": None, "genotype": "name", "loss": 0.5}, "head", step)
tracker.finish()
tracker.finish()
sys.exit(3)
"""


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")


def play(folder: Path, run_id: str = "", happens: str = "", steps: tuple[int, ...] = ()) -> dict:
    """Run the script; returns its seconds, its lines about wandb, and what it printed by first word."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(folder), run_id, happens, *map(str, steps)]
    started = time.perf_counter()
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:  # a hung service would keep pipes open
        code = subprocess.run(command, cwd=REPO, stdout=out, stderr=err, timeout=60, start_new_session=True).returncode
    lines = (folder / "out").read_text().splitlines()
    assert code == 3, (folder / "err").read_text()
    assert "Traceback" not in (folder / "err").read_text()
    words = dict(line.split(" ", 1) for line in lines if " " in line and not line.startswith("wandb:"))
    said = [line for line in lines if line.startswith("wandb: ") and "goes on" in line]
    return words | {"seconds": time.perf_counter() - started, "said": said, "lines": lines}


def rows_of(folder: Path, run_id: str) -> list[dict]:
    """Read the rows that wandb's offline files of a run hold; they are records of LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for path in sorted(folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")):
        data, place, content = path.read_bytes(), 7, b""
        while place + 7 <= len(data):
            if 32768 - place % 32768 < 7:  # no record's header is cut
                place += 32768 - place % 32768
            size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
            content += data[place + 7 : place + 7 + size]
            place += 7 + size
            if kind in (1, 4):  # full, last
                record, content = Record.FromString(content), b""
                items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                rows += [items] if items else []
    return [{k: v for k, v in row.items() if not k.startswith("_") or k == "_step"} for row in rows]


def test_a_run_goes_on_under_its_id_and_survives_ctrl_c(offline, tmp_path):
    first = play(tmp_path / "run", "", "interrupt", (0, 1, 1))
    second = play(tmp_path / "run", first["id"], "", (1, 2))
    assert "interrupted" in first["lines"]
    assert first["said"] == second["said"] == []
    assert first["id"] == second["id"]
    rows = rows_of(tmp_path / "run", first["id"])
    assert rows == [{"head/epoch": step, "head/loss": 0.5, "_step": step} for step in (0, 1, 1, 2)]  # two per part
    assert len(list((tmp_path / "run").glob("wandb/offline-run-*"))) == 2


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds wandb's process in /proc")
@pytest.mark.parametrize("happens", ["die", "hang"])
def test_its_process_may_die_or_hang(offline, tmp_path, happens):
    done = play(tmp_path / "run", "", happens, (0, 1, 2))
    if happens == "hang":
        os.kill(int(done["service"]), signal.SIGKILL)
    (line,) = done["said"]
    assert line.endswith(": the run goes on without it; metrics.jsonl has every number")
    assert ("no answer in 0.5 s" in line) == (happens == "hang")
    assert done["seconds"] < 20


class Stub(types.ModuleType):
    """A wandb that raises where it is told to, and remembers how it was called."""

    def __init__(self, where: str = "", error: BaseException | None = None, id: str = "theirs"):
        super().__init__("wandb")
        self.where, self.error, self.id, self.calls, self.terminals = where, error, id, [], []

    def _call(self, name: str, /, *args, **options):
        self.calls.append((name, args, options))
        if name == self.where and self.error is not None:
            raise self.error
        if name == self.where:
            time.sleep(5)
        return self

    def init(self, **options):
        self.terminals.append(sys.stdin.isatty())
        return self._call("init", **options)

    def log(self, *args, **options):
        return self._call("log", *args, **options)

    def log_artifact(self, *args, **options):
        return self._call("log_artifact", *args, **options)

    def finish(self, **options):
        return self._call("finish", **options)

    def teardown(self):
        return self._call("teardown")

    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]


ERRORS = [BrokenPipeError("gone"), RuntimeError("two\nlines"), SystemExit(7), KeyboardInterrupt(), ValueError(), None]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("where", ["init", "log", "finish", "teardown"])
def test_failures_are_said_once(monkeypatch, tmp_path, where, error):
    stub, said = Stub(where, error), []
    monkeypatch.setitem(sys.modules, "wandb", stub)
    for name in ("START_LIMIT", "LOG_LIMIT", "FINISH_LIMIT", "TEARDOWN_LIMIT"):
        monkeypatch.setattr(tracking, name, 0.05)
    tracker = Tracker(True, tmp_path, {}, said.append, "ours")
    assert tracker.id == ("ours" if where == "init" else "theirs")
    for step in range(3):
        tracker.log({"loss": 1.0}, step=step)
    for _ in range(2):
        tracker.finish()
    once = {"init": 1, "log": where != "init" and (1 if where == "log" else 3), "finish": where not in ("init", "log")}
    assert {name: stub.names().count(name) for name in once} == once
    assert stub.names()[-1] == "teardown"
    assert len(said) == (where != "teardown")
    for line in said:
        assert line.startswith("wandb: ")
        assert line.endswith(": the run goes on without it; metrics.jsonl has every number")
        assert "\n" not in line


def test_what_wandb_is_told(monkeypatch, tmp_path):
    """Only online is there a run to look up; a terminal is hidden, since wandb would ask there."""
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    for mode, run_id in (("offline", None), ("offline", "ours"), ("online", None), ("online", "ours")):
        stub = Stub()
        monkeypatch.setitem(sys.modules, "wandb", stub)
        monkeypatch.setenv("WANDB_MODE", mode)
        tracker = Tracker(True, tmp_path, {"a": 1}, pytest.fail, run_id)
        tracker.log({"loss": 1, "AP": None, "text": "x"}, "rgb", 4)
        tracker.finish(failed=True)
        (_, _, options), *rest = stub.calls
        assert (options["mode"], options["config"]) == (mode, {"a": 1})
        assert options.get("id") == run_id
        assert stub.terminals == [False]
        assert options.get("resume") == ("allow" if (mode, run_id) == ("online", "ours") else None)
        assert rest == [
            ("log", ({"rgb/loss": 1},), {"step": 4, "commit": True}),
            ("finish", (), {"exit_code": 1}),
            ("teardown", (), {}),
        ]
    assert sys.stdin.isatty()


@pytest.mark.parametrize("where", ["", "log", "log_artifact", "collect"])
def test_files_are_logged_and_their_failure_stops_nothing(monkeypatch, tmp_path, where):
    stub, said, files = Stub(where, OSError("no room")), [], []
    stub.Image = lambda picture, caption: (picture, caption)
    stub.Artifact = lambda name, kind: types.SimpleNamespace(name=name, kind=kind, add_file=files.append)
    monkeypatch.setitem(sys.modules, "wandb", stub)

    def collect():
        if where == "collect":
            raise OSError("no room")
        return {"genotype": [("picture", "words")]}, [tmp_path / "best.pt"]

    tracker = Tracker(True, tmp_path, {}, said.append)
    tracker.log_files("my run-1", "found", collect)
    tracker.finish()
    assert len(said) == (where != "")
    assert (("log", ({"genotype": [("picture", "words")]},), {"commit": True}) in stub.calls) == (where != "collect")
    assert files == ([] if where in ("log", "collect") else [str(tmp_path / "best.pt")])
    if not where:
        ((_, (artifact,), _),) = [call for call in stub.calls if call[0] == "log_artifact"]
        assert (artifact.name, artifact.kind) == ("my-run-1", "found")


@pytest.mark.parametrize("found", [None, types.ModuleType("wandb")], ids=["nothing", "a folder of the name"])
def test_wandb_must_be_installed(monkeypatch, tmp_path, found):
    monkeypatch.setitem(sys.modules, "wandb", found)
    with pytest.raises(UserError, match="--wandb: expected the package wandb.*pip install wandb"):
        Tracker(True, tmp_path, {}, pytest.fail)


@pytest.mark.parametrize("fault", ["import package_that_wandb_lacks", "raise TypeError('descriptors')"])
def test_a_broken_wandb_is_a_failure(monkeypatch, tmp_path, fault):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/__init__.py").write_text(fault)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    said = []
    tracker = Tracker(True, tmp_path, {}, said.append, "ours")
    tracker.log({"loss": 1.0})
    tracker.finish()
    assert tracker.id == "ours"
    assert len(said) == 1


def test_without_wandb(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = Tracker(False, tmp_path, {}, pytest.fail, "ours")
    tracker.log({"loss": 1.0})
    tracker.finish()
    assert tracker.id == "ours"


def test_keys(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_key()
    (tmp_path / ".netrc").write_text("machine")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert has_key()

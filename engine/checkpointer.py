"""Keeps a phase of a run: its whole state goes into last.pt, so that killed and resumed ends as not killed.

last.pt holds what best.pt holds (the detector and the facts of the run) and, under "resume", all the rest: optimisers,
schedule, random generators, the place in the data, counts. The one before is last.previous.pt. What an epoch writes
beside (best.pt, genotype.json, ...) waits as NAME.nextEPOCH until last.pt knows of it.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch

from datasets.data_module import DataModule
from engine.step import Session, do_nothing
from utils import checkpoint
from utils.errors import UserError, short
from utils.run_folder import ALPHAS, FREE, METRICS, RunFolder
from utils.seed import random_state, set_random_state
from utils.signals import Stopped
from utils.untrusted import FORMAT

UNITS = {"s": 1, "m": 60, "h": 3600}
NEXT = ".next"
OF_A_PHASE = re.compile(r"(last|best)_\w+\.pt")


class Stateful(Protocol):
    """Something with a state: a model, an optimiser, a schedule, a loader."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Checkpointer:
    """Saves a phase between steps, each so many steps or minutes and when a signal asks for it, and takes it up again.

    Where several ranks learn, the first one writes and reads for all, and a signal to any stops all, behind one step.

    Args:
        session: its model, progress and guard are kept. The model is taken up at once, since features that are computed
            beforehand depend on it, the rest by `running`.
        facts: plain values that every checkpoint carries beside the model.
        data: its digest says which pairs and boxes are learned from; a run cannot go on with others.
        every: as --checkpoint_every has it.
        phase: put into file names where a run has several phases.

    Raises:
        UserError: both checkpoints are damaged, or they are of other data.
    """

    def __init__(self, run: RunFolder, session: Session, facts: dict, data: DataModule, every: str, phase: str = ""):
        self.run, self.session, self.facts, self.phase = run, session, facts, phase
        self.digest, self.bad_files, self.stop = data.digest, data.bad_files, run.stop
        self.stateful: dict[str, Stateful] = {"progress": session.progress, "guard": session.guard}
        self.steps = int(every) if every.isdecimal() else None
        self.seconds = None if self.steps else int(every[:-1]) * UNITS[every[-1]]
        self.started = self.saved_at = time.monotonic()
        self.saved_step, self.before, self.features = 0, 0.0, "off"
        self.writer, self.pending, self.ranks = ThreadPoolExecutor(1), None, session.compute.ranks
        self.found = self.ranks.broadcast_from_first(self._read_last)
        if self.found is not None:
            checkpoint.load_state(session.model, self.found["model"], str(self.file("last")))

    def file(self, name: str) -> Path:
        """Return the phase's file `last`, `last.previous` or `best`."""
        first, dot, rest = name.partition(".")
        return self.run.path / f"{first}{'_' * bool(self.phase)}{self.phase}{dot}{rest}.pt"

    @property
    def elapsed(self) -> float:
        """Seconds that the phase took, in all of its processes."""
        return self.before + time.monotonic() - self.started

    def on_step_end(self) -> None:
        """Save if it is time to, or if a signal asked to stop; then end.

        Raises:
            Stopped: a signal came.
        """
        progress = self.session.progress
        if self.pending is not None and self.pending.done():
            self.wait()
        waited = time.monotonic() - self.saved_at
        due = progress.steps - self.saved_step >= self.steps if self.steps else waited >= self.seconds
        stopped, due = self._agreed(bool(self.stop.came), due)
        if stopped:
            self.save()
            self.wait()
            self.ranks.barrier()  # torchrun gives the others little time, once one has ended
            place = f"{self.file('last')} holds epoch {progress.epochs_done} up to step {progress.steps}"
            words = f"stopped by {self.stop.came or 'a signal'}; {place}: --resume {self.run.path} goes on"
            raise Stopped(words, saved=True)
        if due and progress.steps > self.saved_step:
            self.save()

    def _agreed(self, stopped: bool, due: bool) -> tuple[bool, bool]:
        """Return whether any rank is to stop, and whether the first one is to save."""
        if self.ranks.count == 1:
            return stopped, due
        both = self.ranks.all_reduce_sum(torch.tensor([stopped, due and self.ranks.first], dtype=torch.int64))
        return bool(both[0]), bool(both[1])

    def save(self, staged: tuple[str, ...] = ()) -> None:
        """Write last.pt; once it is on the disk, staged files of these names get their names.

        Training goes on meanwhile; what goes wrong is raised behind a later step, by the next `save` at the latest, or
        at the end of the phase.
        """
        self.wait()
        self.session.guard.check_pending()
        self.saved_at, self.saved_step = time.monotonic(), self.session.progress.steps
        if not self.run.is_writer:
            return
        state = {name: item.state_dict() for name, item in self.stateful.items()}
        state |= {"random": random_state(self.session.compute.device), "data": self.digest}
        state |= {"staged": list(staged), "seconds": self.elapsed, "features": self.features}
        whole = self.detector() | {"resume": state}
        self.pending = self.writer.submit(self._write, checkpoint.snapshot(whole), self._places(staged))

    def _write(self, whole: dict, places: dict[Path, Path]) -> None:
        checkpoint.save(self.file("last"), whole, keep=self.file("last.previous"))
        _rename(places)

    def _places(self, staged: Iterable[str]) -> dict[Path, Path]:
        """Return where staged files go, by where they wait."""
        return {self.waiting(name): self.run.path / name for name in staged}

    def wait(self) -> None:
        """Wait until what was saved is on the disk; raises what kept it from there."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            pending.result()

    def detector(self) -> dict:
        """Return what best.pt holds."""
        facts = self.facts | {"format": FORMAT, "bad_files": list(self.bad_files.names)}
        return facts | {"model": self.session.model.state_dict(), "progress": self.session.progress.scores()}

    def waiting(self, name: str) -> Path:
        """Return where a file waits that is to count with the next `save`.

        The number tells it from one that a later, lost epoch left.
        """
        return self.run.path / f"{name}{NEXT}{self.session.progress.epochs_done}"

    def note_features(self, parts: DataModule) -> None:
        """Note what the run learns from: a run that goes on must do the same, as the last digits differ."""
        self.features = parts.cache.kind if parts.cache else "off"

    @contextlib.contextmanager
    def running(self, **stateful: Stateful) -> Iterator[None]:
        """Take up the phase where its last checkpoint left it, or afresh where there is none, and keep it in the block.

        Inside, signals wait for a step to end.

        Args:
            stateful: what has a state beside the session.

        Raises:
            UserError: the checkpoint holds the state of others.
        """
        self.stateful |= stateful
        state, self.found = self.found, None
        if state is not None:
            self._load(state)
        if self.run.is_writer:
            self._tidy(state)
        self.session.on_step_end, self.stop.waits = self.on_step_end, True
        try:
            yield
            self.wait()
        finally:
            self.writer.shutdown()
            # Without the circle of references, loaders end their workers as soon as nobody needs them.
            self.session.on_step_end, self.stop.waits = do_nothing, False

    def _tidy(self, state: dict | None) -> None:
        """Drop what a later, lost epoch left, and give their names to the files of the one that is taken up."""
        done = self.session.progress.epochs_done

        def stays(row: dict) -> bool:
            return row.get("phase", "") != self.phase or row.get("epoch") in range(done)

        for name in (METRICS, ALPHAS):
            if name == METRICS or (self.run.path / name).exists():
                self.run.keep_rows(stays, name)
        _rename(self._places(Path(name).name for name in state["resume"]["staged"]) if state else {})
        for lost in self.run.path.glob(f"*_{self.phase}.pt{NEXT}*" if self.phase else f"*{NEXT}*"):
            if self.phase or not OF_A_PHASE.match(lost.name):  # whose own keeper has yet to look at it
                lost.unlink()
        if state is not None:
            self.run.log(f"{self.phase} goes on behind epoch {done}, step {self.session.progress.steps}".lstrip())

    def _read_last(self) -> dict | None:
        faults, (last, previous) = [], (self.file("last"), self.file("last.previous"))
        for path in filter(Path.exists, (last, previous)):
            try:
                state = self._checked(checkpoint.load(path), path)
            except UserError as error:
                faults.append(str(error))
                continue
            if path == previous:
                self.run.log(f"{faults[0] if faults else f'{last}: not there'}; goes on from {previous}")
                previous.replace(last)  # so that the next one keeps this one, not the damaged one
            return state
        if faults:
            raise UserError("; ".join(faults))
        return None

    def _checked(self, state: dict, path: Path) -> dict:
        """Refuse what is no checkpoint of such a phase."""
        ours, theirs = (_comparable(facts) for facts in (self.facts | {"format": FORMAT}, state))
        for name, value in ours.items():
            if theirs.get(name) != value:
                expected = f"expected {short(value)} as the run is to go on with"
                raise UserError(f"{path}: {name}: {expected}, found {short(theirs.get(name, 'nothing'))}")
        inner = state.get("resume")
        kinds = {"progress": dict, "random": dict, "data": str, "staged": list, "seconds": float, "features": str}
        if not isinstance(inner, dict) or not all(isinstance(inner.get(k), kind) for k, kind in kinds.items()):
            raise UserError(f"{path}: resume: expected the state of a run, found something else")
        if inner["data"] != self.digest:
            raise UserError(f"{path}: data: expected the pairs and boxes of this run's start, found others in the data")
        return state

    def _load(self, state: dict) -> None:
        saved = state["resume"]
        if saved["features"] != self.features:
            found = f"expected {self.features}, as there is room for now, found {short(saved['features'])}"
            advice = "--cache_features ram or disk, and --cache_level, make it the same"
            raise UserError(f"{self.file('last')}: cached features: {found}: {advice}")
        try:
            for name, item in self.stateful.items():
                item.load_state_dict(saved[name])
            set_random_state(saved["random"], self.session.compute.device)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(f"{self.file('last')}: resume: expected the state of this run, found: {error!r}") from None
        self.bad_files.names[:] = state["bad_files"]
        self.before, self.saved_step = saved["seconds"], self.session.progress.steps


def _comparable(facts: dict) -> dict:
    """Return facts as JSON has them, without options that may change."""
    args = facts.get("args") if isinstance(facts.get("args"), dict) else {}
    inner = {f"args.{name}": value for name, value in args.items() if name not in FREE}
    names = {"kind", "format", "split", "protocol", "checkpoint_split", "genotype"} & facts.keys()
    return json.loads(json.dumps({name: facts[name] for name in names} | inner))


def _rename(places: dict[Path, Path]) -> None:
    for waiting, path in places.items():
        if waiting.exists():
            waiting.replace(path)

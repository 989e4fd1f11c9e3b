"""What each epoch of a run writes: metrics.jsonl, the log, wandb, last.pt, and best.pt when it is the best so far."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.checkpointer import Checkpointer
from engine.progress import Row
from utils.args import Options
from utils.checkpoint import save
from utils.run_folder import RunFolder, read_json, write_json
from utils.signals import Stopped
from utils.tracking import Tracker

TRACKED = "wandb.json"  # the id of a run at Weights & Biases


@contextlib.contextmanager
def tracking(options: Options, run: RunFolder) -> Iterator[Tracker]:
    """Log to wandb inside the block where --wandb asks for it; a run that goes on keeps its id."""
    path = run.path / TRACKED
    recorded = read_json(path).get("id") if path.exists() else None
    run_id = recorded if isinstance(recorded, str) else None
    tracker = Tracker(options.wandb and run.is_writer, run.path, options.plain(), run.log, run_id)
    if run.is_writer and tracker.id != recorded:
        write_json(path, {"id": tracker.id})
    try:
        yield tracker
    except Stopped:
        tracker.finish()
        raise
    except BaseException:
        tracker.finish(failed=True)
        raise
    tracker.finish()


@dataclass(frozen=True)
class Recorder:
    """Write an epoch of a run.

    Args:
        checkpointer: of the run's phase; rows have its name where a run has several.
        best_files: returns what is written with best.pt, by name, from the epoch's row.
    """

    checkpointer: Checkpointer
    tracker: Tracker
    best_files: Callable[[Row], dict[str, object]] = lambda row: {}

    def __call__(self, row: Row, is_best: bool) -> None:
        checkpointer, run, phase = self.checkpointer, self.checkpointer.run, self.checkpointer.phase
        if not run.is_writer:
            checkpointer.save()
            return
        row = row | {"bad_files": len(checkpointer.bad_files.names)}
        step = len(run.rows())
        run.append_row(({"phase": phase} if phase else {}) | row)
        run.log(self._line(row, is_best))
        checkpointer.save(self._stage(row) if is_best else ())
        self.tracker.log(row, phase, step)
        earlier = run.path / "timing.json"  # of the phases before
        timing = read_json(earlier, default={})
        name = f"{phase}_wall_seconds" if phase else "wall_seconds"
        run.write_json("timing.json", timing | {name: round(checkpointer.elapsed, 3)})

    def _stage(self, row: Row) -> tuple[str, ...]:
        checkpointer, files = self.checkpointer, self.best_files(row)
        best = checkpointer.file("best").name
        save(checkpointer.waiting(best), checkpointer.detector())
        for name, content in files.items():
            write_json(checkpointer.waiting(name), content)
        return (best, *files)

    def _line(self, row: Row, is_best: bool) -> str:
        names = {"train_loss", "arch_loss", "pairs_per_s", *(f"{n}_val" for n in self.checkpointer.session.task.logged)}
        shown = {k: v for k, v in row.items() if k in names}
        numbers = "  ".join(f"{k} {v:.4g}" if v is not None else f"{k} none" for k, v in shown.items())
        return f"{self.checkpointer.phase} epoch {row['epoch']}  {numbers}{'  best' if is_best else ''}".lstrip()

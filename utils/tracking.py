"""Weights & Biases, imported only under `--wandb`; offline by itself where there is no key, and never a prompt.

It may refuse, die or hang at any moment: the run goes on without it, since metrics.jsonl has what it copies.
"""

import contextlib
import netrc
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from utils.errors import UserError

# Seconds until a call counts as failed. wandb itself allows 30 for its process to start and 90 for its server to
# answer. Then a call only hands over to that process, but for the last, which waits for the upload.
START_LIMIT, LOG_LIMIT, FILES_LIMIT, FINISH_LIMIT, TEARDOWN_LIMIT = 150.0, 30.0, 150.0, 30.0, 5.0


class Tracker:
    """Log scalars to wandb, or nowhere.

    Args:
        enabled: log to wandb.
        run_path: of the run's folder, where wandb keeps its files too.
        config: options of the run, plain JSON values.
        log: gets the one line that says that wandb failed; nothing more is tried then.
        run_id: `id` of the earlier part of a run that goes on.

    Raises:
        UserError: wandb is asked for, but not installed.
    """

    def __init__(
        self, enabled: bool, run_path: Path, config: dict, log: Callable[[str], None], run_id: str | None = None
    ):
        self.id, self.say, self.run, self.finish_limit = run_id, log, None, FINISH_LIMIT
        if enabled:
            with no_terminal():
                self.run = self._attempt(START_LIMIT, lambda: start(run_path, config, run_id))
        if self.run is not None:
            self.id = self.run.id

    def log(self, row: dict, phase: str = "", step: int | None = None) -> None:
        """Log the numbers of an epoch's row, under the phase's name where a run has several.

        Args:
            step: the row's place among all rows of the run, over its phases and its parts. Of two rows with one step
                wandb keeps the first. None: after the row before.
        """
        if self.run is not None:
            prefix = f"{phase}/" if phase else ""
            numbers = {prefix + k: v for k, v in row.items() if isinstance(v, int | float)}
            self._attempt(LOG_LIMIT, lambda: self.run.log(numbers, step=step, commit=True))

    def log_files(
        self, name: str, kind: str, collect: Callable[[], tuple[dict[str, list[tuple[Any, str]]], list[Path]]]
    ) -> None:
        """Log what `collect` gives: pictures (as PIL has them, each with words) by name, and files as one artifact."""

        def call() -> None:
            wandb = sys.modules["wandb"]
            pictures, files = collect()
            shown = {key: [wandb.Image(one, caption=words) for one, words in own] for key, own in pictures.items()}
            if shown:
                self.run.log(shown, commit=True)
            artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name), kind)
            for file in files:
                artifact.add_file(str(file))
            self.run.log_artifact(artifact)
            self.finish_limit = FILES_LIMIT  # the end waits for the upload

        if self.run is not None:
            self._attempt(FILES_LIMIT, call)

    def finish(self, failed: bool = False) -> None:
        """End the run and wandb's process, whose own hook at the exit would complain if it had died; again: nothing."""
        if self.run is not None:
            self._attempt(self.finish_limit, lambda: self.run.finish(exit_code=int(failed)))
        if self.run is not None:
            end_wandb()
            self.run = None

    def _attempt(self, limit: float, call: Callable[[], Any]) -> Any:
        """Return what the call returns; when it fails, say so, give wandb up and return None."""
        try:
            return within(limit, call)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in there, the run does not need it
            self.run = None
            reason = " ".join([f"{type(error).__name__}:", *str(error).split()])[:300].rstrip(":")
            self.say(f"wandb: {reason}: the run goes on without it; metrics.jsonl has every number")
            end_wandb()
            return None


def start(run_path: Path, config: dict, run_id: str | None) -> Any:
    """Return wandb's run, online only where that is possible without asking."""
    try:
        import wandb
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        wandb = None
    if not hasattr(wandb, "init"):  # a folder named wandb can be imported, too
        raise UserError("--wandb: expected the package wandb, found none: pip install wandb")
    mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    # Offline there is nothing to look up: the files of both parts carry the id, and wandb would warn.
    going_on = {"id": run_id, "resume": "allow" if mode == "online" else None} if run_id else {}
    where = {"project": "nas-dsf", "name": run_path.name, "dir": str(run_path)}
    return wandb.init(**where, config=config, mode=mode, save_code=False, **going_on)


def end_wandb() -> None:
    """End wandb's process and its hook at the exit; a second run in this process starts both anew."""
    if (wandb := sys.modules.get("wandb")) is not None:
        with contextlib.suppress(Exception):
            within(TEARDOWN_LIMIT, wandb.teardown)


def within(limit: float, call: Callable[[], Any]) -> Any:
    """Return what the call returns, or raise what it raises; one that takes longer is left to itself.

    Raises:
        TimeoutError: it took more than `limit` seconds.
    """
    future: Future = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001  # raised where it is waited for
            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001  # wandb's teardown exits with its process's code
            future.set_exception(RuntimeError(type(error).__name__))

    # A daemon cannot keep the process from ending.
    threading.Thread(target=work, name="wandb call", daemon=True).start()
    if not wait([future], limit).done:
        raise TimeoutError(f"no answer in {limit:g} s")
    return future.result()


@contextlib.contextmanager
def no_terminal() -> Iterator[None]:
    """Take stdin away for a moment: wandb asks for a key where it sees a terminal, and fails where it sees none."""
    kept = sys.stdin
    with open(os.devnull) as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = kept


def has_key() -> bool:
    """Return whether wandb would find a key without asking: in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)

"""Weights & Biases, imported only under `--wandb`; offline by itself where there is no key, and never a prompt."""

import netrc
import os
from pathlib import Path


class Tracker:
    """Log scalars to wandb, or nowhere."""

    def __init__(self, enabled: bool, run_path: Path, config: dict):
        self.run = None
        if enabled:
            import wandb

            mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
            self.run = wandb.init(
                project="nas-dsf", name=run_path.name, dir=str(run_path), config=config, mode=mode, save_code=False
            )

    def log(self, row: dict, phase: str = "") -> None:
        """Log the numbers of an epoch's row, under the phase's name where a run has several."""
        if self.run is not None:
            prefix = f"{phase}/" if phase else ""
            self.run.log({prefix + k: v for k, v in row.items() if isinstance(v, int | float)})

    def finish(self) -> None:
        if self.run is not None:
            self.run.finish()


def has_key() -> bool:
    """Return whether wandb would find a key without asking: in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)

"""--parallel: the same command once per GPU of this machine, as `torchrun --standalone` starts it."""

import os
import signal
import uuid

from utils.distributed import is_started
from utils.signals import CAUGHT
from utils.subprocesses import CORES, command_line

STOPPED = 3  # exit code of a run that a signal has stopped, its checkpoint saved
FORWARDED = ",".join(number.name for number in (*CAUGHT, signal.SIGHUP, signal.SIGQUIT))  # to the processes


class RelaunchRequest(Exception):
    """The command is to be done by so many processes, not by this one."""

    def __init__(self, count: int):
        super().__init__(count)
        self.count = count


def start_several(device: str) -> None:
    """Raise `RelaunchRequest` where there are two GPUs or more, and this process is not one of several already.

    Args:
        device: what --device says.
    """
    import torch

    asked = device in ("auto", "cuda") and not is_started()
    if asked and (count := torch.cuda.device_count()) > 1:  # no other command asks CUDA for anything here
        raise RelaunchRequest(count)


def launch(script: str, argv: list[str], count: int) -> int:
    """Run a script in so many processes that learn together; returns the exit code of the first that failed, or 0."""
    # These take their time to import, and most commands never come here.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", FORWARDED)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, CORES // count)))
    where = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": uuid.uuid4().hex}
    config = LaunchConfig(1, 1, count, max_restarts=0, monitor_interval=0.5, **where)
    program, *rest = command_line(script, *argv)
    try:
        elastic_launch(config, program)("-u", *rest)
    except ChildFailedError as error:
        return max(1, error.get_first_failure()[1].exitcode)  # below 0: a signal
    except SignalException as told:
        return STOPPED if told.sigval in CAUGHT else 128 + told.sigval
    return 0

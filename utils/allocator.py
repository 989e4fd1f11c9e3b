"""How the C library keeps memory on a CPU: what a training step frees is kept for the next step."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
KEPT = 2**31 - 1  # bytes, the largest number that mallopt takes
LARGEST = 32 * 2**20  # bytes, the largest threshold that glibc takes


def keep_freed_memory() -> None:
    """Ask glibc not to give freed memory back; other C libraries have no such switch, and stay as they are.

    Else the tensors of each step go back to the system, and the next step asks for them anew, page by page: a tenth of
    a search step at published sizes. The peak is the same.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGEST)

"""Memory of the host between steps: kept by the process, on Linux with glibc.

A step of training or of a forecast on a CPU takes a block of hundreds of megabytes and
frees it again. The C library returns such a block to the system at once, and the next
step pays for every page of it anew: up to a quarter of the time of a step. Programs
that are ours from the start, the command `weatherlib` and the scripts, keep what is
freed; in a notebook `keep_freed()` does so where it comes before the first use of JAX.
"""

from __future__ import annotations

import ctypes
import sys
import time

__all__ = ["keep_freed", "release_unused"]

# Of malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1  # Becomes the largest size; 2 GB would be the most that an int says.
_MOMENT = 0.05  # Seconds.

_kept: list[ctypes.CDLL] = []


def keep_freed() -> bool:
    """Lets the process keep freed memory for later, whatever the size of the block.

    This holds for all of the process and until it ends, so it is for programs rather
    than for libraries. Call it before JAX starts its threads: those that have begun may
    go on as before.

    Returns:
      Whether it could be done: the C library is glibc, on Linux.

    Source: mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # Of several arenas only the first one can hold blocks of this size.
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER}
    done = all(library.mallopt(name, value) for name, value in settings.items())
    if done and not _kept:
        _kept.append(library)
    return done


def release_unused() -> None:
    """Returns to the system what is free just now, if it is kept otherwise.

    Right after something was compiled, and after the first step: what these leave is
    scattered, and the large block of the next step does not fit between it. Waits a
    moment, since JAX frees the block of a step just after its results are there.

    Source: malloc_trim(3).
    """
    for library in _kept:
        time.sleep(_MOMENT)
        library.malloc_trim(0)

"""Memory that has been freed goes back to the system.

glibc serves large blocks with mmap, so that freeing one returns it; but then it raises its idea of "large" to
that block's size, up to 32 MB. After a password hash (19 MB) and a message, both stay with the process for
good, in each thread. A threshold set by hand stays where it is (mallopt(3), M_MMAP_THRESHOLD).
"""

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 1024 * 1024


def return_large_blocks() -> bool:
    """Keep the threshold at 1 MB. Returns False where the C library has no such setting (musl needs none)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE))

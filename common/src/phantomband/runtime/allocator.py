"""Tells glibc's malloc to keep large blocks instead of giving them back to the kernel after each message; and to give
back what it kept, once a peak is over.

gRPC allocates and frees each message; above malloc's default thresholds (128 KiB) every one is an mmap, a
page-fault storm and a munmap. Large thresholds about double a gRPC lane's speed at 256 KiB messages
(DESIGN.md section 8).
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3
"""Parameter numbers of mallopt(3), glibc's malloc.h."""

MMAP_THRESHOLD_BYTES = 64 * 1024 * 1024
TRIM_THRESHOLD_BYTES = 128 * 1024 * 1024
TOP_PAD_BYTES = 8 * 1024 * 1024


def tune_allocator() -> bool:
    """Sets malloc's thresholds for this process; call it once, first thing in `__main__`.

    Returns: True if the C library took all three; False, with nothing harmed, where there is no mallopt
        (musl, macOS).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = (
        (M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES),
        (M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
        (M_TOP_PAD, TOP_PAD_BYTES),
    )
    return all(mallopt(number, value) == 1 for number, value in settings)


def trim() -> None:
    """Gives the kernel every whole page that malloc keeps unused (malloc_trim(3)); nothing where there is no such call.

    The thresholds above keep up to 128 MiB at the heap's end, and fragments anywhere, for good: after a peak they are
    not needed.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass

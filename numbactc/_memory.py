"""Large arrays, handed from one step of a training loop to the next.

Fresh memory is not free: the operating system zeroes each page at its first touch, which for the gradient of many
classes costs as much as computing it. So the last buffer of each purpose is kept here, and used again once nobody else
refers to it. A loss never takes more than its own arrays: a buffer that does not fit, or is still in use, is let go.

Linux promises more memory than there is, and ends a process that takes it at its word. So what is large is compared
with what is there before it is asked for.
"""

import math
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 16
"""Bytes below which malloc recycles memory well enough by itself."""

LARGE = 1 << 28
"""Bytes from which on it is worth some 100 microseconds to look what is there."""

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")

ALIGNMENT = 64
"""Bytes in a cache line, and in the widest vector."""

_buffers: dict[str, np.ndarray] = {}


def empty(purpose: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """`np.empty(shape, dtype)`, perhaps in memory of an array that nobody refers to any more."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    # taken out, so that no other thread takes it, too
    buffer = _buffers.pop(purpose, None)
    fits = buffer is not None and size + ALIGNMENT <= buffer.size <= 2 * size + ALIGNMENT
    if buffer is None or not fits or _references(buffer) > _FREE:
        del buffer  # before its successor is allocated
        require(purpose, size)
        # NumPy asks for huge pages, which torch.empty does not: fewer page faults
        buffer = np.empty(size + ALIGNMENT, np.uint8)
    _buffers[purpose] = buffer
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def require(purpose: str, size: int) -> None:
    """Raise MemoryError if so many bytes are more than there are, as far as the operating system tells."""
    if size < LARGE:
        return
    there = available()
    if there is not None and size > there:
        raise MemoryError(
            f"{purpose} would take {size / 2**30:.1f} GiB, and {there / 2**30:.1f} GiB of memory are available"
        )


def available() -> int | None:
    """Bytes that can be had without taking them from others, in this container; None where nobody says."""
    found = []
    with suppress(OSError, KeyError, ValueError):
        rows = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        found.append(sum(int(rows[name].split()[0]) for name in ("MemAvailable", "SwapFree")) * 1024)
    with suppress(OSError, KeyError, ValueError):
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        pages = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        # of what is in use, the cache of files is given back when it is needed
        found.append(limit - used + int(pages["inactive_file"]) + int(pages["active_file"]))
    return min(found, default=None)


def _references(buffer: np.ndarray) -> int:
    """To a buffer that a caller holds in a variable: each array, tensor or view in its memory adds one."""
    return sys.getrefcount(buffer)


def _references_of_a_free_one() -> int:
    buffer = np.empty(0, np.uint8)
    return _references(buffer)


_FREE = _references_of_a_free_one()

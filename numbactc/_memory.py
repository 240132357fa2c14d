"""Large arrays, handed from one step of a training loop to the next.

Fresh memory is not free: the operating system zeroes each page at its first touch, which for the gradient of many
classes costs as much as computing it. So the last buffer of each purpose is kept here, and used again once nobody else
refers to it. A loss never takes more than its own arrays: a buffer that does not fit, or is still in use, is let go.
"""

import math
import sys

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 16
"""Bytes below which malloc recycles memory well enough by itself."""

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
        # NumPy asks for huge pages, which torch.empty does not: fewer page faults
        buffer = np.empty(size + ALIGNMENT, np.uint8)
    _buffers[purpose] = buffer
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def _references(buffer: np.ndarray) -> int:
    """To a buffer that a caller holds in a variable: each array, tensor or view in its memory adds one."""
    return sys.getrefcount(buffer)


def _references_of_a_free_one() -> int:
    buffer = np.empty(0, np.uint8)
    return _references(buffer)


_FREE = _references_of_a_free_one()

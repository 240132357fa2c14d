"""Large arrays, handed from one step of a training loop to the next.

Fresh memory is not free: the operating system zeroes each page at its first touch, which for the gradient of many
classes costs as much as computing it. So the last array of each purpose leaves its memory here when it is freed, for
the next one. At most one buffer a purpose is held, and only while no array lives in it: a loss never takes more than
its own arrays.
"""

import weakref

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 16
"""Bytes below which malloc recycles memory well enough by itself."""

ALIGNMENT = 64
"""Bytes in a cache line, and in the widest vector."""

_spares: dict[str, np.ndarray] = {}


def empty(purpose: str, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """`np.empty(shape, dtype)`; its memory comes back here when nobody refers to the array any more."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    # taken out before anything is allocated: a spare that does not fit is freed, never kept beside another
    buffer = _spares.pop(purpose, None)
    if buffer is None or not size + ALIGNMENT <= buffer.size <= 2 * size + ALIGNMENT:
        del buffer
        # NumPy asks for huge pages, which torch.empty does not: fewer page faults
        buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    # frombuffer, not a slice: NumPy would let a view of the slice refer to the buffer past it
    flat: np.ndarray = np.frombuffer(buffer.data[start : start + size], dtype)
    weakref.finalize(flat, _spares.__setitem__, purpose, buffer).atexit = False
    return flat.reshape(shape)

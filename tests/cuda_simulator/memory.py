"""Memory whose every access is checked: global memory by pointer, shared and local arrays."""

from typing import Any

import numpy as np
from greenlet import getcurrent

GARBAGE = 0x5A5A5A5A


class Fault(RuntimeError):
    """An access out of bounds, or of what nobody has written."""


class Race(RuntimeError):
    """Two threads accessed the same element, one of them to write, with no synchronisation between."""


def poison(array: np.ndarray) -> np.ndarray:
    """The same array, full of what should never be read."""
    array.fill(np.nan if array.dtype.kind == "f" else GARBAGE % (1 << (8 * array.itemsize - 1)))
    return array


class Buffer:
    """Memory that the threads of one or more launches share.

    Each element remembers who wrote it last, and, in shared memory, who read it last: the thread, and how often its
    warp and its block had been synchronised by then.
    """

    def __init__(self, array: np.ndarray, name: str, written: bool = False, shared: bool = False) -> None:
        self.array = array if written else poison(array)
        self.integers = array.view(np.int32 if array.itemsize == 4 else np.int64) if array.dtype.kind == "f" else array
        self.name = name
        self.written = bytearray(b"\1" * array.size if written else array.size)
        self.shared = shared
        self.writers: dict[int, Any] = {}
        self.readers: dict[int, Any] = {}

    def begin_launch(self) -> None:
        """A new kernel starts when the one before has ended: whatever that wrote may be read."""
        self.writers.clear()
        self.readers.clear()

    def read(self, index: int) -> None:
        """Check that the current thread may read an element."""
        if not 0 <= index < len(self.written):
            raise Fault(f"{self.name}[{index}] read, of {len(self.written)} elements, by {getcurrent()}")
        if not self.written[index]:
            raise Fault(f"{self.name}[{index}] read by {getcurrent()}, and never written")
        writer = self.writers.get(index)
        if writer is not None:
            getcurrent().must_follow(writer, self.name, index)
        if self.shared:
            self.readers[index] = getcurrent().stamp()

    def write(self, index: int) -> None:
        """Check that the current thread may write an element."""
        if not 0 <= index < len(self.written):
            raise Fault(f"{self.name}[{index}] written, of {len(self.written)} elements, by {getcurrent()}")
        thread = getcurrent()
        for other in (self.writers.get(index), self.readers.get(index) if self.shared else None):
            if other is not None:
                thread.must_follow(other, self.name, index)
        self.written[index] = 1
        self.writers[index] = thread.stamp()


class Pointer:
    """A place in a buffer; indices are elements from there on."""

    __slots__ = ("base", "buffer")

    def __init__(self, buffer: Buffer, base: int = 0) -> None:
        self.buffer, self.base = buffer, base

    def __getitem__(self, index: Any) -> Any:
        at = self.base + int(index)
        self.buffer.read(at)
        return self.buffer.array[at]

    def __setitem__(self, index: Any, value: Any) -> None:
        at = self.base + int(index)
        self.buffer.write(at)
        self.buffer.array[at] = value

    def offset(self, elements: Any) -> "Pointer":
        return Pointer(self.buffer, self.base + int(elements))


class SharedArray(Pointer):
    """As a pointer, but an array has no elements before its first, and is not null."""

    __slots__ = ()


class LocalArray(list[Any]):
    """Registers of one thread: elements keep their type."""

    def __init__(self, size: int, dtype: Any) -> None:
        super().__init__([dtype(np.nan) if dtype in (np.float32, np.float64) else None] * size)
        self.dtype = dtype

    def __getitem__(self, index: Any) -> Any:
        if index < 0:
            raise Fault(f"local array read at {index}")
        value = super().__getitem__(index)
        if value is None:
            raise Fault(f"local array read at {index}, where nothing was written")
        return value

    def __setitem__(self, index: Any, value: Any) -> None:
        if index < 0:
            raise Fault(f"local array written at {index}")
        super().__setitem__(index, value if value.__class__ is self.dtype else self.dtype(value))

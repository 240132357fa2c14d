"""Memory between two pages that nobody may touch: whoever reads or writes beyond an array's end is killed on the spot.

    PYTHONPATH=. python tests/guarded.py end 500       calls 0 to 499 of `fuzz`, arrays directly before a forbidden page
    PYTHONPATH=. python tests/guarded.py start 500     directly behind one

Before them come scores of every width up to four vectors, which draws seldom have where a row ends with its array.
Arguments can be read, not written. What numbactc allocates lies so, too, but for what kernels allocate themselves.
"""

import ctypes
import faulthandler
import itertools
import mmap
import random
import sys
import types
from typing import Any

import numpy as np
import torch
from torch import Tensor

import numbactc
from fuzz import cases
from fuzz.checks import check
from numbactc import _memory

PAGE = mmap.PAGESIZE
NOTHING, READ = 0, 1
BYTES = 160

libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """Some bytes, and a forbidden page at either end; given back to the system with the last array in it."""

    def __init__(self, size: int, at_end: bool) -> None:
        pages = -(-size // PAGE) * PAGE
        self._memory = mmap.mmap(-1, pages + 2 * PAGE)
        self.first = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + PAGE
        self.pages = pages
        self._protect(self.first - PAGE, PAGE, NOTHING)
        self._protect(self.first + pages, PAGE, NOTHING)
        start = PAGE + (pages - size if at_end else 0)
        self.bytes = np.frombuffer(self._memory, np.uint8)[start : start + size]

    def make_read_only(self) -> None:
        self._protect(self.first, self.pages, READ)

    @staticmethod
    def _protect(address: int, size: int, protection: int) -> None:
        if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), protection) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")


def guarded(tensor: Tensor, at_end: bool) -> Tensor:
    """The same tensor with the same strides; its first and its last element are the first and last of the memory."""
    if not tensor.numel():
        return tensor
    plain = torch._neg_view(tensor) if tensor.is_neg() else tensor
    extent = 1 + sum((size - 1) * stride for size, stride in zip(plain.shape, plain.stride(), strict=True))
    flat = plain.as_strided((extent,), (1,))
    memory = Guarded(extent * flat.itemsize, at_end)
    copy = torch.from_numpy(memory.bytes).view(flat.dtype).copy_(flat)
    memory.make_read_only()
    copy = copy.as_strided(plain.shape, plain.stride())
    return torch._neg_view(copy) if tensor.is_neg() else copy


def guard_what_numbactc_allocates(at_end: bool) -> None:
    """In the place of `np.empty` and `np.zeros` in its own modules, and of what recycles memory."""

    def empty(shape: Any, dtype: Any = np.float64) -> np.ndarray:
        shape = shape if isinstance(shape, tuple) else (shape,)
        array = np.empty(0, dtype)
        if array.dtype.names or not all(shape):  # records have an order of their own
            return np.zeros(shape, dtype)
        size = int(np.prod(shape, dtype=object)) * array.itemsize
        found: np.ndarray = Guarded(size, at_end).bytes.view(dtype).reshape(shape)
        return found

    class GuardedNumpy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            return empty if name in ("empty", "zeros") else getattr(np, name)

    for name, module in list(sys.modules.items()):
        if name.startswith("numbactc") and ".kernels" not in name and getattr(module, "np", None) is np:
            module.np = GuardedNumpy("numpy")  # type: ignore[attr-defined]
    _memory.empty = lambda purpose, shape, dtype: empty(shape, dtype)


def call_with_every_width(at_end: bool) -> None:
    """Both losses with their gradients: the first row of the scores is the last one, or the one before."""
    for loss in (numbactc.ctc_loss, numbactc.ctc_loss_with_logits):
        for dtype in (torch.float32, torch.float64):
            for T, C in itertools.product((1, 2), range(2, 65)):
                scores = guarded(torch.zeros(T, 1, C, dtype=dtype), at_end).requires_grad_()
                loss(scores, torch.ones(1, 1, dtype=torch.int64), [T], [1]).backward()


def main(side: str, count: int) -> None:
    faulthandler.enable()
    at_end = side == "end"
    guard_what_numbactc_allocates(at_end)
    call_with_every_width(at_end)
    right = 0
    for seed in range(count):
        case = cases.draw(random.Random(seed).randbytes(BYTES))
        if case.wrong:
            continue
        for name, argument in case.arguments.items():
            if isinstance(argument, Tensor) and name != "blank":
                case.arguments[name] = guarded(argument, at_end)
        check(case)
        right += 1
    print(right)


def do_wrong(what: str) -> None:
    """What a kernel must not do, to see that it would be noticed."""
    array = guarded(torch.zeros(5), at_end=what == "read-beyond")
    offset = {"read-beyond": 20, "read-before": -4, "write": 0}[what]
    number = ctypes.c_float.from_address(array.data_ptr() + offset)
    if what == "write":
        number.value = 1.0
    print(number.value)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(sys.argv[1], int(sys.argv[2]))
    else:
        do_wrong(sys.argv[1])

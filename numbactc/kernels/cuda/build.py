"""What a plan calls a kernel, as a Python function with the types of its arguments."""

from collections.abc import Callable
from typing import Any

from numba.types import CPointer, float32, float64, int32, int64

from numbactc.kernels.cuda.alignment_plan import TRACE_THREADS
from numbactc.kernels.cuda.lattice import make_lattice
from numbactc.kernels.cuda.plan import MOST_LATTICE_WARPS, WARP, Kernel
from numbactc.kernels.cuda.prepare import make_prepare
from numbactc.kernels.cuda.rows import STORED, make_rows_backward, make_rows_forward, real_type
from numbactc.kernels.cuda.traceback import make_span_means, make_traceback
from numbactc.kernels.cuda.viterbi import make_viterbi

INTEGERS, PLACES, DOUBLES = CPointer(int32), CPointer(int64), CPointer(float64)

KERNELS: dict[str, Callable[..., Any]] = {
    "prepare": make_prepare,
    "rows_forward": make_rows_forward,
    "lattice_outer": lambda real, pairs, tiled: make_lattice(real, pairs, tiled, inner=False),
    "lattice_inner": lambda real, pairs, tiled: make_lattice(real, pairs, tiled, inner=True),
    "rows_backward": make_rows_backward,
    "viterbi": make_viterbi,
    "traceback": make_traceback,
    "span_means": make_span_means,
}


def build(kernel: Kernel) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel's function, and the types of its arguments in the order of README.md."""
    return KERNELS[kernel.name](*kernel.options), argument_types(kernel)


def launch_bounds(kernel: Kernel) -> int:
    """The most threads of a block: the compiler must leave registers for them."""
    if kernel.name.startswith("rows"):
        return max(4, int(kernel.options[2])) * WARP
    if kernel.name == "traceback":
        return TRACE_THREADS
    return (4 if kernel.name == "prepare" else MOST_LATTICE_WARPS) * WARP


def argument_types(kernel: Kernel) -> tuple[Any, ...]:
    if kernel.name == "prepare":
        lengths = (INTEGERS, int32, int64)
        return (
            INTEGERS, int32, int64, int64, *lengths, *lengths,
            int32, int32, int32, int64, int32, int32, INTEGERS, PLACES, INTEGERS,
        )  # fmt: skip
    if kernel.name.startswith("lattice"):
        reals = CPointer(float64 if kernel.options[0] == "float64" else float32)
        return (
            *(int32,) * 6, INTEGERS, PLACES, INTEGERS, reals, reals, reals, DOUBLES,
            reals, INTEGERS, reals, *(INTEGERS,) * 5, DOUBLES,
        )  # fmt: skip
    dtype = str(kernel.options[0])
    stored, reals = CPointer(STORED[dtype]), CPointer(real_type(dtype))
    scores: tuple[Any, ...] = (stored, int64, int64, int64)
    prepared = (INTEGERS, PLACES, INTEGERS)
    if kernel.name == "viterbi":
        return (*scores, int32, int32, *prepared, DOUBLES, INTEGERS, DOUBLES, INTEGERS, INTEGERS, DOUBLES)
    if kernel.name == "traceback":
        return (*scores, int32, int32, *prepared, DOUBLES, INTEGERS, DOUBLES, INTEGERS)
    if kernel.name == "span_means":
        return (*scores, *prepared, DOUBLES, INTEGERS, DOUBLES)
    scores = (*scores, int32, int32)
    if kernel.name == "rows_forward":
        return (*scores, *(int32,) * 6, INTEGERS, PLACES, INTEGERS, reals, reals)
    return (
        *scores, *(int32,) * 5, INTEGERS, PLACES, reals, reals, *(INTEGERS,) * 5,
        DOUBLES, int64, stored, int64, int64,
    )  # fmt: skip

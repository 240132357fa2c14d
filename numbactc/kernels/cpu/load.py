"""Rows of any dtype and stride to and from the contiguous float32 or float64 rows that `rows.py` works on.

Half-precision scores arrive as integers of 16 bits, which is all that NumPy and Numba's CPU target can hold of them:
uint16 for bfloat16, int16 for float16. They are widened row by row, never as a whole.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload


@intrinsic
def float16_to_float32(typingctx: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.int16), generate


@intrinsic
def float32_to_float16(typingctx: Any, x: Any) -> Any:
    """Rounded to nearest, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.int16(types.float32), generate


@intrinsic
def bfloat16_to_float32(typingctx: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(args[0], word), ir.Constant(word, 16)), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def float32_to_bfloat16(typingctx: Any, x: Any) -> Any:
    """Rounded to nearest, ties to even; a NaN stays one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.bitcast(args[0], word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(word, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        chosen = builder.select(is_nan, ir.Constant(word, 0x7FC00000), rounded)
        return builder.trunc(builder.lshr(chosen, ir.Constant(word, 16)), ir.IntType(16))

    return types.uint16(types.float32), generate


def widen(x: Any) -> Any:
    """One stored score as a float32 or float64; for kernels only."""
    raise NotImplementedError("widen is compiled into kernels")


@overload(widen)
def _widen(x):
    if x == types.uint16:
        return lambda x: bfloat16_to_float32(x)
    if x == types.int16:
        return lambda x: float16_to_float32(x)
    return lambda x: x


def narrow(x: Any, stored: Any) -> Any:
    """x in the dtype of `stored`; for kernels only."""
    raise NotImplementedError("narrow is compiled into kernels")


@overload(narrow)
def _narrow(x, stored):
    if stored == types.uint16:
        return lambda x, stored: float32_to_bfloat16(x)
    if stored == types.int16:
        return lambda x, stored: float32_to_float16(x)
    return lambda x, stored: x


def load_row(storage: Any, start: Any, stride: Any, scratch: Any) -> Any:
    """The row of scratch.size scores at `start`: a view if that will do, else a copy in scratch; for kernels only."""
    raise NotImplementedError("load_row is compiled into kernels")


@overload(load_row)
def _load_row(storage, start, stride, scratch):
    def copy(storage, start, stride, scratch):
        for c in range(scratch.size):
            scratch[c] = widen(storage[np.uint64(start + c * stride)])
        return scratch

    def view_or_copy(storage, start, stride, scratch):
        if stride == 1:
            return storage[start : start + scratch.size]
        for c in range(scratch.size):
            scratch[c] = storage[np.uint64(start + c * stride)]
        return scratch

    return view_or_copy if storage.dtype == scratch.dtype else copy


def result_row(storage: Any, start: Any, scratch: Any) -> Any:
    """Where to compute the row that will stand at `start`: in place if dtypes agree, else scratch; for kernels only."""
    raise NotImplementedError("result_row is compiled into kernels")


@overload(result_row)
def _result_row(storage, start, scratch):
    if storage.dtype == scratch.dtype:
        return lambda storage, start, scratch: storage[start : start + scratch.size]
    return lambda storage, start, scratch: scratch


def store_row(row: Any, storage: Any, start: Any) -> Any:
    """Put a row of `result_row` in its place, rounded to the dtype of storage; for kernels only."""
    raise NotImplementedError("store_row is compiled into kernels")


@overload(store_row)
def _store_row(row, storage, start):
    if storage.dtype == row.dtype:
        return lambda row, storage, start: None

    def narrow_row(row, storage, start):
        for c in range(row.size):
            storage[np.uint64(start + c)] = narrow(row[c], storage[0])

    return narrow_row

"""What each function of `numbactc.kernels.cuda.intrinsics` gives, by name, on NumPy's scalars."""

from fractions import Fraction
from typing import Any

import numpy as np

from cuda_simulator.memory import Pointer

APPROXIMATION = 2.0**-22
"""Relative error that float32's exp2 may have on a GPU; here it has up to that much, in a way that looks random."""


def mul(a: Any, b: Any) -> Any:
    return a * b


def add(a: Any, b: Any) -> Any:
    return a + b


def fma(a: Any, b: Any, c: Any) -> Any:
    if a.__class__ is np.float32:
        return np.float32(float(a) * float(b) + float(c))
    exact = all(np.isfinite(x) for x in (a, b, c))
    return np.float64(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))) if exact else a * b + c


def maximum(a: Any, b: Any) -> Any:
    return np.fmax(a, b)


def reciprocal(a: Any) -> Any:
    return a.__class__(1) / a


def quotient(a: Any, b: Any) -> Any:
    assert a >= 0 and b > 0
    return np.int32(a // b)


def exp2(x: Any) -> Any:
    if x.__class__ is np.float64:
        return np.exp2(x)
    noise = ((int(x.view(np.int32)) * 2654435761 >> 8) % 2001 - 1000) / 1000
    error = APPROXIMATION * noise if x != np.rint(x) else 0.0
    result = np.float32(np.exp2(np.float64(x)) * (1.0 + error))
    return np.float32(0) if result < np.float32(2.0**-126) else result


def nearest_integer(x: Any) -> Any:
    integer = np.int32 if x.__class__ is np.float32 else np.int64
    limits = np.iinfo(integer)
    if np.isnan(x):
        return integer(0)
    return integer(min(max(int(np.rint(np.clip(x, -(2.0**70), 2.0**70))), limits.min), limits.max))


def bits_of(x: Any) -> Any:
    return x.view(np.int32 if x.__class__ is np.float32 else np.int64)


def float_of(bits: Any) -> Any:
    return bits.view(np.float32 if bits.__class__ is np.int32 else np.float64)


def power_of_two(k: Any, like: Any) -> Any:
    if like.__class__ is np.float32:
        return np.int32((max(int(k), -127) << 23) + (127 << 23)).view(np.float32)
    return np.int64((max(int(k), -1023) << 52) + (1023 << 52)).view(np.float64)


def normalise(m: Any, e: Any, least: Any) -> tuple[Any, Any]:
    assert e.__class__ is np.int32 and not 0 < m < 2.0**-126
    fraction, exponent = np.frexp(m)
    e = np.int32(int(e) + int(exponent) - 1)
    return (m.__class__(2 * fraction), e) if m > 0 and e > least else (m.__class__(0), least)


def offset(pointer: Pointer, elements: Any) -> Pointer:
    return pointer.offset(elements)


def _check_alignment(pointer: Pointer, index: Any, count: int) -> None:
    size = min(16 // pointer.buffer.array.itemsize, count)
    assert (pointer.base + int(index)) % size == 0, (
        f"{pointer.buffer.name}: vector of {count} at {pointer.base + index}"
    )


def _loader(count: int, step: int = 1) -> Any:
    def load(pointer: Pointer, index: Any) -> tuple[Any, ...]:
        _check_alignment(pointer, index, count)
        return tuple(pointer[index + k] for k in range(count))[::step]

    return load


def _storer(count: int, step: int = 1) -> Any:
    def store(pointer: Pointer, index: Any, values: Any) -> None:
        _check_alignment(pointer, index, count)
        for k, value in enumerate([values[k] for k in range(count)][::step]):
            pointer[index + k] = value

    return store


def load_scaled(pointer: Pointer, index: Any) -> tuple[Any, Any]:
    m = pointer[2 * index]
    at = pointer.base + 2 * int(index) + 1
    pointer.buffer.read(at)
    return m, np.int32(pointer.buffer.integers[at])


def store_scaled(pointer: Pointer, index: Any, m: Any, e: Any) -> None:
    assert e.__class__ is np.int32
    pointer[2 * index] = m
    at = pointer.base + 2 * int(index) + 1
    pointer.buffer.write(at)
    pointer.buffer.integers[at] = e


def prefetch(pointer: Pointer, index: Any) -> None:
    assert 0 <= pointer.base + index < pointer.buffer.array.size, pointer.buffer.name


def bfloat16_to_float32(bits: Any) -> Any:
    return np.uint32(int(bits) << 16).view(np.float32)


def float32_to_bfloat16(x: Any) -> Any:
    if np.isnan(x):
        return np.uint16(0x7FC0)
    bits = int(x.view(np.uint32))
    return np.uint16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def float16_to_float32(bits: Any) -> Any:
    return np.float32(np.uint16(bits).view(np.float16))


def float32_to_float16(x: Any) -> Any:
    return np.float16(x).view(np.uint16)


INTRINSICS: dict[str, Any] = {
    **{f"load{count}": _loader(count) for count in (1, 2, 4, 8)},
    **{f"store{count}": _storer(count) for count in (1, 2, 4, 8)},
    **{f"load{count}_backward": _loader(count, -1) for count in (1, 2, 4)},
    **{f"store{count}_backward": _storer(count, -1) for count in (1, 2, 4)},
    "keep": lambda x: x,
    **{
        function.__name__: function
        for function in (
            mul, add, fma, maximum, reciprocal, quotient, exp2, nearest_integer, bits_of, float_of, power_of_two,
            normalise,
            offset, load_scaled, store_scaled, prefetch,
            bfloat16_to_float32, float32_to_bfloat16, float16_to_float32, float32_to_float16,
        )
    },
}  # fmt: skip

"""The simulator's stand-ins for intrinsics agree with the code that Numba is given for them, run on the CPU.

Left out are those that are one call of libdevice or one instruction of a GPU.
"""

from typing import Any

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from cuda_simulator import Buffer, Pointer
from cuda_simulator.intrinsics import INTRINSICS
from numbactc.kernels.cuda import intrinsics

REALS = (np.float32, np.float64)


def on_cpu(cuda_intrinsic: Any) -> Any:
    """The same definition, for Numba's CPU target."""
    return intrinsic(cuda_intrinsic._defn)


def _pointer_to(typingctx: Any, array: Any) -> Any:
    """The address of an array's first element."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate


pointer_to: Any = intrinsic(_pointer_to)


def simulated(array: np.ndarray) -> Pointer:
    return Pointer(Buffer(array, "array", written=True))


@pytest.fixture(autouse=True)
def in_a_thread_of_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pointers ask who reads and writes."""
    monkeypatch.setattr(Buffer, "read", lambda self, index: None)
    monkeypatch.setattr(Buffer, "write", lambda self, index: None)


@pytest.mark.parametrize("real", REALS)
def test_power_of_two_and_normalise(real: Any) -> None:
    power, normalise = on_cpu(intrinsics.power_of_two), on_cpu(intrinsics.normalise)

    def both(k: Any, m: Any, e: Any, least: Any) -> Any:
        return power(k, m), normalise(m, e, least)

    compiled = njit(both)

    least = np.int32(-(1 << 29))
    for k in (-5000, -1023, -1022, -128, -127, -126, -1, 0, 1, 60, 127):
        for m in (0.0, 1.0, 0.75, 3.999, 2.0**40, 1.5 * 2.0**-100):
            for e in (0, 17, -1000, -(1 << 29) - 5, -(1 << 29) + 200):
                k32, e32, value = np.int32(k), np.int32(e), real(m)
                raised, (fraction, exponent) = compiled(k32, value, e32, least)
                assert raised == INTRINSICS["power_of_two"](k32, value) == (2.0**k if k >= -126 else raised)
                assert (fraction, exponent) == INTRINSICS["normalise"](value, e32, least)
                assert fraction == 0 or 1 <= fraction < 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint16], ids=str)
@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("backward", [False, True])
def test_vectors(dtype: Any, count: int, backward: bool) -> None:
    if backward and count == 8:
        return
    suffix = "_backward" if backward else ""
    load = on_cpu((intrinsics.LOADS_BACKWARD if backward else intrinsics.LOADS)[count])
    store = on_cpu((intrinsics.STORES_BACKWARD if backward else intrinsics.STORES)[count])
    memory = np.zeros(40, dtype)
    start = -(memory.ctypes.data // memory.itemsize) % (16 // memory.itemsize)
    source = memory[start : start + 24]
    source[:] = np.arange(24) * 2701 + 1

    def move(array: Any, values: Any, index: Any) -> None:
        pointer = pointer_to(array)
        loaded = load(pointer, index)
        for k in range(count):
            values[k] = loaded[k]
        store(pointer, index + 8, values)

    compiled = njit(move)

    values, index = np.zeros(count, dtype), np.int32(8)
    expected = source.copy()
    stand_in = simulated(expected)
    loaded = INTRINSICS[f"load{count}{suffix}"](stand_in, 8)
    INTRINSICS[f"store{count}{suffix}"](stand_in, 16, loaded)
    compiled(source, values, index)
    assert values.tolist() == [value.item() for value in loaded]
    assert source.tolist() == expected.tolist()


@pytest.mark.parametrize("real", REALS)
def test_scaled_numbers_in_memory(real: Any) -> None:
    load, store = on_cpu(intrinsics.load_scaled), on_cpu(intrinsics.store_scaled)
    memory = np.zeros(20, real)
    start = -(memory.ctypes.data // memory.itemsize) % 2
    memory = memory[start : start + 16]

    def round_trip(array: Any, index: Any, m: Any, e: Any) -> Any:
        pointer = pointer_to(array)
        store(pointer, index, m, e)
        return load(pointer, index)

    compiled = njit(round_trip)

    stand_in = simulated(np.zeros(16, real))
    for index, m, e in ((0, 1.25, -7), (3, 0.0, -(1 << 29)), (7, 1.75, 123456)):
        assert compiled(memory, np.int32(index), real(m), np.int32(e)) == (m, e)
        INTRINSICS["store_scaled"](stand_in, np.int32(index), real(m), np.int32(e))
        assert INTRINSICS["load_scaled"](stand_in, np.int32(index)) == (m, e)
    assert memory.tobytes() == stand_in.buffer.array.tobytes()


def test_bfloat16() -> None:
    widen, narrow = on_cpu(intrinsics.bfloat16_to_float32), on_cpu(intrinsics.float32_to_bfloat16)

    def both(bits: Any, x: Any) -> Any:
        return widen(bits), narrow(x)

    compiled = njit(both)

    for x in (0.0, -0.0, 1.0, 1.00390625, 1.01171875, -3.3e38, 3.4e38, np.inf, -np.inf, np.nan, 1e-40):
        value = np.float32(x)
        bits = np.uint16(value.view(np.uint32) >> 16)
        wide, narrowed = compiled(bits, value)
        assert np.float32(wide).tobytes() == INTRINSICS["bfloat16_to_float32"](bits).tobytes()
        assert narrowed == INTRINSICS["float32_to_bfloat16"](value)


def test_quotient() -> None:
    divide = on_cpu(intrinsics.quotient)

    def quotient(a: Any, b: Any) -> Any:
        return divide(a, b)

    compiled = njit(quotient)

    for a, b in ((0, 1), (7, 2), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (6399, 16), (15, 16)):
        assert compiled(np.int32(a), np.int32(b)) == a // b == INTRINSICS["quotient"](np.int32(a), np.int32(b))

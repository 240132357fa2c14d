"""Vectors as values in kernels, and exp of them, against NumPy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from numbactc.kernels.cpu import lanes, vector_memory
from numbactc.kernels.cpu.exp import LOWEST, exp, exp_times
from numbactc.kernels.cpu.vector_memory import load, load_first, store, store_first
from numbactc.kernels.jit import FAST_MATH

compiled: Callable[..., Any] = njit(fastmath=FAST_MATH, error_model="numpy")


@compiled
def exp_of(x, to):  # type: ignore[no-untyped-def]
    for i in range(0, x.size, lanes.lanes_of(x)):
        store(to, i, exp(load(x, i), to))


@compiled
def exp_times_of(x, factor, to):  # type: ignore[no-untyped-def]
    for i in range(0, x.size, lanes.lanes_of(x)):
        store(to, i, exp_times(load(x, i), lanes.splat(factor), to))


def arguments(dtype: type) -> np.ndarray:
    """Numbers all over the range of exp, and as many near 0."""
    lowest = LOWEST[np.dtype(dtype).itemsize * 8]
    return np.concatenate([np.linspace(lowest, 0, 4096), np.linspace(-2, 0, 4096)]).astype(dtype).clip(lowest, 0)


def relative_error(x: np.ndarray, result: np.ndarray) -> np.ndarray:
    # long double is wide enough for both on x86; elsewhere it may be float64, and adds an error of its own
    exact = np.exp(x.astype(np.longdouble))
    slack = 0.0 if np.finfo(np.longdouble).eps < 1e-18 else 2.3e-16
    error: np.ndarray = np.abs(result.astype(np.longdouble) / exact - 1) - slack
    return error


@pytest.mark.parametrize(("dtype", "bound", "slope"), [(np.float32, 1.3e-7, 3e-9), (np.float64, 3.5e-16, 4e-17)])
def test_exp_is_exact_to_its_last_digit(dtype: type, bound: float, slope: float) -> None:
    """Near 0, and nearly so far from it. A unit in the last place is 1.2e-7 or 2.2e-16."""
    x = arguments(dtype)
    result = np.empty_like(x)
    exp_of(x, result)
    assert (relative_error(x, result) <= bound - slope * x).all()


def test_exp_in_float64_is_as_exact_as_numbers_in_float32_deserve() -> None:
    @compiled
    def emissions(x, like, to):  # type: ignore[no-untyped-def]
        for i in range(0, x.size, lanes.lanes_of(x)):
            store(to, i, exp(load(x, i), like))

    x = arguments(np.float64)
    x = x[x > -80]
    result = np.empty_like(x)
    emissions(x[: x.size // 8 * 8], np.empty(0, np.float32), result)
    assert (relative_error(x, result)[: x.size // 8 * 8] <= 3e-12).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_at_the_ends(dtype: type) -> None:
    width = np.dtype(dtype).itemsize * 8
    x: np.ndarray = np.resize(np.array([-np.inf, -1e30, LOWEST[width], 0.0], dtype), 16)
    result = np.empty_like(x)
    exp_of(x, result)
    low = result[2]
    assert 0 < low < 2 * np.finfo(dtype).tiny
    np.testing.assert_array_equal(result[:4], np.array([low, low, low, 1.0], dtype))
    exp_times_of(x, dtype(3), result)
    np.testing.assert_array_equal(result[[0, 1, 3]], np.array([0, 0, 3], dtype))


NAN_BITS = [0x7FC00000, 0x7FC00001, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFC12345]


@pytest.mark.parametrize("bits", NAN_BITS, ids=hex)
def test_exp_of_a_nan_is_one_whatever_its_bits(bits: int) -> None:
    narrow = np.full(16, bits, np.uint32).view(np.float32)
    digits = bits & 0x7FFFFF
    wide = np.full(8, bits >> 31 << 63 | 0x7FF << 52 | digits << 29 | digits, np.uint64).view(np.float64)
    for x in (narrow, wide):
        assert np.isnan(x).all()
        result = np.zeros_like(x)
        exp_of(x, result)
        assert np.isnan(result).all()
        exp_times_of(x, x.dtype.type(3), result)
        assert np.isnan(result).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 3, 7, 8])
def test_first_lanes_alone_are_read_and_written(dtype: type, count: int) -> None:
    @compiled
    def copy(x, start, count, to):  # type: ignore[no-untyped-def]
        store_first(to, start, count, load_first(x, start, count, -1))

    @compiled
    def fill(x, start, count, to):  # type: ignore[no-untyped-def]
        store(to, 0, load_first(x, start, count, -1))

    x: np.ndarray = np.arange(64, dtype=dtype)
    result: np.ndarray = np.full(64, 99, dtype)
    copy(x, 5, count, result)
    expected: np.ndarray = np.full(64, 99, dtype)
    expected[5 : 5 + count] = x[5 : 5 + count]
    np.testing.assert_array_equal(result, expected)
    fill(x, 5, count, result)
    width = 64 // np.dtype(dtype).itemsize
    np.testing.assert_array_equal(result[:width], [*x[5 : 5 + count], *[-1] * (width - count)])


@compiled
def shuffles(x, to):  # type: ignore[no-untyped-def]
    a, b = load(x, (0, 0)), load(x, (1, 0))
    store(to, (0, 0), lanes.from_left(a, b))
    store(to, (1, 0), lanes.from_right(a, b))


@compiled
def transposed(x, to):  # type: ignore[no-untyped-def]
    rows = lanes.transpose(
        (
            load(x, (0, 0)), load(x, (1, 0)), load(x, (2, 0)), load(x, (3, 0)),
            load(x, (4, 0)), load(x, (5, 0)), load(x, (6, 0)), load(x, (7, 0)),
        )
    )  # fmt: skip
    for i in range(8):
        store(to, (i, 0), rows[i])


def test_neighbours_and_transpose() -> None:
    x = np.arange(64.0).reshape(8, 8)
    result = np.empty_like(x)
    shuffles(x, result)
    np.testing.assert_array_equal(result[0], [x[0, 7], *x[1, :7]])
    np.testing.assert_array_equal(result[1], [*x[0, 1:], x[1, 0]])
    transposed(x, result)
    np.testing.assert_array_equal(result, x.T)


@compiled
def gathers(x, places, y, to):  # type: ignore[no-untyped-def]
    store(to, 0, vector_memory.gather(x, 3, load(places, 0)))
    store(y, 0, vector_memory.gather_listed(y, places, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gather(dtype: type) -> None:
    x, places = np.random.default_rng(0).random(40), np.random.default_rng(1).integers(0, 30, 17)
    y: np.ndarray = np.arange(100, 140, dtype=dtype)
    result = np.empty(8)
    width = 64 // np.dtype(dtype).itemsize
    expected = y[places[1 : 1 + width]]
    gathers(x, places, y, result)
    np.testing.assert_array_equal(result, x[3 + places[:8]])
    np.testing.assert_array_equal(y[:width], expected)


@compiled
def lanewise(x, y, i, j, floats, integers):  # type: ignore[no-untyped-def]
    a, b, m, n = load(x, 0), load(y, 0), load(i, 0), load(j, 0)
    store(floats, (0, 0), a + b)
    store(floats, (1, 0), a - b)
    store(floats, (2, 0), a * b)
    store(floats, (3, 0), lanes.multiply_add(a, b, b))
    nearest, power = lanes.nearest_and_power(a, lanes.splat(10.0))
    store(floats, (4, 0), nearest)
    store(floats, (10, 0), power)
    store(floats, (5, 0), lanes.at_least(a, b))
    store(floats, (6, 0), lanes.at_most(a, b))
    store(floats, (7, 0), lanes.where_not_less(a, b, a, lanes.splat(7.0)))
    store(floats, (8, 0), lanes.with_exponents(m + lanes.splat(1023)))
    store(floats, (9, 0), lanes.where_positive(m, a, b))
    store(integers, (0, 0), m + n)
    store(integers, (1, 0), m - n)
    store(integers, (2, 0), m * n)
    store(integers, (3, 0), lanes.at_least(m, n))
    store(integers, (4, 0), lanes.at_most(m, n))
    store(integers, (5, 0), lanes.exponents(lanes.at_least(a, lanes.splat(0.0))) - lanes.splat(1023))
    return lanes.sum_of(a), lanes.smallest_of(a), lanes.largest_of(a), lanes.largest_of(m)


def test_lane_by_lane() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=8), rng.normal(size=8)
    i, j = rng.integers(-40, 40, 8), rng.integers(-40, 40, 8)
    floats, integers = np.empty((11, 8)), np.empty((6, 8), np.int64)
    total, smallest, largest, largest_integer = lanewise(x, y, i, j, floats, integers)
    expected = [
        x + y, x - y, x * y, x * y + y, np.rint(x * 10), np.maximum(x, y), np.minimum(x, y),
        np.where(x >= y, x, 7.0), 2.0**i, np.where(i > 0, x, y), 2.0 ** np.rint(x * 10),
    ]  # fmt: skip
    np.testing.assert_allclose(floats, expected, rtol=1e-15)
    np.testing.assert_array_equal(integers[:5], [i + j, i - j, i * j, np.maximum(i, j), np.minimum(i, j)])
    for value, exponent in zip(x.tolist(), integers[5].tolist(), strict=True):
        assert exponent == (math.frexp(value)[1] - 1 if value > 0 else -1023)
    assert total == pytest.approx(x.sum(), rel=1e-14)
    assert (smallest, largest, largest_integer) == (x.min(), x.max(), i.max())


@compiled
def comparisons_with_nan(x, low, to):  # type: ignore[no-untyped-def]
    a, b = load(x, 0), load(low, 0)
    store(to, (0, 0), lanes.at_least(a, b))
    store(to, (1, 0), lanes.at_most(a, b))
    store(to, (2, 0), lanes.where_not_less(a, b, lanes.splat(1.0), lanes.splat(0.0)))


def test_nan_comes_through() -> None:
    x, result = np.full(8, np.nan), np.empty((3, 8))
    comparisons_with_nan(x, np.zeros(8), result)
    assert np.isnan(result[:2]).all()
    assert (result[2] == 1.0).all()

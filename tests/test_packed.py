"""What kernels take as one word: each kind of field is where it was put, however they are nested."""

import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest

from numbactc.kernels.jit import entry
from numbactc.kernels.packed import Packed, packed, record


class Numbers(NamedTuple):
    whole: int
    half: float
    yes: bool
    values: np.ndarray


class Everything(NamedTuple):
    numbers: Packed
    given: Packed


@entry
def double(everything: Any, more: Any) -> Any:
    """Double what is in all arrays; returns all numbers and sizes."""
    more = packed(more)
    given, numbers = everything.given, everything.numbers
    for i in range(given.first.size):
        given.first[i] *= 2
    for i in range(given.inner.deep.size):
        given.inner.deep[i] *= 2
    given.inner.deeper.single[0] *= 2
    for i in range(given.last.size):
        given.last[i] *= 2
    for i in range(numbers.values.size):
        numbers.values[i] *= 2
        more[i] *= 2
    return numbers.whole, numbers.half, numbers.yes, given.first.size, given.inner.deep.size, given.last.size


def filled() -> Packed:
    """Records of which each array has numbers of its own."""
    deeper = record(single=(np.float64, 1))
    inner = record(deep=(np.int32, 3), deeper=deeper)
    content = np.zeros((), record(first=(np.int8, 5), inner=inner, last=(np.float64, 2)))
    content["first"][:], content["inner"]["deep"][:] = np.arange(5), 10 + np.arange(3)
    content["inner"]["deeper"]["single"][:], content["last"][:] = 0.25, (100.5, 200.5)
    return Packed(Everything(Packed(Numbers(-7, 0.5, True, np.arange(4.0))), Packed(content)))


def contents(everything: Packed) -> list[Any]:
    """All numbers of all arrays."""
    given, inner = everything.content.given.content, everything.content.given.content["inner"]
    arrays = given["first"], inner["deep"], inner["deeper"]["single"], given["last"]
    return [array.tolist() for array in (*arrays, everything.content.numbers.content.values)]


def test_kernels_find_every_field() -> None:
    everything, more = filled(), np.arange(4)
    assert double(everything, more) == (-7, 0.5, True, 5, 3, 2)
    assert contents(everything) == [[0, 2, 4, 6, 8], [20, 22, 24], [0.5], [201.0, 401.0], [0, 2, 4, 6]]
    assert more.tolist() == [0, 2, 4, 6]


def test_a_copy_has_memory_of_its_own() -> None:
    everything = filled()
    other = pickle.loads(pickle.dumps(everything))
    double(other, np.arange(4))
    assert contents(everything) == contents(filled()) != contents(other)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.zeros(4)[::2]])
def test_other_arrays_are_refused(values: np.ndarray) -> None:
    with pytest.raises(AssertionError):
        Packed(Numbers(0, 0.0, False, values))

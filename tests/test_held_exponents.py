"""Which states may share an exponent over a block: what is refused is right all the same, but many times slower."""

from typing import NamedTuple

import numpy as np
import pytest

from numbactc.kernels.cpu import linear
from numbactc.kernels.cpu.linear import LEFT, NO_MASS, PAD, RIGHT
from test_vectors import compiled

pytestmark = pytest.mark.cpu_only

FRAMES, LABELS = 16, 20
PLACES = 4 * PAD
FIRST, LAST = PAD, 3 * PAD
ROOM = 400
SIDES = [LEFT, RIGHT]


class Pairs(NamedTuple):
    b: np.ndarray
    l: np.ndarray
    eb: np.ndarray
    el: np.ndarray


def lone_place(side: int) -> int:
    """The places between hold a label each: in both directions the lone blank is the last on the way."""
    return int(PAD + 1 + LABELS if side < 0 else PAD)


def way_of(side: int) -> list[int]:
    """Places of the pairs with a label, the lone blank's neighbour last."""
    places = range(PAD + 1, PAD + 1 + LABELS)
    return list(places if side < 0 else reversed(places))


def pairs(side: int, rise: int = 0) -> Pairs:
    """Mass everywhere, `rise` binary digits more in each pair than in the one that it is reached from."""
    b, l = np.zeros(PLACES), np.zeros(PLACES)
    eb, el = np.full(PLACES, NO_MASS), np.full(PLACES, NO_MASS)
    for i, j in enumerate(way_of(side)):
        b[j], l[j], eb[j], el[j] = 1.0, 1.0, i * rise, i * rise
    b[lone_place(side)], eb[lone_place(side)] = 1.0, LABELS * rise
    return Pairs(b, l, eb, el)


@compiled
def hold_exponents(b, l, eb, el, first, last, lone, frames, side, room, masked, scratch):  # type: ignore[no-untyped-def]
    return linear.hold_exponents(b, l, eb, el, first, last, lone, frames, side, room, masked, scratch)


def held(states: Pairs, side: int, masked: bool = False) -> bool:
    scratch = np.zeros((5, PLACES), np.int64)
    answer: bool = hold_exponents(*states, FIRST, LAST, lone_place(side), FRAMES, side, ROOM, masked, scratch)
    return answer


@pytest.mark.parametrize("side", SIDES)
def test_steep_states_up_to_the_lone_blank_are_held(side: int) -> None:
    """Far more frames than labels: the pairs at the start are 2**600 behind, and what they send no longer counts."""
    assert held(pairs(side, rise=30), side)


@pytest.mark.parametrize("side", SIDES)
def test_what_counts_beside_a_masked_class_is_waited_for(side: int) -> None:
    """It can take all mass from a state, so that the little that arrives is all there is."""
    assert not held(pairs(side, rise=30), side, masked=True)
    assert held(pairs(side), side, masked=True)


@pytest.mark.parametrize("side", SIDES)
def test_a_state_may_lie_as_far_below_its_pair_as_there_is_room(side: int) -> None:
    states = pairs(side)
    states.eb[PAD + 5] = -ROOM
    assert held(states, side)
    states = pairs(side)
    states.eb[PAD + 5] = -ROOM - 1
    before = [array.copy() for array in states]
    assert not held(states, side)
    for array, old in zip(states, before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("side", SIDES)
def test_held_states_keep_their_values(side: int) -> None:
    states = pairs(side, rise=30)
    before = Pairs(*(array.copy() for array in states))
    assert held(states, side)
    for m, e, old_m, old_e in ((states.b, states.eb, before.b, before.eb), (states.l, states.el, before.l, before.el)):
        alive = old_m > 0
        np.testing.assert_array_equal(np.log2(m[alive]) + e[alive], old_e[alive])
        assert (m[~alive] == 0).all()
    np.testing.assert_array_equal(states.eb, states.el)

"""The automaton of a back-off model takes the longest n-gram it knows, and pays for each it lacks."""

from collections.abc import Sequence

import numpy as np
import pytest

from numbactc.kernels.cpu import hashing, ngram
from numbactc.kernels.jit import entry

A, B, END, START = range(4)
AFTER_START, AFTER_A, AFTER_START_A, AFTER_A_B = range(1, 5)

ARCS = [
    (0, A, -1.0, AFTER_A),
    (0, B, -2.0, 0),
    (0, END, -3.0, 0),
    (0, START, -99.0, AFTER_START),
    (AFTER_START, A, -0.5, AFTER_START_A),
    (AFTER_A, B, -0.25, AFTER_A_B),
    (AFTER_START_A, B, -0.125, AFTER_A_B),
]
"""The n-grams of a model of words a and b: state of the history, word, nats, next state."""

BACKOFFS = [(0.0, 0), (-10.0, 0), (-20.0, 0), (-40.0, AFTER_A), (-80.0, 0)]
"""For each state, what it costs to leave it, and the state to go to."""


@entry
def fill(keys, arcs, states, words):  # type: ignore[no-untyped-def]
    for arc in range(states.size):
        if states[arc] > 0:
            arcs[hashing.insert(keys, states[arc] * 4 + words[arc])] = arc


@pytest.fixture(scope="module")
def automaton() -> ngram.Automaton:
    states, words, log_probs, next_states = zip(*ARCS, strict=True)
    keys = np.full(hashing.capacity(len(ARCS)), hashing.EMPTY, np.int64)
    arcs = np.full(keys.size, 2**30, np.int32)
    fill(keys, arcs, np.array(states), np.array(words))
    nats, backoff_states = zip(*BACKOFFS, strict=True)
    return ngram.Automaton(
        keys, arcs, np.array(log_probs), np.array(next_states, np.int32),
        np.array(nats), np.array(backoff_states, np.int32),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "nats", "state"),
    [
        ([], 0.0, AFTER_START),
        ([A], -0.5, AFTER_START_A),
        ([A, B], -0.625, AFTER_A_B),
        ([A, B, END], -0.625 - 80 - 3, 0),
        ([B], -10 - 2, 0),
        ([A, A], -0.5 - 40 - 20 - 1, AFTER_A),
        ([A, A, B], -0.5 - 40 - 20 - 1 - 0.25, AFTER_A_B),
        ([A, B, A], -0.625 - 80 - 1, AFTER_A),
    ],
)
def test_sentences_by_hand(automaton: ngram.Automaton, words: Sequence[int], nats: float, state: int) -> None:
    assert ngram.follow(automaton, 4, AFTER_START, np.array(words, np.int64)) == (nats, state)


def test_the_empty_history_knows_every_word(automaton: ngram.Automaton) -> None:
    for word, (_, _, nats, state) in enumerate(ARCS[:4]):
        assert ngram.follow(automaton, 4, 0, np.array([word])) == (nats, state)

"""A back-off n-gram model as an automaton: a state for each history, an arc for each n-gram.

The arc of an n-gram leaves the state of its history by its last word. The arcs of the empty history, state 0, come
first and in the order of the vocabulary, so that the arc of a unigram has the number of its word and needs no search.
"""

from typing import NamedTuple

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu.hashing import find
from numbactc.kernels.jit import entry, inlined


class Automaton(NamedTuple):
    """V words, A arcs, S states; natural logarithms."""

    keys: np.ndarray
    """(H,) int64, a hash table of the arcs of other states than 0: state * V + word, -1 where empty."""
    arcs: np.ndarray
    """(H,) int32 the arc of each slot."""
    log_probs: np.ndarray
    """(A,) float64 of the word after the history."""
    next_states: np.ndarray
    """(A,) int32 the longest history that matters after the word."""
    backoffs: np.ndarray
    """(S,) float64 what is added when a state has no arc for a word."""
    backoff_states: np.ndarray
    """(S,) int32 the state to look in then; of shorter histories, hence smaller numbers. State 0 has 0."""


@inlined
def borrowed(automaton):
    """The automaton without reference counts, for the time in which the caller keeps it."""
    return Automaton(
        borrow(automaton.keys),
        borrow(automaton.arcs),
        borrow(automaton.log_probs),
        borrow(automaton.next_states),
        borrow(automaton.backoffs),
        borrow(automaton.backoff_states),
    )


@inlined
def advance(automaton, vocabulary_size, state, word):
    """Nats of a word, from 0 to V - 1, after a state, and the state after it."""
    state = np.int64(state)
    nats = 0.0
    arc = np.int64(word)
    while state != 0:
        slot = find(automaton.keys, state * vocabulary_size + word)
        if slot >= 0:
            arc = np.int64(automaton.arcs[slot])
            break
        nats += automaton.backoffs[state]
        state = np.int64(automaton.backoff_states[state])
    return nats + automaton.log_probs[arc], np.int64(automaton.next_states[arc])


@entry
def follow(automaton, vocabulary_size, state, words):
    """Nats of all words, one after the other, from a state, and the state after the last."""
    automaton = borrowed(automaton)
    nats = 0.0
    state = np.int64(state)
    for i in range(words.size):
        more, state = advance(automaton, vocabulary_size, state, words[i])
        nats += more
    return nats, state

"""A step, and a walk, through the automaton of a back-off n-gram model."""

import numpy as np

from numbactc.kernels.automata import Automaton as Automaton
from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu.hashing import find
from numbactc.kernels.jit import entry, inlined


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

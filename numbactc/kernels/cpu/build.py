"""The automaton of a back-off model from its n-grams, order by order."""

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu.hashing import find, insert
from numbactc.kernels.cpu.ngram import advance, borrowed
from numbactc.kernels.jit import entry, kernel

FINE, NO_HISTORY, REPEATED = range(3)
"""What may be wrong with an n-gram."""


@entry
def add_ngrams(automaton, vocabulary_size, words, first, given, keeps, useful):
    """Give every n-gram its arc, and those that may be histories the state of that arc; all shorter ones have theirs.

    Args:
        automaton: to be written; log_probs and backoffs are there already.
        words: (count, n) int32.
        first: the arc of the first of them; the others follow.
        given: how many of them have log_probs; those of the rest are what the shorter ones give.
        keeps: whether there is a longer order, so that these are histories.
        useful: (S,) bool, marked where a state has arcs.

    Returns:
        What is wrong with an n-gram, or FINE; which it is.
    """
    automaton, words, useful = borrowed(automaton), borrow(words), borrow(useful)
    for row in range(words.shape[0]):
        arc = first + row
        history = state_of(automaton, vocabulary_size, words, row)
        if history < 0:
            return NO_HISTORY, row
        word = np.int64(words[row, words.shape[1] - 1])
        if row >= given:
            nats, _ = advance(automaton, vocabulary_size, automaton.backoff_states[history], word)
            automaton.log_probs[arc] = automaton.backoffs[history] + nats
        suffix = after_suffix(automaton, vocabulary_size, history, word)
        automaton.next_states[arc] = arc + 1 if keeps else suffix
        if keeps:
            automaton.backoff_states[arc + 1] = suffix
        if history > 0:
            key = history * vocabulary_size + word
            if find(automaton.keys, key) >= 0:
                return REPEATED, row
            automaton.arcs[insert(automaton.keys, key)] = arc
            useful[history] = True
    return FINE, 0


@kernel
def state_of(automaton, vocabulary_size, words, row):
    """The state of all words of an n-gram but its last; -1 if they are no n-gram."""
    state = np.int64(0)
    for i in range(words.shape[1] - 1):
        word = np.int64(words[row, i])
        arc = word
        if state > 0:
            slot = find(automaton.keys, state * vocabulary_size + word)
            if slot < 0:
                return np.int64(-1)
            arc = np.int64(automaton.arcs[slot])
        state = arc + 1
    return state


@kernel
def after_suffix(automaton, vocabulary_size, history, word):
    """The state of the longest n-gram that ends a history and the word, without the history's first word."""
    if history == 0:
        return np.int64(0)
    state = np.int64(automaton.backoff_states[history])
    while state > 0:
        slot = find(automaton.keys, state * vocabulary_size + word)
        if slot >= 0:
            return np.int64(automaton.arcs[slot]) + 1
        state = np.int64(automaton.backoff_states[state])
    return word + 1


@entry
def shorten(automaton, useful, targets):
    """Let nothing lead to a state that neither has arcs nor asks for nats: to what it backs off to instead.

    `useful` marks the states that have arcs; targets (S,) int32 is room to work in.
    """
    automaton, useful, targets = borrowed(automaton), borrow(useful), borrow(targets)
    targets[0] = 0
    for state in range(1, targets.size):
        backoff_state = targets[automaton.backoff_states[state]]
        automaton.backoff_states[state] = backoff_state
        targets[state] = state if useful[state] or automaton.backoffs[state] != 0.0 else backoff_state
    for arc in range(automaton.next_states.size):
        automaton.next_states[arc] = targets[automaton.next_states[arc]]

"""What kernels read of a language model and of a lexicon, as arrays; this file needs no Numba."""

from typing import NamedTuple

import numpy as np


class Automaton(NamedTuple):
    """A back-off n-gram model of V words: A arcs, one for each n-gram; S states; natural logarithms.

    The arc of an n-gram leaves the state of its history by its last word. The arcs of the empty history, state 0, come
    first and in the order of the vocabulary, so that the arc of a unigram has the number of its word and needs no
    search. The longer n-grams follow, order by order, and arc a leads to state a + 1 unless that would do nothing.
    """

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


class Trie(NamedTuple):
    """A lexicon of M nodes and W spellings; node 0 is the root, and children have larger numbers than their parents."""

    keys: np.ndarray
    """(H,) int64, a hash table of all nodes but the root: parent * 2**32 + token, -1 where empty."""
    children: np.ndarray
    """(H,) int32 the node of each slot."""
    word_starts: np.ndarray
    """(M + 1,) int32 words[word_starts[m] : word_starts[m + 1]] are those that end at node m."""
    words: np.ndarray
    """(W,) int32 numbers of words, increasing at each node: homophones share one."""

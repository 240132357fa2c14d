"""From lexicons and language models to the CPU's kernels.

Numba is imported by the first call, not with the package.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numbactc.kernels.automata import Automaton as Automaton
    from numbactc.kernels.automata import Trie as Trie


class Ngrams(NamedTuple):
    """All n-grams of one order; natural logarithms."""

    words: np.ndarray
    """(count, n) int32 numbers in the vocabulary; the unigrams are 0, 1, 2, ..."""
    log_probs: np.ndarray
    """(count,) float64 of the last word after the others."""
    backoffs: np.ndarray
    """(count,) float64; of the longest order not used."""


class NoHistory(ValueError):
    """An n-gram whose history, all its words but the last, is no n-gram."""


class Repeated(ValueError):
    """An n-gram that is there twice: its order, and its place among those of the order."""

    def __init__(self, order: int, row: int) -> None:
        super().__init__(order, row)
        self.order, self.row = order, row


def source_of_kernels() -> str:
    """A hash of the kernels' source, for what is kept on disk between versions."""
    from numbactc.kernels.sources import source_hash

    return source_hash("cpu")


def write_file(folder: Path, name: str, fill: Callable[[IO[bytes]], Any]) -> bool:
    """As `kernels.disk.write`."""
    from numbactc.kernels import disk

    return disk.write(folder, name, fill)


def restored(arrays: Mapping[str, np.ndarray]) -> "Automaton":
    """The automaton of its arrays, by name; KeyError if one is missing."""
    from numbactc.kernels.automata import Automaton

    return Automaton(*(arrays[name] for name in Automaton._fields))


def automaton(orders: Sequence[Ngrams], given: Sequence[int]) -> "Automaton":
    """The automaton of n-grams of order 1, 2, ...; given[n - 1] of order n have a probability, the rest take theirs
    from the shorter ones.

    Raises:
        NoHistory, Repeated: as their names say.
    """
    from numbactc.kernels.automata import Automaton
    from numbactc.kernels.cpu import build, hashing

    counts = [len(ngrams.words) for ngrams in orders]
    firsts = np.cumsum([0, *counts])
    states = 1 + int(firsts[-2])
    keys = np.full(hashing.capacity(int(firsts[-1]) - counts[0]), hashing.EMPTY, np.int64)
    its = Automaton(
        keys,
        np.zeros(keys.size, np.int32),
        np.concatenate([ngrams.log_probs for ngrams in orders]),
        np.zeros(firsts[-1], np.int32),
        np.concatenate([np.zeros(1)] + [ngrams.backoffs for ngrams in orders[:-1]]),
        np.zeros(states, np.int32),
    )
    useful = np.zeros(states, np.bool_)
    for n, ngrams in enumerate(orders, 1):
        fault, row = build.add_ngrams(
            its, counts[0], ngrams.words, int(firsts[n - 1]), given[n - 1], n < len(orders), useful
        )
        if fault == build.NO_HISTORY:
            raise NoHistory(n, row)
        if fault == build.REPEATED:
            raise Repeated(n, row)
    build.shorten(its, useful, np.empty(states, np.int32))
    return its


def follow(its: "Automaton", vocabulary_size: int, state: int, words: np.ndarray) -> tuple[float, int]:
    """Nats of words (int64, one after the other) from a state, and the state after the last."""
    from numbactc.kernels.cpu import ngram

    return ngram.follow(its, vocabulary_size, state, words)  # type: ignore[no-any-return]


class ArpaReader:
    """Reads the sections of an ARPA file, the unigrams' first: they are the vocabulary of the others."""

    def __init__(self, text: bytes, vocabulary_size: int) -> None:
        from numbactc.kernels.cpu import arpa, hashing

        self._text = np.frombuffer(text, np.uint8)
        keys = np.full(hashing.capacity(vocabulary_size), hashing.EMPTY, np.int64)
        self._vocabulary = arpa.Vocabulary(
            keys,
            np.empty(keys.size, np.int32),
            np.empty(vocabulary_size, np.int64),
            np.empty(vocabulary_size, np.int64),
        )

    def read(self, position: int, order: int, count: int) -> tuple[Ngrams, int, int, str]:
        """The n-grams from a position on, at most count of them, base 10.

        Returns:
            The n-grams; how many were read; the position after them, or of the line that is wrong; what is wrong, "" if
            nothing is.
        """
        from numbactc.kernels.cpu import arpa

        ngrams = Ngrams(np.empty((count, order), np.int32), np.empty(count), np.empty(count))
        fault, end, read = arpa.read_section(self._text, position, order, self._vocabulary, *ngrams)
        return ngrams, read, end, arpa.FAULTS[fault]

    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each word of the vocabulary begins and ends, once the unigrams have been read."""
        return self._vocabulary.begins, self._vocabulary.ends


def trie(spellings: Sequence[Sequence[int]], words: Sequence[int]) -> "Trie":
    """The trie of all spellings; spelling i is of the word words[i]."""
    from numbactc.kernels.automata import Trie
    from numbactc.kernels.cpu import hashing, trie

    starts = np.zeros(len(spellings) + 1, np.int64)
    np.cumsum([len(spelling) for spelling in spellings], out=starts[1:])
    flat = np.fromiter((token for spelling in spellings for token in spelling), np.int64, int(starts[-1]))
    keys = np.full(hashing.capacity(flat.size), hashing.EMPTY, np.int64)
    children = np.empty(keys.size, np.int32)
    ends = np.empty(len(spellings), np.int32)
    nodes = trie.build(keys, children, ends, flat, starts)
    numbers = np.asarray(words, np.int32)
    order = np.lexsort((numbers, ends))
    word_starts = np.searchsorted(ends[order], np.arange(nodes + 1)).astype(np.int32)
    return Trie(keys, children, word_starts, numbers[order])

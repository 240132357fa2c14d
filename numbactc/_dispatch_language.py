"""From lexicons and language models to the CPU's kernels.

Numba is imported by the first call, not with the package.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numbactc.kernels.cpu.trie import Trie as Trie


def trie(spellings: Sequence[Sequence[int]], words: Sequence[int]) -> "Trie":
    """The trie of all spellings; spelling i is of the word words[i]."""
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
    return trie.Trie(keys, children, word_starts, numbers[order])

"""A lexicon as a trie: a node for each beginning of a spelling, found by its parent and the token that leads to it."""

import numpy as np

from numbactc.kernels.automata import Trie as Trie
from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu.hashing import find
from numbactc.kernels.jit import entry, inlined


@inlined
def borrowed(trie):
    """The trie without reference counts, for the time in which the caller keeps it."""
    return Trie(borrow(trie.keys), borrow(trie.children), borrow(trie.word_starts), borrow(trie.words))


@inlined
def arc(node, token):
    """The key of a node's child: whatever tokens the scores have, no two arcs share one."""
    return np.int64(node) << 32 | np.int64(token)


@inlined
def child(trie, node, token):
    """The node that a token leads to; -1 where no word goes on like this."""
    slot = find(trie.keys, arc(node, token))
    return np.int64(trie.children[slot]) if slot >= 0 else np.int64(-1)


@entry
def build(keys, children, ends, spellings, starts):
    """Fill an empty table with the nodes of all spellings.

    Args:
        keys, children: a table for as many nodes as spellings has tokens.
        ends: (W,) int32 to be written: the node at which each spelling ends.
        spellings: int64, flat; spelling i is spellings[starts[i] : starts[i + 1]].

    Returns:
        M, the number of nodes, the root among them.
    """
    keys, children, ends = borrow(keys), borrow(children), borrow(ends)
    spellings, starts = borrow(spellings), borrow(starts)
    nodes = 1
    for i in range(ends.size):
        node = np.int64(0)
        for position in range(starts[i], starts[i + 1]):
            key = arc(node, spellings[position])
            slot = find(keys, key)
            if slot < 0:
                slot = ~slot
                keys[slot] = key
                children[slot] = nodes
                nodes += 1
            node = np.int64(children[slot])
        ends[i] = node
    return nodes

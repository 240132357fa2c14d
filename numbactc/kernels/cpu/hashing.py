"""Hash tables in one array of int64 keys: open addressing, linear probing, -1 where nobody is.

A table maps keys >= 0 to slots; the caller keeps whatever belongs to a key in arrays of its own, at the same slot. Its
length is a power of two, and at least one slot must stay empty, or the search for an absent key would never end:
`capacity` leaves half of them. Nothing is ever removed.
"""

import numpy as np

from numbactc.kernels.jit import inlined

EMPTY = -1


def capacity(entries: int) -> int:
    """The length of a table for so many keys: a power of two, at least twice as many."""
    return 1 << max(1, (2 * entries - 1).bit_length())


@inlined
def find(keys, key):
    """The slot that holds the key; where none does, ~slot (negative) of the empty one where it belongs."""
    mask = keys.size - 1
    slot = scattered(key) & mask
    while keys[slot] != key:
        if keys[slot] == EMPTY:
            return ~slot
        slot = (slot + 1) & mask
    return slot


@inlined
def insert(keys, key):
    """The key's slot, taken now if it had none."""
    slot = find(keys, key)
    if slot < 0:
        slot = ~slot
        keys[slot] = key
    return slot


@inlined
def scattered(key):
    """Bits that neighbouring keys do not share: the finaliser of MurmurHash3, without its last rounds."""
    bits = np.uint64(key)
    bits ^= bits >> np.uint64(33)
    bits *= np.uint64(0xFF51AFD7ED558CCD)
    bits ^= bits >> np.uint64(33)
    return np.int64(bits)

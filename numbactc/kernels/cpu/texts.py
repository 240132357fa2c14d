"""Exact log-probabilities of many texts of one utterance: the forward recursion over the tree of their prefixes.

Texts that one search finds have most of their prefixes in common. A node of the tree is a prefix, with two sums over
all its paths: of those that end in a blank, and of those that end in its last token. Levels are of prefixes of one
length.

Emissions are divided by their sum over the texts' classes. Paths that are in one state go on by different classes, so
sums never grow from frame to frame, and what is left out on the way would have been no more at the end. That makes two
things safe: levels in which there is next to nothing are left out, most of a long tree in most frames, and numbers are
plain float64 on a common scale. The sum of all that was left out is returned, as the bound of what the result lacks.
"""

import math
from typing import NamedTuple

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu.exp import exp_times
from numbactc.kernels.cpu.hashing import EMPTY, find
from numbactc.kernels.cpu.lanes import lanes_of, splat, sum_of
from numbactc.kernels.cpu.load import widen
from numbactc.kernels.cpu.vector_memory import load, store
from numbactc.kernels.jit import entry, inlined, kernel
from numbactc.kernels.packed import packed

ROOT = 0
"""The empty prefix."""

FAINTEST = 1e-280
"""Sums below it are left out, for arithmetic on subnormal numbers is slow."""

FAINT = 2.0**-64
"""Where the largest sum is less, the scale changes."""

LN_2 = math.log(2.0)


class Tree(NamedTuple):
    """Room for P prefixes in D levels, of K texts; parents have smaller numbers than children."""

    parent: np.ndarray
    """(P,) int32"""
    column: np.ndarray
    """(P,) int32 of the emission of the last token."""
    first: np.ndarray
    """(D + 1,) int32 the first node of each level, and the end of the last."""
    ends: np.ndarray
    """(K,) int32 the node that is the whole text."""
    classes: np.ndarray
    """(C,) int32 the class of each column: the blank first, then the texts' tokens."""
    column_of: np.ndarray
    """(C,) int32 the column of each class, -1 for none."""
    keys: np.ndarray
    """(H,) int64 a hash table of the prefixes: parent * C + token."""
    nodes: np.ndarray
    """(H,) int32"""
    emissions: np.ndarray
    """(at least C + VECTOR,) float64 of one frame, by column; that behind the last one is the root's, and 0."""
    blank: np.ndarray
    """(P,) float64 sum over the paths that end in a blank."""
    label: np.ndarray
    """(P,) float64 sum over the paths that end in the last token."""


@entry
def log_probs(storage, strides, utterance, frames, blank, tokens, lengths, floor, tree, emissions, results):
    """The log-probability of each text.

    Args:
        storage, strides: score (t, n, c) is at storage[t * strides[0] + n * strides[1] + c * strides[2]]; there is no
            NaN and no +inf.
        tokens, lengths: the texts, one after the other, and (K,) their lengths.
        floor: nats; a level that has less is left out, apart from what emissions are divided by.
        tree, emissions: a packed `Tree`, and its emissions.
        results: (K,) float64 output, nats.

    Returns:
        An upper bound of what any result lacks, relative to its probability: inf if it may be all there is. And the
        logarithm of what emissions have been divided by.
    """
    storage, strides, tokens, lengths = packed(storage), packed(strides), packed(tokens), packed(lengths)
    emissions, results = borrow(emissions), packed(results)
    columns, deepest = plant(blank, tokens, lengths, tree)
    tree.blank[ROOT] = 1.0
    low, high, exponent = 0, 0, 0
    divided, left_out, least = 0.0, 0.0, math.exp(floor)
    for t in range(frames):
        start = t * strides[0] + utterance * strides[1]
        divisor = read_emissions(storage, start, strides[2], columns, tree, emissions)
        divided += divisor
        if divisor == -np.inf:
            break
        high = min(high + 1, deepest)
        largest = step(low, high, tree)
        left_out += FAINTEST * (2 + 2 * (tree.first[high + 1] - tree.first[low]))
        if largest < FAINT:
            shift = math.frexp(largest)[1]
            exponent += shift
            rescale(low, high, math.ldexp(1.0, -shift), tree)
            left_out = left_out * math.ldexp(1.0, -shift)
            least = math.exp(floor - exponent * LN_2)
        while low < high and mass(high, tree) < least:
            left_out += clear(high, tree)
            high -= 1
        while low < high and mass(low, tree) < least:
            left_out += clear(low, tree)
            low += 1
    lacking = 0.0
    for k in range(results.size):
        node = tree.ends[k]
        found = tree.blank[node] + tree.label[node] if divided > -np.inf else 0.0
        results[k] = math.log(found) + exponent * LN_2 + divided
        if divided > -np.inf:
            lacking = max(lacking, left_out / found if found > 0.0 else np.inf)
    return lacking, divided


@kernel
def plant(blank, tokens, lengths, tree):
    """Make the tree, level by level, with sums of 0; returns the number of columns, and the last level."""
    for c in range(tree.column_of.size):
        tree.column_of[c] = -1
    for slot in range(tree.keys.size):
        tree.keys[slot] = EMPTY
    for k in range(tree.ends.size):
        tree.ends[k] = ROOT
    tree.column_of[blank], tree.classes[0] = 0, blank
    columns, used, level = 1, 1, 0
    tree.first[0] = ROOT
    tree.parent[ROOT] = ROOT
    while True:
        tree.first[level + 1] = used
        start = 0
        for k in range(lengths.size):
            if lengths[k] > level:
                token = tokens[start + level]
                if tree.column_of[token] < 0:
                    tree.column_of[token], tree.classes[columns] = columns, token
                    columns += 1
                used = grow(k, token, used, tree)
            start += lengths[k]
        if used == tree.first[level + 1]:
            break
        level += 1
    for node in range(used):
        tree.blank[node] = tree.label[node] = 0.0
    tree.column[ROOT] = columns
    return columns, level


@inlined
def grow(k, token, used, tree):
    """Lead a text to its prefix that is one token longer, a new one if there is none; returns how many there are."""
    parent = tree.ends[k]
    key = np.int64(parent) * tree.column_of.size + token
    slot = find(tree.keys, key)
    if slot < 0:
        slot = ~slot
        tree.keys[slot], tree.nodes[slot] = key, used
        tree.parent[used], tree.column[used] = parent, tree.column_of[token]
        used += 1
    tree.ends[k] = tree.nodes[slot]
    return used


@kernel
def read_emissions(storage, start, stride, columns, tree, emissions):
    """One frame's emissions, divided by their sum; returns its logarithm, -inf if they are all 0.

    Whole vectors of them are computed: the columns behind the last, that of the root among them, are 0.
    """
    lanes = lanes_of(emissions)
    whole = (columns // lanes + 1) * lanes
    largest = -np.inf
    for k in range(columns):
        emissions[k] = widen(storage[start + tree.classes[k] * stride])
        largest = max(largest, emissions[k])
    if largest == -np.inf:
        return largest
    for k in range(columns, whole):
        emissions[k] = -np.inf
    sums = splat(0.0)
    for k in range(0, whole, lanes):
        vector = exp_times(load(emissions, k) - splat(largest), splat(1.0), emissions)
        store(emissions, k, vector)
        sums = sums + vector
    total = sum_of(sums)
    for k in range(0, whole, lanes):
        store(emissions, k, load(emissions, k) * splat(1.0 / total))
    return largest + math.log(total)


@kernel
def step(low, high, tree):
    """One frame for these levels; returns the largest sum. Children come first: they need what parents had."""
    p_blank, largest = tree.emissions[0], 0.0
    for node in range(tree.first[high + 1] - 1, tree.first[low] - 1, -1):
        parent, column = tree.parent[node], tree.column[node]
        arriving = tree.blank[parent]
        if tree.column[parent] != column:
            arriving += tree.label[parent]
        blank = (tree.blank[node] + tree.label[node]) * p_blank
        label = (tree.label[node] + arriving) * tree.emissions[column]
        tree.blank[node] = blank if blank > FAINTEST else 0.0
        tree.label[node] = label if label > FAINTEST else 0.0
        largest = max(largest, blank, label)
    return largest


@kernel
def rescale(low, high, factor, tree):
    for node in range(tree.first[low], tree.first[high + 1]):
        tree.blank[node] *= factor
        tree.label[node] *= factor


@inlined
def mass(level, tree):
    """The sum of all that is in a level."""
    total = 0.0
    for node in range(tree.first[level], tree.first[level + 1]):
        total += tree.blank[node] + tree.label[node]
    return total


@kernel
def clear(level, tree):
    """Leave a level out; returns what was in it."""
    total = mass(level, tree)
    for node in range(tree.first[level], tree.first[level + 1]):
        tree.blank[node] = tree.label[node] = 0.0
    return total

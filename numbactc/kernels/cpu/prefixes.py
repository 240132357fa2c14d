"""The prefixes of a search as a tree, and the frames in which their tokens begin as chains.

A prefix is a node: its parent is the prefix without its last token. A table finds a node by parent and token for as
long as the node is in the beam or has descendants there: a prefix that fell out of the beam and comes back is the same
node, so that it meets the descendants that survived it.

A moment is a frame in which a token begins, and the moment of the token before. The best path of a prefix has the
moment of its last token; chains share what they have in common.

Nodes and moments that the beam no longer leads to are collected when memory runs out, so it grows with the length of
the result and with the beam, not with the number of frames.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from numbactc.kernels.cpu.hashing import EMPTY, capacity, find, insert
from numbactc.kernels.cpu.scoring import standing_record
from numbactc.kernels.jit import linked
from numbactc.kernels.packed import record

ROOT = 0
"""The empty prefix."""

NEVER = 0
"""The moment before all others; what the empty prefix has."""

NODES, MOMENTS, COLLECTIONS = range(3)
"""Places in `used`."""


@lru_cache
def prefixes_record(nodes: int, scored: bool) -> Any:
    """Room for P nodes and M = 2 P moments.

    Parents have smaller numbers than children, earlier moments than later ones. Where nothing is to be scored there is
    only the root's standing.
    """
    moments, slots = 2 * nodes, capacity(nodes)
    return record(
        parent=(np.int32, nodes),
        # the last token; -1 for the root
        token=(np.int32, nodes),
        # in the beam, if it is there: see `place_of`
        place=(np.int32, nodes),
        standing=standing_record(nodes if scored else 1),
        # a hash table of all nodes but the root: parent * C + token, and the node of each slot
        keys=(np.int64, slots),
        nodes=(np.int32, slots),
        # the moment of the token before, and the frame
        before=(np.int32, moments),
        frame=(np.int32, moments),
        # to work in
        renamed=(np.int32, moments),
        # numbers of nodes and of moments, and how often they have been collected
        used=(np.int64, 3),
    )


@lru_cache
def beam_record(width: int) -> Any:
    """W places for prefixes. Sums are relative to the search's scale, paths in nats."""
    return record(
        node=(np.int32, width),
        # sum over the paths that end in a blank, weighted by what scores the prefix has from elsewhere ...
        blank=(np.float64, width),
        # ... and over those that end in the last token
        label=(np.float64, width),
        # the best of either
        best_blank=(np.float64, width),
        best_label=(np.float64, width),
        # the moment of the last token on it
        moment_blank=(np.int32, width),
        moment_label=(np.int32, width),
    )


@linked
def fill(values, count, value):
    """Give the first ones all the same value."""
    for i in range(count):
        values[i] = value


def plant(prefixes: np.ndarray, beam: np.ndarray) -> None:
    """The root alone, in the beam, and its empty path."""
    prefixes["keys"][:] = EMPTY
    prefixes["used"][:] = 1, 1, 0
    for name, number in {"parent": ROOT, "token": -1, "place": 0, "before": NEVER, "frame": -1}.items():
        prefixes[name][0] = number
    for name, value in {"blank": 1.0, "label": 0.0, "best_blank": 0.0, "best_label": -np.inf}.items():
        beam[name][0] = value
    beam["node"][0], beam["moment_blank"][0], beam["moment_label"][0] = ROOT, NEVER, NEVER


@linked
def place_of(node, prefixes, beam, size):
    """Where in the beam a node is; -1 if it is not."""
    place = np.int64(prefixes.place[node])
    return place if place < size and beam.node[place] == node else np.int64(-1)


@linked
def child_of(node, token, prefixes, classes):
    """The node one token further, which is added if there is none, and whether it was."""
    key = np.int64(node) * classes + token
    slot = find(prefixes.keys, key)
    if slot >= 0:
        return np.int64(prefixes.nodes[slot]), False
    child = prefixes.used[NODES]
    prefixes.used[NODES] += 1
    prefixes.keys[~slot] = key
    prefixes.nodes[~slot] = child
    prefixes.parent[child] = node
    prefixes.token[child] = token
    return child, True


@linked
def moment_after(moment, frame, prefixes):
    """A token begins in this frame."""
    new = prefixes.used[MOMENTS]
    prefixes.used[MOMENTS] += 1
    prefixes.before[new] = moment
    prefixes.frame[new] = frame
    return new


@linked
def has_room(beam, size, prefixes, width, classes):
    """Make room for what a frame may add. False if too little becomes free: then arrays should be twice as long."""
    used = prefixes.used
    # a node for each new prefix; a moment for each new prefix, and for each that its parent leads to again, twice
    if used[NODES] + width <= prefixes.parent.size and used[MOMENTS] + 3 * width <= prefixes.before.size:
        return True
    collect_nodes(beam, size, prefixes)
    collect_moments(beam, size, prefixes)
    fill_table(prefixes, classes)
    used[COLLECTIONS] += 1
    # collecting takes as long as there are nodes, so it must not happen too often
    return 2 * (used[NODES] + width) <= prefixes.parent.size and 2 * (used[MOMENTS] + 3 * width) <= prefixes.before.size


@linked
def collect_nodes(beam, size, prefixes):
    """Keep the beam's nodes and their ancestors, in their order."""
    renamed, parent, token = prefixes.renamed, prefixes.parent, prefixes.token
    mark_chains(beam.node, size, parent, renamed, prefixes.used[NODES])
    count = np.int64(0)
    for old in range(prefixes.used[NODES]):
        if renamed[old] >= 0:
            renamed[old] = count
            parent[count] = renamed[parent[old]]
            token[count] = token[old]
            if prefixes.standing.factor.size > 1:
                move_standing(prefixes.standing, old, count)
            count += 1
    prefixes.used[NODES] = count
    for i in range(size):
        beam.node[i] = renamed[beam.node[i]]
        prefixes.place[beam.node[i]] = i


@linked
def move_standing(standing, old, new):
    standing.factor[new], standing.nats[new] = standing.factor[old], standing.nats[old]
    standing.context[new], standing.spelling[new] = standing.context[old], standing.spelling[old]
    standing.hot[new] = standing.hot[old]


@linked
def collect_moments(beam, size, prefixes):
    """Keep the moments of the beam's paths, in their order."""
    renamed, before, frame = prefixes.renamed, prefixes.before, prefixes.frame
    mark_chains(beam.moment_blank, size, before, renamed, prefixes.used[MOMENTS])
    mark_more_chains(beam.moment_label, size, before, renamed)
    count = 0
    for old in range(prefixes.used[MOMENTS]):
        if renamed[old] >= 0:
            renamed[old] = count
            before[count] = renamed[before[old]]
            frame[count] = frame[old]
            count += 1
    prefixes.used[MOMENTS] = count
    for i in range(size):
        beam.moment_blank[i] = renamed[beam.moment_blank[i]]
        beam.moment_label[i] = renamed[beam.moment_label[i]]


@linked
def mark_chains(heads, size, before, marks, used):
    """marks = 0 for the first links of all chains, for 0, and for whatever they lead to; -1 for the rest."""
    fill(marks, used, -1)
    marks[0] = 0
    mark_more_chains(heads, size, before, marks)


@linked
def mark_more_chains(heads, size, before, marks):
    for i in range(size):
        link = heads[i]
        while marks[link] < 0:
            marks[link] = 0
            link = before[link]


@linked
def fill_table(prefixes, classes):
    fill(prefixes.keys, prefixes.keys.size, EMPTY)
    for node in range(1, prefixes.used[NODES]):
        slot = insert(prefixes.keys, np.int64(prefixes.parent[node]) * classes + prefixes.token[node])
        prefixes.nodes[slot] = node


@linked
def length_of(node, prefixes):
    length = 0
    while node != ROOT:
        node = prefixes.parent[node]
        length += 1
    return length


@linked
def log_factors(node, prefixes):
    """Nats that a prefix has from elsewhere than its paths, one factor for each of its tokens."""
    nats = 0.0
    while node != ROOT:
        nats += math.log(prefixes.standing.factor[node])
        node = np.int64(prefixes.parent[node])
    return nats


@linked
def spell(node, moment, prefixes, tokens, times, start, stop):
    """Write the tokens of a prefix and the frames of a chain of as many moments."""
    for i in range(stop - 1, start - 1, -1):
        tokens[i] = prefixes.token[node]
        times[i] = prefixes.frame[moment]
        node = prefixes.parent[node]
        moment = prefixes.before[moment]

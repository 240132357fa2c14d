"""Which prefixes one frame makes of those in the beam: each may stay, and each may be extended by a token.

Probabilities are relative to the frame's best score. What cannot be among the W most likely is left out as early as it
is known to be: first by class, then by prefix and class. The bound for it is what W candidates are known to reach.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbactc.kernels.cpu.hashing import EMPTY, scattered
from numbactc.kernels.cpu.prefixes import COLLECTIONS, fill, moment_after, place_of
from numbactc.kernels.cpu.scoring import factor_of
from numbactc.kernels.cpu.selection import kth_largest, make_heap, push
from numbactc.kernels.jit import linked
from numbactc.kernels.packed import record

IMPOSSIBLE = 1e-280
"""A prefix that is so much less likely than the best one is not kept: products stay in the range of normal numbers."""

SLACK = 1.0 - 1e-12
"""A bound is rounded down, so that round-off excludes nothing that equals it."""


FACTORS = 1 << 12
"""Factors of scoring that are remembered: a power of two, 16 bytes each."""


class Settings(NamedTuple):
    """What the caller asked for."""

    blank: int
    width: int
    """W, the size of the beam."""
    keep: float
    """A prefix less likely than the best one by this factor is pruned; 0 for none."""
    lowest: float
    """A class below this log-probability extends no prefix; -inf for none."""


@lru_cache
def workspace_record(width: int, classes: int, scored: bool) -> Any:
    """Arrays to work in, for W prefixes, C classes and K candidates."""
    candidates, factors = 4 * width + 60, FACTORS if scored else 1
    return record(
        # the scores of the frame
        row=(np.float64, classes),
        # exp(score - highest score), where `computed` is the number of the frame
        emission=(np.float64, classes),
        computed=(np.int64, classes),
        # the number of the prefix whose child by this token is in the beam; see `mark_children`
        taken=(np.int64, classes),
        # the classes that may extend prefixes, most likely first
        tokens=(np.int32, classes),
        # the most that they can multiply a probability by: emissions, times what scoring adds at most
        likelihood=(np.float64, classes),
        # how likely the prefixes of the beam are after the frame
        stay=(np.float64, width),
        # place of a child in the beam, -1 for none, and of the next child of the same parent
        child=(np.int32, width),
        sibling=(np.int32, width),
        # of candidates: the place of the prefix that they extend, by which token, and how likely they are
        entry=(np.int32, candidates),
        token=(np.int32, candidates),
        mass=(np.float64, candidates),
        # numbers to select from, and the largest so far
        pool=(np.float64, width + max(candidates, classes)),
        heap=(np.float64, width),
        # node * C + token, or -1: whose factors are in `answers`; they are asked for in each frame of the prefix
        asked=(np.int64, factors),
        answers=(np.float64, factors),
        # how many prefixes have marked their children so far; `COLLECTIONS` when `asked` was cleared
        marks=(np.int64, 2),
    )


@linked
def emission_of(token, highest, frame, work):
    """exp(score - highest), computed once for each class and frame."""
    if work.computed[token] != frame:
        work.computed[token] = frame
        work.emission[token] = math.exp(work.row[token] - highest)
    return work.emission[token]


@linked
def stay(old, new, size, highest, frame, settings, prefixes, work):
    """Each prefix of the beam through one more frame: by a blank, its last token again, or from its parent.

    Returns:
        How likely the best prefix was before, where it is, and how likely the best and the worst are now.
    """
    row = work.row
    p_blank = emission_of(settings.blank, highest, frame, work)
    best_before, best_place, best, worst = -1.0, 0, 0.0, np.inf
    fill(work.child, size, -1)
    for i in range(size):
        before = old.blank[i] + old.label[i]
        if before > best_before:
            best_before, best_place = before, i
        node = np.int64(old.node[i])
        token = np.int64(prefixes.token[node])
        new.node[i] = node
        blank = before * p_blank
        new.blank[i] = blank
        path, moment = best_path(old, i)
        new.best_blank[i], new.moment_blank[i] = path + row[settings.blank], moment
        label, path, moment = 0.0, -np.inf, np.int64(0)
        if token >= 0:
            p = emission_of(token, highest, frame, work)
            label, path, moment = old.label[i] * p, old.best_label[i] + row[token], np.int64(old.moment_label[i])
            parent = np.int64(prefixes.parent[node])
            place = place_of(parent, prefixes, old, size)
            if place >= 0:
                work.sibling[i] = work.child[place]
                work.child[place] = i
                mass, arriving, earlier = leaving(old, place, prefixes.token[parent] == token)
                if prefixes.standing.factor.size > 1:
                    mass *= prefixes.standing.factor[node]
                label += mass * p
                arriving += row[token]
                if arriving > path:
                    path, moment = arriving, moment_after(earlier, frame, prefixes)
        new.label[i], new.best_label[i], new.moment_label[i] = label, path, moment
        total = blank + label
        work.stay[i] = total
        best, worst = max(best, total), min(worst, total)
    return best_before, best_place, best, worst


@linked
def best_path(beam, i):
    """The best path of a prefix and its moment."""
    if beam.best_blank[i] >= beam.best_label[i]:
        return beam.best_blank[i], np.int64(beam.moment_blank[i])
    return beam.best_label[i], np.int64(beam.moment_label[i])


@linked
def leaving(beam, i, repeats):
    """How likely a prefix is, its best path and moment: of paths that end in a blank, if a token repeats the last."""
    if repeats:
        return beam.blank[i], beam.best_blank[i], np.int64(beam.moment_blank[i])
    path, moment = best_path(beam, i)
    return beam.blank[i] + beam.label[i], path, moment


@linked
def likely_tokens(best_before, bound, highest, frame, settings, ceilings, work):
    """List the classes whose extension of the most likely prefix may reach the bound; returns how many there are."""
    row = work.row
    least = math.log(bound / best_before) + highest - 1e-9
    count = 0
    for token in range(row.size):
        score = row[token]
        gain = 0.0
        if ceilings.size > 0:
            gain = ceilings[token]
        if score + gain >= least and (score >= settings.lowest or score == highest) and token != settings.blank:
            work.tokens[count] = token
            work.likelihood[count] = emission_of(token, highest, frame, work) * math.exp(gain)
            count += 1
    return count


@linked
def mark_children(place, prefixes, beam, work):
    """A mark that `taken` has at the tokens by which extensions of the prefix are in the beam: these just stay."""
    work.marks[0] += 1
    mark = work.marks[0]
    child = work.child[place]
    while child >= 0:
        work.taken[prefixes.token[beam.node[child]]] = mark
        child = work.sibling[child]
    return mark


@linked
def factor(place, token, old, prefixes, scorer, work):
    """What scoring multiplies an extension's probability by."""
    node = np.int64(old.node[place])
    key = node * work.row.size + token
    slot = scattered(key) & (work.asked.size - 1)
    if work.asked[slot] != key:
        work.asked[slot] = key
        work.answers[slot] = factor_of(scorer, prefixes.standing, prefixes, node, token)
    return work.answers[slot]


@linked
def forget_factors(prefixes, work):
    """Nodes have other numbers after a collection, and another meaning in another utterance."""
    work.marks[1] = prefixes.used[COLLECTIONS]
    fill(work.asked, work.asked.size, EMPTY)


@linked
def raise_bound(bound, place, size, tokens, old, prefixes, settings, scorer, work):
    """A higher bound, and the classes that reach it: what W of those that stay and extend the best prefix reach."""
    if size + tokens <= settings.width:
        return bound, tokens
    least = 0.0
    if scorer.active and tokens > settings.width:  # scoring takes time: that of the most promising will do
        copy(work.likelihood, tokens, work.pool)
        least = kth_largest(work.pool, tokens, settings.width)
    mark = mark_children(place, prefixes, old, work)
    last = prefixes.token[old.node[place]]
    before = old.blank[place] + old.label[place]
    copy(work.stay, size, work.pool)
    count = size
    for i in range(tokens):
        token = np.int64(work.tokens[i])
        if work.likelihood[i] >= least and work.taken[token] != mark:
            mass = (old.blank[place] if token == last else before) * work.emission[token]
            if scorer.active:
                mass *= factor(place, token, old, prefixes, scorer, work)
            work.pool[count] = mass
            count += 1
    if count < settings.width:
        return bound, tokens
    bound = max(bound, kth_largest(work.pool, count, settings.width) * SLACK)
    kept = 0
    for i in range(tokens):
        if before * work.likelihood[i] >= bound:
            work.tokens[kept], work.likelihood[kept] = work.tokens[i], work.likelihood[i]
            kept += 1
    return bound, kept


@linked
def extend(bound, best_place, size, tokens, old, prefixes, settings, scorer, work):
    """List the extensions that reach the bound, of the best prefix first; returns how many there are.

    Where scoring takes time, the bound is what the W-th best reaches of all that are known so far.
    """
    count, known = np.int64(0), np.int64(0)
    for turn in range(size):
        place = best_place + turn
        if place >= size:
            place -= size
        before = old.blank[place] + old.label[place]
        if before * work.likelihood[0] < bound:
            continue
        last = prefixes.token[old.node[place]]
        mark = mark_children(place, prefixes, old, work)
        for i in range(tokens):
            if before * work.likelihood[i] < bound:
                break
            token = np.int64(work.tokens[i])
            mass = old.blank[place] if token == last else before
            if mass * work.likelihood[i] < bound or work.taken[token] == mark:
                continue
            mass *= work.emission[token]
            if scorer.active:
                mass *= factor(place, token, old, prefixes, scorer, work)
                if mass < bound:
                    continue
                if known == 0:
                    copy(work.stay, size, work.heap)
                    make_heap(work.heap, size)
                    known = size
                known = push(work.heap, known, settings.width, mass)
                if known == settings.width:
                    bound = max(bound, work.heap[0] * SLACK)
            if count == work.mass.size:
                least, ties = entrance(size, count, settings, work)
                bound = max(bound, least * SLACK)
                count = keep_candidates(least, ties, size, count, work)
            work.entry[count], work.token[count], work.mass[count] = place, token, mass
            count += 1
    return count


@linked
def copy(values, count, to):
    for i in range(count):
        to[i] = values[i]


@linked
def entrance(size, count, settings, work):
    """What a prefix must reach to be among the W most likely, and how many that equal it find a place."""
    if size + count <= settings.width:
        return 0.0, np.int64(size + count)
    copy(work.stay, size, work.pool)
    for i in range(count):
        work.pool[size + i] = work.mass[i]
    least = kth_largest(work.pool, size + count, settings.width)
    ties = settings.width
    for i in range(settings.width):
        if work.pool[i] > least:
            ties -= 1
    return least, np.int64(ties)


@linked
def keep_candidates(least, ties, size, count, work):
    """Drop the candidates that are not among the W most likely; returns how many are left."""
    for i in range(size):
        if work.stay[i] == least:
            ties -= 1
    kept = 0
    for i in range(count):
        mass = work.mass[i]
        if mass > least or (mass == least and ties > 0):
            ties -= mass == least
            work.entry[kept], work.token[kept], work.mass[kept] = work.entry[i], work.token[i], mass
            kept += 1
    return kept

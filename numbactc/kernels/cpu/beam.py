"""Prefix beam search, frame by frame, with sums over all alignments of each prefix in linear float64.

A prefix has two probabilities: of its paths that end in a blank, and of those that end in its last token. Both are
relative to a common scale, whose logarithm is kept apart; it is adjusted by powers of two, which costs no digit.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu import prefixes as tree
from numbactc.kernels.cpu.candidates import (
    IMPOSSIBLE,
    SLACK,
    best_path,
    entrance,
    extend,
    forget_factors,
    leaving,
    likely_tokens,
    raise_bound,
    stay,
)
from numbactc.kernels.cpu.load import widen
from numbactc.kernels.cpu.prefixes import beam_record, prefixes_record
from numbactc.kernels.cpu.rows import row_is_bad, row_max
from numbactc.kernels.cpu.scoring import Scorer, last_gain, stand_at_child, stand_at_root
from numbactc.kernels.cpu.selection import sort_descending
from numbactc.kernels.jit import entry, linked
from numbactc.kernels.packed import Packed, packed, record

ODD, SIZE, FRAMES, EXPONENT, FATE, MOVED = range(6)
"""Places in a state's `counts`: whether the last frame's beam is the odd one, how many prefixes are in it, how many
frames have been read, the scale's exponent, how the search fares, and whether the prefixes have moved to larger arrays
since, where their table is to be filled again."""

ALIVE, IMPASSE, NOT_A_NUMBER = range(3)
"""What FATE says: all is well; no path has a probability; a score was NaN or +inf."""

LN_2 = math.log(2.0)

FAINT = 1e-60
"""If the best prefix is less likely than this on the scale, others may be lost that are hardly less likely."""

LIFT_EXPONENT = 600
LIFT = 2.0**LIFT_EXPONENT


@lru_cache
def state_record(width: int, nodes: int, scored: bool) -> Any:
    """All that a search knows between two frames."""
    return record(
        prefixes=prefixes_record(nodes, scored),
        # the last frame's beam is one or the other, by turns; the other is for the next frame's
        even=beam_record(width),
        odd=beam_record(width),
        counts=(np.int64, 6),
        # a probability p stands for p * 2**EXPONENT * exp(scale)
        scale=(np.float64, 1),
    )


class Search(NamedTuple):
    """All that a search works with."""

    state: Packed
    """Of a `state_record`."""
    work: Packed
    """Of a `workspace_record`."""
    settings: Packed
    """Of `Settings`."""
    scorer: Packed
    """Of a `Scorer`."""


def start(state: np.ndarray, scorer: Scorer) -> None:
    """The state before the first frame."""
    state["counts"][:] = 0
    state["counts"][SIZE] = 1
    state["scale"][0] = 0.0
    tree.plant(state["prefixes"], state["even"])
    stand_at_root(scorer, state["prefixes"]["standing"])


@entry
def advance(search, row, storage, strides, utterance, begin, end):
    """Read frames from begin to end of an utterance, as far as memory lasts; returns the first that was not read.

    Args:
        search: a packed `Search`.
        row: its `work.row`.
        storage, strides: score (t, n, c) is at storage[t * strides[0] + n * strides[1] + c * strides[2]].
    """
    row, storage, strides = borrow(row), borrow(storage), borrow(strides)
    state, work, settings, scorer = search.state, search.work, search.settings, search.scorer
    prefixes, counts = state.prefixes, state.counts
    if counts[MOVED] != 0:
        counts[MOVED] = 0
        tree.fill_table(prefixes, row.size)
    tree.fill(work.computed, row.size, -1)
    forget_factors(prefixes, work)
    for t in range(begin, end):
        beam, _ = beams_of(state)
        if not tree.has_room(beam, counts[SIZE], prefixes, settings.width, row.size):
            return t
        if prefixes.used[tree.COLLECTIONS] != work.marks[1]:
            forget_factors(prefixes, work)
        read_row(storage, t * strides[0] + utterance * strides[1], strides[2], row)
        if row_is_bad(row):
            counts[FATE] = NOT_A_NUMBER
        elif counts[FATE] == ALIVE:
            highest = row_max(row)
            if highest > -np.inf:
                counts[FRAMES] += 1
                step(highest, state, work, settings, scorer)
            else:
                counts[SIZE] = 0
            if counts[SIZE] == 0:
                counts[FATE] = IMPASSE
    return end


@linked
def beams_of(state):
    """The beam of the last frame, and the one for the next."""
    if state.counts[ODD] == 0:
        return state.even, state.odd
    return state.odd, state.even


@linked
def read_row(storage, start, stride, row):
    """A frame's scores as float64; in a loop of its own where they are neighbours, which becomes vector code."""
    if stride == 1:
        for c in range(row.size):
            row[c] = widen(storage[np.uint64(start + c)])
    else:
        for c in range(row.size):
            row[c] = widen(storage[np.uint64(start + c * stride)])


@linked
def step(highest, state, work, settings, scorer):
    """One frame: the prefixes that the beam makes of it, the most likely of them, and the scale."""
    counts = state.counts
    size = counts[SIZE]
    old, new = beams_of(state)
    candidates, best = propose(old, new, highest, state, work, settings, scorer)
    if best < FAINT and scorer.active:
        # what scoring takes away at once may be more than the numbers' range
        for i in range(size):
            old.blank[i], old.label[i] = old.blank[i] * LIFT, old.label[i] * LIFT
        counts[EXPONENT] -= LIFT_EXPONENT
        candidates, best = propose(old, new, highest, state, work, settings, scorer)
    counts[SIZE] = survivors(old, new, size, candidates, best, state, work, settings, scorer)
    counts[ODD] = 1 - counts[ODD]
    state.scale[0] += highest


@linked
def propose(old, new, highest, state, work, settings, scorer):
    """Everything that may be in the next beam: those that stay are in it already, the others are candidates.

    Returns:
        How many candidates there are, and how likely the best of all is.
    """
    prefixes, counts = state.prefixes, state.counts
    size, frame = counts[SIZE], counts[FRAMES] - 1
    best_before, best_place, best, worst = stay(old, new, size, highest, frame, settings, prefixes, work)
    bound = max(IMPOSSIBLE, best * settings.keep)
    if size == settings.width:
        bound = max(bound, worst * SLACK)
    tokens = likely_tokens(best_before, bound, highest, frame, settings, scorer.ceilings, work)
    if tokens > 4:
        bound, tokens = raise_bound(bound, best_place, size, tokens, old, prefixes, settings, scorer, work)
    candidates = np.int64(0)
    if tokens > 0:
        sort_descending(work.likelihood, work.tokens, tokens)
        candidates = extend(bound, best_place, size, tokens, old, prefixes, settings, scorer, work)
    for i in range(candidates):
        best = max(best, work.mass[i])
    return candidates, best


@linked
def survivors(old, new, size, candidates, best, state, work, settings, scorer):
    """Fill the new beam with the W most likely prefixes; returns how many there are."""
    prefixes, frame = state.prefixes, state.counts[FRAMES] - 1
    least, ties = entrance(size, candidates, settings, work)
    floor = max(IMPOSSIBLE, best * settings.keep)
    factor = rescaling(best, state)
    kept = np.int64(0)
    for i in range(size):
        mass = work.stay[i]
        if mass >= floor and (mass > least or (mass == least and ties > 0)):
            ties -= mass == least
            move(new, i, kept, factor)
            prefixes.place[new.node[kept]] = kept
            kept += 1
    for i in range(candidates):
        mass = work.mass[i]
        if mass >= floor and (mass > least or (mass == least and ties > 0)):
            ties -= mass == least
            add_extension(
                old, np.int64(work.entry[i]), work.token[i], mass * factor, new, kept, frame, prefixes, scorer, work
            )
            kept += 1
    return kept


@linked
def rescaling(best, state):
    """A power of two that brings probabilities back to where products neither vanish nor overflow; 1 as a rule."""
    if 1e-20 < best < 1e20 or best == 0.0:
        return 1.0
    exponent = math.frexp(best)[1]
    state.counts[EXPONENT] += exponent
    return math.ldexp(1.0, -exponent)


@linked
def move(beam, here, there, factor):
    beam.blank[there], beam.label[there] = beam.blank[here] * factor, beam.label[here] * factor
    if here != there:
        beam.node[there] = beam.node[here]
        beam.best_blank[there], beam.best_label[there] = beam.best_blank[here], beam.best_label[here]
        beam.moment_blank[there], beam.moment_label[there] = beam.moment_blank[here], beam.moment_label[here]


@linked
def add_extension(old, parent_place, token, mass, new, place, frame, prefixes, scorer, work):
    """Put a prefix with one more token into the new beam."""
    parent = np.int64(old.node[parent_place])
    _, path, moment = leaving(old, parent_place, prefixes.token[parent] == token)
    node, is_new = tree.child_of(parent, token, prefixes, work.row.size)
    if is_new and scorer.active:
        stand_at_child(scorer, prefixes.standing, prefixes, node)
    prefixes.place[node] = place
    new.node[place] = node
    new.blank[place], new.label[place] = 0.0, mass
    new.best_blank[place], new.best_label[place] = -np.inf, path + work.row[token]
    new.moment_blank[place] = tree.NEVER
    new.moment_label[place] = tree.moment_after(moment, frame, prefixes)


@entry
def rank(search, scores, nats, found, places, lengths):
    """The beam's prefixes as whole texts, best first.

    Args:
        search: a packed `Search`.
        scores, nats: (W,) float64 output: scores, and what the language model gives them.
        found: (W,) float64 output: log-probabilities of the tokens alone, as far as the beam has their paths.
        places, lengths: (W,) int32 and int64 output: places in the beam, and how many tokens they have.

    Returns:
        How many there are.
    """
    scores, nats, found = packed(scores), packed(nats), packed(found)
    places, lengths = packed(places), packed(lengths)
    state, scorer = search.state, search.scorer
    prefixes, counts = state.prefixes, state.counts
    beam, _ = beams_of(state)
    scale = counts[EXPONENT] * LN_2 + state.scale[0]
    texts = score_texts(beam, counts[SIZE], scale, scorer, prefixes, scores, places)
    sort_descending(scores, places, counts[SIZE])
    for i in range(texts):
        node = np.int64(beam.node[places[i]])
        lengths[i] = tree.length_of(node, prefixes)
        found[i] = math.log(beam.blank[places[i]] + beam.label[places[i]]) + scale
        nats[i] = 0.0
        if scorer.active:
            found[i] -= tree.log_factors(node, prefixes)
            gained, of_model = last_gain(scorer, prefixes.standing, prefixes, node)
            nats[i] = prefixes.standing.nats[node] + (of_model if gained > -np.inf else 0.0)
    return texts


@linked
def score_texts(beam, size, scale, scorer, prefixes, scores, places):
    """Scores of all prefixes as whole texts; returns how many are whole texts.

    Those that are none, because they end within a word, get -inf. If all do, they are scored as they are.
    """
    texts = 0
    for final in (True, False):
        for i in range(size):
            places[i] = i
            scores[i] = math.log(beam.blank[i] + beam.label[i]) + scale
            if scorer.active and final:
                gained, _ = last_gain(scorer, prefixes.standing, prefixes, np.int64(beam.node[i]))
                scores[i] += gained
            texts += scores[i] > -np.inf
        if texts > 0:
            break
    return texts


@entry
def spell(search, places, lengths, tokens, times):
    """Write the tokens of the prefixes at these places, and the frames in which they begin, one after the other."""
    places, lengths, tokens, times = packed(places), packed(lengths), packed(tokens), packed(times)
    state = search.state
    beam, _ = beams_of(state)
    start = np.int64(0)
    for i in range(places.size):
        place, stop = places[i], start + lengths[i]
        _, moment = best_path(beam, place)
        tree.spell(np.int64(beam.node[place]), moment, state.prefixes, tokens, times, start, stop)
        start = stop

"""What a prefix gains by a token apart from its paths: language model, lexicon, hotwords and bonuses, in nats.

Gains depend on the prefix alone, so a node keeps where it stands in the model, in the lexicon and among the hotwords,
and the factor by which its last token changed its probability.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu.hashing import insert
from numbactc.kernels.cpu.ngram import advance
from numbactc.kernels.cpu.trie import child
from numbactc.kernels.jit import entry, linked
from numbactc.kernels.packed import Packed, record

NO_MODEL, OF_TOKENS, OF_WORDS = range(3)
"""What `Scorer.unit` says: what the words of the language model are."""

INSIDE, BOUNDARY, BEGINS = range(3)
"""What `Scorer.kinds` says of a class: it is part of a word, stands between two, or is the first of a new one."""

BETWEEN = 0
"""The trie's root: no word has begun."""

UNKNOWN = -1
"""In the place of a node: the word that has begun is not in the lexicon."""

USUAL_LENGTH = 6
"""Tokens of an unknown word from which on each costs more, as in pyctcdecode."""


class Scorer(NamedTuple):
    """What the caller asked for. Where something is not asked for there are arrays all the same, without meaning."""

    active: bool
    """Whether there is anything to score."""
    token_bonus: float
    word_bonus: float
    ceilings: np.ndarray
    """(C,) float64, by class the most that `gain` can be; (0,) if there is nothing to score."""
    unit: int
    weight: float
    """Of the language model, at least 0."""
    model: Packed
    """Of an `Automaton`."""
    words: int
    """V, the size of its vocabulary."""
    begin_state: int
    end: int
    unknown: int
    """Numbers of words in it."""
    token_words: np.ndarray
    """(C,) int32 the word that a class is, for a model of tokens."""
    has_lexicon: bool
    lexicon: Packed
    """Of a `Trie`."""
    lexicon_words: np.ndarray
    """int32, the number in the model of each word of the lexicon."""
    kinds: np.ndarray
    """(C,) int8"""
    penalty: float
    """Of a word that is not in the lexicon; inf if there must be none."""
    has_hotwords: bool
    hotwords: Packed
    """Of an `Automaton` of C words; what a state has to lose is in `stakes`."""
    stakes: np.ndarray
    """(S,) float64 what hotwords have gained that have begun and are not complete."""
    hot_state: int
    """Where a text begins."""
    hot_boundary: int
    """The class that ends a text's last hotword; -1 if none does."""


def standing_record(nodes: int) -> Any:
    """Where P nodes stand."""
    return record(
        # exp of what the last token gained
        factor=(np.float64, nodes),
        # what the language model gives the whole prefix, unweighted
        nats=(np.float64, nodes),
        # state of the language model
        context=(np.int32, nodes),
        # node of the lexicon, or BETWEEN or UNKNOWN
        spelling=(np.int32, nodes),
        # state of the hotwords
        hot=(np.int32, nodes),
    )


@entry
def tabulate(keys, values, new_keys):
    """Put keys into an empty table, each with its place among the new ones as its value."""
    keys, values, new_keys = borrow(keys), borrow(values), borrow(new_keys)
    for i in range(new_keys.size):
        values[insert(keys, new_keys[i])] = i


def stand_at_root(scorer: Scorer, standing: np.ndarray) -> None:
    """Where the empty prefix stands."""
    standing["factor"][0], standing["nats"][0] = 1.0, 0.0
    standing["context"][0], standing["spelling"][0], standing["hot"][0] = scorer.begin_state, BETWEEN, scorer.hot_state


@linked
def gain(scorer, standing, prefixes, node, token):
    """What a prefix gains by a token: all in all, and from the language model, unweighted; and where it stands then."""
    total, nats = scorer.token_bonus, 0.0
    context, spelling = np.int64(standing.context[node]), np.int64(standing.spelling[node])
    hot = np.int64(standing.hot[node])
    if scorer.unit == OF_TOKENS:
        nats, context = advance(scorer.model, scorer.words, context, np.int64(scorer.token_words[token]))
    if scorer.has_lexicon:
        kind = scorer.kinds[token]
        if kind != INSIDE:
            more, of_word, context = end_of_word(scorer, prefixes, node, spelling, context)
            total, nats, spelling = total + more, nats + of_word, np.int64(BETWEEN)
        if kind != BOUNDARY:
            more, spelling = inside_word(scorer, prefixes, node, spelling, token)
            total += more
    if scorer.has_hotwords:
        more, hot = advance(scorer.hotwords, scorer.kinds.size, hot, token)
        total += more
    return total + weighted(scorer, nats), nats, context, spelling, hot


@linked
def weighted(scorer, nats):
    """What nats of the language model add to the score; nothing with a weight of 0, be they -inf."""
    return scorer.weight * nats if scorer.weight > 0.0 else 0.0


@linked
def inside_word(scorer, prefixes, node, spelling, token):
    """One more token of a word, or its first: what that costs, and where in the lexicon it leads."""
    if spelling != UNKNOWN:
        further = child(scorer.lexicon, spelling, token)
        if further >= 0:
            return 0.0, further
        if scorer.penalty == np.inf:
            return -np.inf, np.int64(UNKNOWN)
    letters = 0 if spelling == BETWEEN else letters_of(scorer, prefixes, node)
    paid = 0.0 if spelling != UNKNOWN else unknown_word(scorer, letters)
    return unknown_word(scorer, letters + 1) - paid, np.int64(UNKNOWN)


@linked
def end_of_word(scorer, prefixes, node, spelling, context):
    """A prefix's last word is over: what that gains but for the model, what the model says, and its state.

    Of words that are spelled alike it is the one that the model likes best.
    """
    if spelling == BETWEEN:
        return 0.0, 0.0, context
    gained, first, last = scorer.word_bonus, np.int64(0), np.int64(0)
    if spelling != UNKNOWN:
        first, last = np.int64(scorer.lexicon.word_starts[spelling]), np.int64(scorer.lexicon.word_starts[spelling + 1])
        if first == last:  # the beginning of words, but none
            gained += unknown_word(scorer, letters_of(scorer, prefixes, node))
    if scorer.unit != OF_WORDS:
        return gained, 0.0, context
    if first == last:
        nats, context = advance(scorer.model, scorer.words, context, np.int64(scorer.unknown))
        return gained, nats, context
    best, best_context = -np.inf, context
    for i in range(first, last):
        word = scorer.lexicon_words[scorer.lexicon.words[i]]
        nats, following = advance(scorer.model, scorer.words, context, np.int64(word))
        if nats > best:
            best, best_context = nats, following
    return gained, best, best_context


@linked
def unknown_word(scorer, letters):
    """What so many tokens cost that are no word: no less than nothing, and more for each beyond the usual length."""
    return -scorer.penalty * max(1.0, letters / USUAL_LENGTH)


@linked
def letters_of(scorer, prefixes, node):
    """Tokens of the word that has begun."""
    letters = 0
    while node != 0:
        kind = scorer.kinds[prefixes.token[node]]
        if kind == BOUNDARY:
            break
        letters += 1
        if kind == BEGINS:
            break
        node = np.int64(prefixes.parent[node])
    return letters


@linked
def last_gain(scorer, standing, prefixes, node):
    """What a prefix gains as a whole text: all in all, and from the language model, unweighted.

    -inf if it ends in what is no word and must be one.
    """
    total, nats = 0.0, 0.0
    context = np.int64(standing.context[node])
    if scorer.has_lexicon:
        total, nats, context = end_of_word(scorer, prefixes, node, np.int64(standing.spelling[node]), context)
    if scorer.unit != NO_MODEL:
        more, context = advance(scorer.model, scorer.words, context, np.int64(scorer.end))
        nats += more
    if scorer.has_hotwords:
        hot = np.int64(standing.hot[node])
        if scorer.hot_boundary >= 0:
            more, hot = advance(scorer.hotwords, scorer.kinds.size, hot, np.int64(scorer.hot_boundary))
            total += more
        total -= scorer.stakes[hot]
    return total + weighted(scorer, nats), nats


@linked
def factor_of(scorer, standing, prefixes, node, token):
    """exp of `gain`."""
    total, _, _, _, _ = gain(scorer, standing, prefixes, node, token)
    return math.exp(total)


@linked
def stand_at_child(scorer, standing, prefixes, node):
    """Where a new node stands, given that of its parent."""
    parent = np.int64(prefixes.parent[node])
    total, nats, context, spelling, hot = gain(scorer, standing, prefixes, parent, np.int64(prefixes.token[node]))
    standing.factor[node] = math.exp(total)
    standing.nats[node] = standing.nats[parent] + nats
    standing.context[node], standing.spelling[node], standing.hot[node] = context, spelling, hot

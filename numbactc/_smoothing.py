"""Estimating back-off n-gram models from text: counts, discounts, interpolation with shorter histories.

Every probability of an order is interpolated with that of the next shorter one,

    p(w | h) = (a(h w) - D(a(h w))) / s(h) + gamma(h) p(w | h'),    h' being h without its first word,

down to the shares of words that no text holds: uniform over the V words that can follow, every one but <s>, and <unk>
among them, or by their frequencies elsewhere. Modified Kneser-Ney and Witten-Bell differ in a, D, s and gamma only.
gamma(h) is the back-off weight of h, so that the n-grams that have been seen, and these weights, are the whole model;
all words together have probability 1 after every history.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from numbactc._dispatch_language import Ngrams

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Of n-grams counted once, twice, more often, where there are too few to estimate them: those of KenLM's lmplz."""


class Counted(NamedTuple):
    """All n-grams of one order in a text."""

    words: np.ndarray
    """(count, n) int32."""
    counts: np.ndarray
    """(count,) int64 how often each occurs."""
    histories: np.ndarray
    """(count,) the place among the shorter n-grams of all words but the last."""
    suffixes: np.ndarray
    """(count,) the same of all words but the first."""
    history_count: int
    """The number of shorter n-grams; for unigrams 1, the empty history."""


Estimate = tuple[np.ndarray, np.ndarray]
"""For each n-gram, what it has by itself; for each history, its weight gamma of the shorter ones."""


def count(sentences: Sequence[np.ndarray], order: int, vocabulary_size: int) -> list[Counted]:
    """The n-grams of order 1, 2, ... within the sentences; every word of the vocabulary is a unigram."""
    words = np.concatenate(sentences)
    sentence = np.repeat(np.arange(len(sentences)), [len(each) for each in sentences])
    unigrams = np.arange(vocabulary_size, dtype=np.int32)[:, None]
    empty = np.zeros(vocabulary_size, np.int64)
    counted = [Counted(unigrams, np.bincount(words, minlength=vocabulary_size), empty, empty, 1)]
    places = words  # of the n-gram that begins here
    for n in range(2, order + 1):
        starts = np.flatnonzero(sentence[: max(len(words) - n + 1, 0)] == sentence[n - 1 :])
        keys = places[starts] * vocabulary_size + words[starts + n - 1]
        _, firsts, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        firsts = starts[firsts]
        rows = words[firsts[:, None] + np.arange(n)].astype(np.int32)
        counted.append(Counted(rows, counts, places[firsts], places[firsts + 1], len(counted[-1].words)))
        places = places.copy()
        places[starts] = inverse
    return counted


def kneser_ney(counted: Sequence[Counted], begin: int) -> list[Estimate]:
    """Modified Kneser-Ney: n-grams of the longest order count as often as they occur, as do those that begin a
    sentence; others as often as different words stand before them. What is taken off depends on that count alone.
    """
    estimates = []
    for n, ngrams in enumerate(counted, 1):
        counts = ngrams.counts
        if n < len(counted):
            before = np.bincount(counted[n].suffixes, minlength=len(counts))
            counts = np.where(ngrams.words[:, 0] == begin, counts, before)
        if n == 1:
            counts = np.where(ngrams.words[:, 0] == begin, 0, counts)
        taken = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
        total = _by_history(ngrams, counts)
        estimates.append(((counts - taken) / total[ngrams.histories], _shares(_by_history(ngrams, taken), total)))
    return estimates


def witten_bell(counted: Sequence[Counted], begin: int) -> list[Estimate]:
    """Witten-Bell: a history that was followed by k different words has been followed k times by a new one."""
    estimates = []
    for n, ngrams in enumerate(counted, 1):
        counts = np.where(ngrams.words[:, 0] == begin, 0, ngrams.counts) if n == 1 else ngrams.counts
        kinds = _by_history(ngrams, counts > 0)
        total = _by_history(ngrams, counts) + kinds
        estimates.append((counts / total[ngrams.histories], _shares(kinds, total)))
    return estimates


SMOOTHINGS: dict[str, Callable[[Sequence[Counted], int], list[Estimate]]] = {
    "kneser-ney": kneser_ney,
    "witten-bell": witten_bell,
}


def interpolated(
    counted: Sequence[Counted], estimates: Sequence[Estimate], new: np.ndarray, begin: int, never: float
) -> list[Ngrams]:
    """The model's n-grams of order 1, 2, ...; `never` is the log-probability of <s>, which follows nothing.

    `new` (V + 1,) has what each word, and <s>, gets of what is left to words that no text holds.
    """
    orders: list[Ngrams] = []
    shorter = new
    for n, (ngrams, (own, weights)) in enumerate(zip(counted, estimates, strict=True), 1):
        probs = own + weights[ngrams.histories] * (shorter if n == 1 else shorter[ngrams.suffixes])
        if n > 1:
            orders[-1] = orders[-1]._replace(backoffs=np.log(weights))
        log_probs = np.log(probs)
        if n == 1:
            log_probs[begin] = never
        orders.append(Ngrams(ngrams.words, log_probs, np.zeros(len(probs))))
        shorter = probs
    return orders


def new_words(words: Sequence[str], counts: np.ndarray, begin: int, frequencies: Mapping[str, float]) -> np.ndarray:
    """(V + 1,) `interpolated`'s: by `frequencies`, where a word of the texts, and one without, count as the rarest."""
    rarest = min(frequencies.values(), default=1.0)
    given = [rarest if count else frequencies.get(word, rarest) for word, count in zip(words, counts, strict=True)]
    shares: np.ndarray = np.array(given) / np.delete(given, begin).sum()
    return shares


def _discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """What is taken off the counts 1, 2 and 3 or more (Chen and Goodman, 1999, equation 26)."""
    once, twice, thrice, often = (float((counts == k).sum()) for k in (1, 2, 3, 4))
    if not (once and twice and thrice):
        return FALLBACK_DISCOUNTS
    share = once / (once + 2 * twice)
    discounts = (1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * often / thrice)
    return discounts if all(0 < discount <= k for k, discount in enumerate(discounts, 1)) else FALLBACK_DISCOUNTS


def _by_history(ngrams: Counted, values: np.ndarray) -> np.ndarray:
    """The sum of values over the n-grams of each history."""
    sums: np.ndarray = np.bincount(ngrams.histories, values, minlength=ngrams.history_count)
    return sums.astype(np.float64)  # they are integers where there are no n-grams


def _shares(parts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """parts / totals; 1 for a history that nothing followed, which leaves everything to the shorter ones."""
    shares = np.ones_like(totals)
    np.divide(parts, totals, out=shares, where=totals > 0)
    return shares

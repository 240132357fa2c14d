"""From scores on the CPU to the kernels of beam search: states, memory that grows, threads.

Numba is imported by the first call.
"""

import math
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from numbactc import _dispatch_scoring, _threads
from numbactc._dispatch_scoring import Extras
from numbactc._validation_decoding import Pruning
from numbactc._views import flat_view

if TYPE_CHECKING:
    from numbactc.kernels.cpu.beam import State
    from numbactc.kernels.cpu.candidates import Settings, Workspace
    from numbactc.kernels.cpu.prefixes import Prefixes
    from numbactc.kernels.cpu.scoring import Scorer, Standing

SMALLEST = 1 << 10
"""Nodes that a search has room for at first, at least."""

FACTORS = 1 << 12
"""Factors of scoring that are remembered: a power of two, 16 bytes each."""


class Found(NamedTuple):
    """What a search has found, best first; empty if no path has a probability."""

    scores: np.ndarray
    """(n,) float64 nats"""
    lm_scores: np.ndarray
    """(n,) float64 nats, of the language model, unweighted."""
    log_probs: np.ndarray
    """(n,) float64 nats, of the tokens alone, as far as the beam has their paths."""
    lengths: np.ndarray
    """(n,) int64"""
    tokens: np.ndarray
    """int64, of all hypotheses, one after the other."""
    times: np.ndarray
    """int64"""
    is_number: bool
    """False if a score was NaN or +inf."""


class Search:
    """The beam of one utterance, or of one after the other."""

    def __init__(self, classes: int, settings: "Settings", scorer: "Scorer") -> None:
        self.classes = classes
        self.settings = settings
        self.scorer = scorer
        self.state = _state(settings.width, scorer.active)
        self.work = _workspace(settings.width, classes, scorer.active)
        self.restart()

    def restart(self) -> None:
        from numbactc.kernels.cpu import beam

        beam.start(self.state, self.scorer)

    def copy(self) -> "Search":
        """The same search, which from here on goes its own way."""
        other = copy(self)
        other.state = _copied(self.state)
        other.work = _workspace(self.settings.width, self.classes, self.scorer.active)
        return other

    def advance(self, scores: Tensor, utterance: int, frames: int) -> None:
        """Read that many frames of an utterance of scores (T, N, C)."""
        from numbactc.kernels.cpu import beam

        storage, strides = flat_view(scores)
        done = 0
        while True:
            done = beam.advance(
                self.state, self.work, self.settings, self.scorer, storage, strides, utterance, done, frames
            )
            if done == frames:
                return
            self.state = _doubled(self.state, self.classes)

    def result(self, n_best: int) -> Found:
        from numbactc.kernels.cpu import beam

        fate = self.state.counts[beam.FATE]
        width = self.settings.width
        (scores, lm_scores, found), (places, lengths) = np.empty((3, width)), np.empty((2, width), np.int64)
        count = 0
        if fate == beam.ALIVE:
            count = beam.rank(self.state, self.scorer, scores, lm_scores, found, places, lengths)
        count = min(count, n_best)
        places, lengths = places[:count], lengths[:count]
        tokens, times = np.empty((2, int(lengths.sum())), np.int64)
        beam.spell(self.state, places, lengths, tokens, times)
        return Found(
            scores[:count], lm_scores[:count], found[:count], lengths, tokens, times, bool(fate != beam.NOT_A_NUMBER)
        )


def search(
    scores: Tensor, lengths: np.ndarray, n_best: int, settings: "Settings", extras: Extras
) -> list[Found]:
    """The best prefixes of each utterance of scores (T, N, C) on the CPU."""
    utterances, classes = scores.shape[1:]
    scorer = _dispatch_scoring.scorer(extras)
    results: list[Found | None] = [None] * utterances

    def run(some: np.ndarray) -> None:
        beam = Search(classes, settings, scorer)
        for n in some.tolist():
            beam.restart()
            beam.advance(scores, n, int(lengths[n]))
            results[n] = beam.result(n_best)

    _threads.share(run, utterances, lambda: lengths * (classes + 10 * settings.width))
    return [found for found in results if found is not None]


def settings(blank: int, width: int, pruning: Pruning) -> "Settings":
    from numbactc.kernels.cpu.candidates import Settings

    return Settings(blank, width, math.exp(-pruning.beam_threshold), pruning.token_threshold)


def _state(width: int, scored: bool) -> "State":
    from numbactc.kernels.cpu.beam import State
    from numbactc.kernels.cpu.prefixes import Beam

    even, odd = (
        Beam(
            node=np.empty(width, np.int32),
            blank=np.empty(width),
            label=np.empty(width),
            best_blank=np.empty(width),
            best_label=np.empty(width),
            moment_blank=np.empty(width, np.int32),
            moment_label=np.empty(width, np.int32),
        )
        for _ in range(2)
    )
    nodes = SMALLEST
    while nodes < 8 * width:
        nodes *= 2
    return State(_prefixes(nodes, 2 * nodes, scored), even, odd, np.empty(5, np.int64), np.empty(1))


def _prefixes(nodes: int, moments: int, scored: bool) -> "Prefixes":
    from numbactc.kernels.cpu.hashing import capacity
    from numbactc.kernels.cpu.prefixes import Prefixes

    slots = capacity(nodes)
    return Prefixes(
        parent=np.empty(nodes, np.int32),
        token=np.empty(nodes, np.int32),
        place=np.empty(nodes, np.int32),
        standing=_standing(nodes if scored else 1),
        keys=np.empty(slots, np.int64),
        nodes=np.empty(slots, np.int32),
        before=np.empty(moments, np.int32),
        frame=np.empty(moments, np.int32),
        renamed=np.empty(max(nodes, moments), np.int32),
        used=np.empty(3, np.int64),
    )


def _standing(nodes: int) -> "Standing":
    from numbactc.kernels.cpu.scoring import Standing

    return Standing(
        factor=np.empty(nodes),
        nats=np.empty(nodes),
        context=np.empty(nodes, np.int32),
        spelling=np.empty(nodes, np.int32),
        hot=np.empty(nodes, np.int32),
    )


def _doubled(state: "State", classes: int) -> "State":
    """The same state with room for twice as many nodes and moments."""
    from numbactc.kernels.cpu import beam

    old = state.prefixes
    new = _prefixes(2 * old.parent.size, 2 * old.before.size, old.standing.factor.size > 1)
    for name in ("parent", "token", "place", "before", "frame", "used"):
        _copy(getattr(old, name), getattr(new, name))
    for array, longer in zip(old.standing, new.standing, strict=True):
        _copy(array, longer)
    beam.rebuild(new, classes)
    return state._replace(prefixes=new)


def _copied(arrays: Any) -> Any:
    """A named tuple of arrays, or of such tuples, with arrays of its own."""
    return type(arrays)(*(each.copy() if isinstance(each, np.ndarray) else _copied(each) for each in arrays))


def _copy(array: np.ndarray, longer: np.ndarray) -> None:
    longer[: array.size] = array


def _workspace(width: int, classes: int, scored: bool) -> "Workspace":
    from numbactc.kernels.cpu.candidates import Workspace

    candidates = 4 * width + 60
    return Workspace(
        row=np.empty(classes),
        emission=np.empty(classes),
        computed=np.empty(classes, np.int64),
        taken=np.zeros(classes, np.int64),
        tokens=np.empty(classes, np.int32),
        likelihood=np.empty(classes),
        stay=np.empty(width),
        child=np.empty(width, np.int32),
        sibling=np.empty(width, np.int32),
        entry=np.empty(candidates, np.int32),
        token=np.empty(candidates, np.int32),
        mass=np.empty(candidates),
        pool=np.empty(width + max(candidates, classes)),
        heap=np.empty(width),
        asked=np.empty(FACTORS if scored else 1, np.int64),
        answers=np.empty(FACTORS if scored else 1),
        marks=np.zeros(2, np.int64),
    )

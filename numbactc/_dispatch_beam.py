"""From scores on the CPU to the kernels of beam search: states, memory that grows, threads.

Numba is imported by the first call.
"""

import math
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from numbactc import _dispatch_scoring, _threads
from numbactc._dispatch_scoring import Extras
from numbactc._validation_decoding import Pruning
from numbactc._views import flat_view

if TYPE_CHECKING:
    from numbactc.kernels.cpu.candidates import Settings
    from numbactc.kernels.packed import Packed

SMALLEST = 1 << 10
"""Nodes that a search has room for at first, at least."""


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
    """The beam of one utterance, or of one after the other; `restart` comes before each."""

    def __init__(self, classes: int, settings: "Settings", scorer: "Packed") -> None:
        from numbactc.kernels.cpu.beam import state_record
        from numbactc.kernels.packed import Packed

        self.classes, self.settings, self.scorer = classes, settings, scorer
        width = settings.width
        nodes = SMALLEST
        while nodes < 8 * width:
            nodes *= 2
        # first what a beam of any size asks for: it says so where that is too much
        state = np.empty((), state_record(width, nodes, scorer.content.active))
        self._packed_settings = Packed(settings)
        self._set(state)

    def _set(self, state: np.ndarray) -> None:
        """Let the state be this one, with arrays to work in."""
        from numbactc.kernels.cpu import beam, candidates
        from numbactc.kernels.packed import Packed

        width, scored = self.settings.width, self.scorer.content.active
        work = np.zeros((), candidates.workspace_record(width, self.classes, scored))
        self._state, self._row = state, work["row"]
        self._packed = Packed(beam.Search(Packed(state), Packed(work), self._packed_settings, self.scorer))

    def restart(self) -> "Search":
        from numbactc.kernels.cpu import beam

        beam.start(self._state, self.scorer.content)
        return self

    def copy(self) -> "Search":
        """The same search, which from here on goes its own way."""
        other = copy(self)
        # as bytes: NumPy would go from field to field
        memory = self._state.reshape(1).view(np.uint8).copy()
        other._set(memory.view(self._state.dtype).reshape(()))
        return other

    def advance(self, scores: Tensor, utterance: int, frames: int) -> None:
        """Read that many frames of an utterance of scores (T, N, C)."""
        from numbactc.kernels.cpu import beam

        storage, strides = flat_view(scores)
        done = 0
        while True:
            done = beam.advance(self._packed, self._row, storage, strides, utterance, done, frames)
            if done == frames:
                return
            self._set(_doubled(self._state))

    def result(self, n_best: int) -> Found:
        from numbactc.kernels.cpu import beam

        fate, width = self._state["counts"][beam.FATE], self.settings.width
        scores, lm_scores, found = np.empty((3, width))
        places, lengths = np.empty(width, np.int32), np.empty(width, np.int64)
        count = 0
        if fate == beam.ALIVE:
            count = beam.rank(self._packed, scores, lm_scores, found, places, lengths)
        count = min(count, n_best)
        places, lengths = places[:count], lengths[:count]
        tokens, times = np.empty((2, int(lengths.sum())), np.int64)
        beam.spell(self._packed, places, lengths, tokens, times)
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

    _threads.share(run, utterances, lambda: lengths * (classes + 10 * min(settings.width, 1 << 30)))
    return [found for found in results if found is not None]


def settings(blank: int, width: int, pruning: Pruning) -> "Settings":
    from numbactc.kernels.cpu.candidates import Settings

    return Settings(blank, width, math.exp(-pruning.beam_threshold), pruning.token_threshold)


def _doubled(state: np.ndarray) -> np.ndarray:
    """The same state with room for twice as many nodes and moments."""
    from numbactc.kernels.cpu import beam

    nodes = state["prefixes"]["parent"].size
    scored = state["prefixes"]["standing"]["factor"].size > 1
    longer = np.empty((), beam.state_record(state["even"]["node"].size, 2 * nodes, scored))
    _copy(state, longer)
    longer["counts"][beam.MOVED] = 1
    return longer


def _copy(old: np.ndarray, new: np.ndarray) -> None:
    """A record's arrays into those of another, which may be longer."""
    for name in old.dtype.names or ():
        if old[name].dtype.names:
            _copy(old[name], new[name])
        else:
            new[name][: old[name].size] = old[name]

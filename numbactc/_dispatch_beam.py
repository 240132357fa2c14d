"""From scores on the CPU to the kernels of beam search: states, memory that grows, threads.

Numba is imported by the first call.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from numbactc import _threads
from numbactc._validation_decoding import Pruning
from numbactc._views import flat_view

if TYPE_CHECKING:
    from numbactc.kernels.cpu.beam import State
    from numbactc.kernels.cpu.candidates import Settings, Workspace
    from numbactc.kernels.cpu.prefixes import Prefixes

SMALLEST = 1 << 10
"""Nodes that a search has room for at first, at least."""


class Found(NamedTuple):
    """What a search has found, best first; empty if no path has a probability."""

    scores: np.ndarray
    """(n,) float64 nats"""
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

    def __init__(self, classes: int, settings: "Settings") -> None:
        from numbactc.kernels.cpu import beam

        self.classes = classes
        self.settings = settings
        self.state = _state(settings.width)
        self.work = _workspace(settings.width, classes)
        beam.start(self.state)

    def restart(self) -> None:
        from numbactc.kernels.cpu import beam

        beam.start(self.state)

    def advance(self, scores: Tensor, utterance: int, frames: int) -> None:
        """Read that many frames of an utterance of scores (T, N, C)."""
        from numbactc.kernels.cpu import beam

        storage, strides = flat_view(scores)
        done = 0
        while True:
            done = beam.advance(self.state, self.work, self.settings, storage, strides, utterance, done, frames)
            if done == frames:
                return
            self.state = _doubled(self.state, self.classes)

    def result(self, n_best: int) -> Found:
        from numbactc.kernels.cpu import beam

        fate = self.state.counts[beam.FATE]
        scores, lengths, tokens, times = beam.best_prefixes(self.state, n_best if fate == beam.ALIVE else 0)
        return Found(scores, lengths, tokens, times, bool(fate != beam.NOT_A_NUMBER))


def search(scores: Tensor, lengths: np.ndarray, n_best: int, settings: "Settings") -> list[Found]:
    """The best prefixes of each utterance of scores (T, N, C) on the CPU."""
    utterances, classes = scores.shape[1:]
    results: list[Found | None] = [None] * utterances

    def run(some: np.ndarray) -> None:
        beam = Search(classes, settings)
        for n in some.tolist():
            beam.restart()
            beam.advance(scores, n, int(lengths[n]))
            results[n] = beam.result(n_best)

    _threads.share(run, utterances, lambda: lengths * (classes + 10 * settings.width))
    return [found for found in results if found is not None]


def settings(blank: int, width: int, pruning: Pruning) -> "Settings":
    from numbactc.kernels.cpu.candidates import Settings

    return Settings(blank, width, math.exp(-pruning.beam_threshold), pruning.token_threshold)


def _state(width: int) -> "State":
    from numbactc.kernels.cpu.beam import State
    from numbactc.kernels.cpu.prefixes import Beam

    def pair(dtype: type) -> np.ndarray:
        return np.empty((2, width), dtype)

    beams = Beam(
        pair(np.int32), pair(np.float64), pair(np.float64), pair(np.float64), pair(np.float64),
        pair(np.int32), pair(np.int32),
    )  # fmt: skip
    nodes = SMALLEST
    while nodes < 8 * width:
        nodes *= 2
    return State(_prefixes(nodes, 2 * nodes), beams, np.empty(5, np.int64), np.empty(1))


def _prefixes(nodes: int, moments: int) -> "Prefixes":
    from numbactc.kernels.cpu.hashing import capacity
    from numbactc.kernels.cpu.prefixes import Prefixes

    slots = capacity(nodes)
    return Prefixes(
        parent=np.empty(nodes, np.int32),
        token=np.empty(nodes, np.int32),
        place=np.empty(nodes, np.int32),
        keys=np.empty(slots, np.int64),
        nodes=np.empty(slots, np.int32),
        before=np.empty(moments, np.int32),
        frame=np.empty(moments, np.int32),
        renamed=np.empty(max(nodes, moments), np.int32),
        used=np.empty(2, np.int64),
    )


def _doubled(state: "State", classes: int) -> "State":
    """The same state with room for twice as many nodes and moments."""
    from numbactc.kernels.cpu import beam

    old = state.prefixes
    new = _prefixes(2 * old.parent.size, 2 * old.before.size)
    for name in ("parent", "token", "place", "before", "frame", "used"):
        array = getattr(old, name)
        getattr(new, name)[: array.size] = array
    beam.rebuild(new, classes)
    return state._replace(prefixes=new)


def _workspace(width: int, classes: int) -> "Workspace":
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
        marks=np.zeros(1, np.int64),
    )

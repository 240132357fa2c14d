"""Paths of a target, written for reading: all of them, their states, and which one an aligner must choose."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from oracles import Array, collapse

Path = tuple[int, ...]


def all_paths(target: Sequence[int], T: int, classes: Sequence[int], blank: int = 0) -> list[Path]:
    """Every sequence of T classes that becomes the target: by trying all, small cases only."""
    paths = itertools.product(classes, repeat=T)
    return [path for path in paths if collapse(path, blank) == list(target)]


def states_of(path: Sequence[int], blank: int = 0) -> list[int]:
    """Which of the target's 2 L + 1 states each frame is in: 2 j is blank j, 2 j + 1 label j."""
    states, labels, before = [], 0, blank
    for c in path:
        labels += c not in (blank, before)
        before = c
        states.append(2 * labels if c == blank else 2 * labels - 1)
    return states


def score_of(scores: Array, path: Sequence[int]) -> float:
    """Frame after frame from the first, as the documentation says; class -1 is the last column."""
    total = 0.0
    for t, c in enumerate(path):
        total += float(scores[t, c])
    return total


def chosen(scores: Array, paths: list[Path], blank: int = 0) -> Path:
    """The best path, and among equals the one that the documentation names."""
    best = max(score_of(scores, path) for path in paths)

    def preference(path: Path) -> list[int]:
        backwards = states_of(path, blank)[::-1]
        # a label at the end, and then to stay rather than to step, and to step rather than to skip
        return [-(backwards[0] % 2), *(later - earlier for later, earlier in itertools.pairwise(backwards))]

    return min((path for path in paths if score_of(scores, path) == best), key=preference)


class Best(NamedTuple):
    score: float
    path: list[int]


def viterbi(scores: Array, target: Sequence[int], blank: int = 0) -> Best:
    """The same choice for any size: the textbook's recursion with a table of T * (2 L + 1) decisions."""
    T = len(scores)
    states = [blank]
    for label in target:
        states += [label, blank]
    S = len(states)
    may_skip = np.array([s >= 2 and states[s] not in (blank, states[s - 2]) for s in range(S)])
    best = np.full(S, -np.inf)
    best[0] = 0.0
    moved = np.zeros((T, S), np.int8)
    for t in range(T):
        step, skip = np.full(S, -np.inf), np.full(S, -np.inf)
        step[1:], skip[2:] = best[:-1], np.where(may_skip[2:], best[:-2], -np.inf)
        moved[t][step > best] = 1
        best = np.maximum(best, step)
        moved[t][skip > best] = 2
        best = np.maximum(best, skip) + scores[t, states]
    s = S - 2 if S > 1 and best[S - 2] >= best[S - 1] else S - 1
    score = float(best[s])
    path = []
    for t in reversed(range(T)):
        path.append(states[s])
        s -= int(moved[t, s])
    return Best(score, path[::-1])

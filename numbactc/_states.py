"""The lattice as a graph: the states of a target, the moves between them, the states that a path visits."""

from collections.abc import Sequence

import numpy as np


def classes_of(labels: Sequence[int], blank: int) -> list[int]:
    """The class of each state: a blank before, between and behind the labels.

    >>> classes_of([3, 1], blank=0)
    [0, 3, 0, 1, 0]
    """
    return [blank, *(c for label in labels for c in (label, blank))]


def states_of(path: Sequence[int], labels: Sequence[int], blank: int, frames: int) -> list[int]:
    """The state of each frame of a path.

    >>> states_of([0, 3, 3, 1], [3, 1], blank=0, frames=4)
    [0, 1, 1, 3]
    """
    states: list[int] = []
    spelt: list[int] = []
    before = blank
    for c in path:
        if c not in (blank, before):
            spelt.append(c)
        states.append(2 * len(spelt) - (c != blank))
        before = c
    if len(path) != frames:
        raise ValueError(f"path must have a class for each of T = {frames} frames, got {len(path)}")
    if spelt != list(labels):
        raise ValueError(f"path must become the target, {list(labels)}, got one that becomes {spelt}")
    return states


def moves_of(classes: Sequence[int], blank: int, frames: int) -> tuple[list[tuple[int, int, int]], np.ndarray]:
    """(frame, state, state in the next frame) of every move on a complete path; (T, S): is a state on one?"""
    S = len(classes)
    reached = np.zeros((frames, S), dtype=bool)
    reached[:1, :2] = True
    for t in range(1, frames):
        for s in range(S):
            if reached[t - 1, s]:
                reached[t, following(classes, blank, s)] = True
    useful = np.zeros((frames, S), dtype=bool)
    useful[-1:, -2:] = reached[-1:, -2:]
    moves = []
    for t in reversed(range(frames - 1)):
        for s in range(S):
            if reached[t, s]:
                onward = [n for n in following(classes, blank, s) if useful[t + 1, n]]
                useful[t, s] = bool(onward)
                moves += [(t, s, n) for n in onward]
    return moves, useful


def following(classes: Sequence[int], blank: int, s: int) -> list[int]:
    """The states that may come after state s: itself, the next, and the one behind a blank if its label differs."""
    may_skip = s + 2 < len(classes) and classes[s + 2] not in (blank, classes[s])
    return list(range(s, min(s + 2 + may_skip, len(classes))))

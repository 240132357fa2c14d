"""Hotwords as an automaton over tokens, after Aho and Corasick, that says what each token gains.

A state is the longest beginning of a hotword that the text ends in. What a beginning has gained so far, in proportion
to its length, is at stake: it is lost if the hotword does not go on, and kept once it is complete. In steps that is

    gain of a token  =  stake after it - stake before it + the bonuses of the hotwords that it completes

so that a search has no reason to drop a hotword before its end.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

ROOT = 0


class Hotwords(NamedTuple):
    """S states, A arcs; the first C arcs are those of the root, one for each class."""

    arcs: np.ndarray
    """(A,) int64 state * C + token."""
    gains: np.ndarray
    """(A,) float64"""
    next_states: np.ndarray
    """(A,) int32"""
    losses: np.ndarray
    """(S,) float64, at most 0: what is lost by looking for a token in the state of a shorter beginning."""
    shorter: np.ndarray
    """(S,) int32 that state."""
    stakes: np.ndarray
    """(S,) float64"""
    start: int
    """The state of an empty text."""


class _State:
    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.children: dict[int, int] = {}
        self.stake = 0.0
        self.bonus = 0.0
        self.shorter = ROOT


def build(hotwords: Mapping[tuple[int, ...], float], classes: int, boundary: int | None) -> Hotwords:
    """The automaton of hotwords and their bonuses, which count as whole words if there is a boundary."""
    states = _tree(hotwords, boundary)
    _link(states)
    arcs, gains, next_states = [], [], []
    for number, state in enumerate(states):
        for token in range(classes) if number == ROOT else state.children:
            following = states[state.children.get(token, ROOT)]
            arcs.append(number * classes + token)
            gains.append(following.stake - state.stake + following.bonus)
            next_states.append(state.children.get(token, ROOT))
    return Hotwords(
        np.array(arcs, np.int64),
        np.array(gains, np.float64),
        np.array(next_states, np.int32),
        np.array([states[state.shorter].stake - state.stake for state in states]),
        np.array([state.shorter for state in states], np.int32),
        np.array([state.stake for state in states]),
        ROOT if boundary is None else states[ROOT].children[boundary],
    )


def _tree(hotwords: Mapping[tuple[int, ...], float], boundary: int | None) -> list[_State]:
    """A state for every beginning, with its own stake and bonus; parents come before children."""
    states = [_State(0)]
    around = [] if boundary is None else [boundary]
    for word, bonus in hotwords.items():
        number = ROOT
        tokens = [*around, *word, *around]
        for position, token in enumerate(tokens, 1):
            if token not in states[number].children:
                states[number].children[token] = len(states)
                states.append(_State(position))
            number = states[number].children[token]
            if position < len(tokens):
                states[number].stake = max(states[number].stake, bonus * (position - len(around)) / len(word))
        states[number].bonus += bonus
    return states


def _link(states: list[_State]) -> None:
    """Each state's longest proper end that is a beginning, too; its stake and bonuses count for the state as well."""
    queue = [ROOT]
    for number in queue:
        for token, child in states[number].children.items():
            queue.append(child)
            shorter = states[number].shorter
            while shorter != ROOT and token not in states[shorter].children:
                shorter = states[shorter].shorter
            states[child].shorter = states[shorter].children.get(token, ROOT) if number != ROOT else ROOT
            end = states[states[child].shorter]
            states[child].stake = max(states[child].stake, end.stake)
            states[child].bonus += end.bonus

"""Posteriors as a trained CTC model puts them out, drawn from a text: peaky, with confusions, easy or hard.

A token is spoken in one frame or two, and all other frames are blank. A frame's logits are noise, plus a height for the
class that is spoken, plus lower heights for the four classes it is easily taken for. In some tokens one of these four
is spoken instead (substitution), in some nothing (deletion), and in some blank frames any token (insertion); the class
that should have been there is a little lower then. `statistics` says what came out, over the 16 of a set:

    set          tokens   frames with blank > 0.99   classes above e^-5 a frame   greedy token errors
    chars, easy  246      68 %                       1.18                          0.9 %
    chars, hard  246      68 %                       1.62                         10.7 %
    BPE, easy    124      80 %                       1.10                          1.0 %
    BPE, hard    124      59 %                       1.31                         12.3 %
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.decode.texts import CHARACTERS, as_characters, as_pieces, as_text, language, sentences

BLANK = 0
FRAMES = 1_000
UTTERANCES = 16
UNKNOWN = 0.01
"""The part of words that no training text has."""


@dataclass(frozen=True)
class Difficulty:
    """Heights above the noise, in nats, with their standard deviations, and how often things go wrong."""

    noise: float
    height: float
    height_spread: float
    confusion: float
    confusion_spread: float
    substituted: float
    deleted: float
    inserted: float
    lower: float
    """How far, on average, the right class is below the wrong one where one is spoken instead."""


EASY = Difficulty(1.0, 12.0, 1.5, 4.0, 1.5, 0.003, 0.001, 0.0005, 1.0)
HARD = Difficulty(1.0, 10.0, 1.5, 4.5, 1.5, 0.02, 0.008, 0.003, 1.5)
SILENCE = 3.0
"""A blank between tokens is this much higher than a token, in nats: models are surest of it."""
DIFFICULTIES = {"easy": EASY, "hard": HARD}


@dataclass(frozen=True)
class Units:
    """What is recognised: characters or pieces of words."""

    name: str
    labels: Callable[[], tuple[str, ...]]
    spell: Callable[[list[tuple[str, ...]]], list[int]]
    frames_per_token: float


UNITS = {
    "chars": Units("chars", lambda: CHARACTERS, as_characters, 4.0),
    "BPE": Units("BPE", lambda: language().pieces, as_pieces, 8.0),
}


class Utterance(NamedTuple):
    """One recording: log-probabilities (T, C) float32, the classes that were said, and their text."""

    log_probs: NDArray[np.float32]
    tokens: list[int]
    text: str


def _places(tokens: list[int], frames: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], ...]:
    """The first frame and the number of frames of each token: one or two, a blank between equal neighbours."""
    lengths = 1 + (generator.random(len(tokens)) < 0.3).astype(np.int64)
    least = np.array([0, *(int(a == b) for a, b in itertools.pairwise(tokens)), 0])
    free = frames - int(lengths.sum() + least.sum())
    gaps = least + generator.multinomial(free, np.full(len(least), 1 / len(least)))
    return np.cumsum(gaps[:-1] + np.concatenate([[0], lengths[:-1]])), lengths


def _speak(
    tokens: list[int], frames: int, classes: int, difficulty: Difficulty, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The class that is heard in each frame, and the class that was meant; they differ where something goes wrong."""
    heard, meant = np.full(frames, BLANK), np.full(frames, BLANK)
    starts, lengths = _places(tokens, frames, generator)
    luck = generator.random(len(tokens))
    for token, start, length, chance in zip(tokens, starts, lengths, luck, strict=True):
        place = slice(start, start + length)
        meant[place] = heard[place] = token
        if chance < difficulty.substituted:
            heard[place] = generator.choice(_taken_for(classes)[token])
        elif chance < difficulty.substituted + difficulty.deleted:
            heard[place] = BLANK
    inserted = (meant == BLANK) & (generator.random(frames) < difficulty.inserted)
    heard[inserted] = generator.integers(1, classes, int(inserted.sum()))
    return heard, meant


@functools.cache
def _taken_for(classes: int) -> NDArray[np.int64]:
    """(C, 4): the classes that each class is easily taken for, never the blank."""
    generator = np.random.default_rng(classes)
    others = [np.delete(np.arange(1, classes), max(k - 1, 0)) for k in range(classes)]
    return np.stack([generator.choice(some, 4, replace=False) for some in others])


def draw(tokens: list[int], frames: int, classes: int, difficulty: Difficulty, seed: int) -> NDArray[np.float32]:
    """Log-probabilities (T, C) in which `tokens` were said; the same for the same arguments, always."""
    generator = np.random.default_rng(seed)
    heard, meant = _speak(tokens, frames, classes, difficulty, generator)
    rows = np.arange(frames)
    logits = generator.normal(0.0, difficulty.noise, (frames, classes))
    height = np.maximum(generator.normal(difficulty.height, difficulty.height_spread, frames), 0.0)
    logits[rows, heard] += height + SILENCE * ((heard == BLANK) & (meant == BLANK))
    wrong = heard != meant
    lower = generator.exponential(difficulty.lower, frames)
    logits[rows[wrong], meant[wrong]] += np.maximum(height - lower, 0.0)[wrong]
    spoken = meant != BLANK
    similar = _taken_for(classes)[meant[spoken]]
    heights = generator.normal(difficulty.confusion, difficulty.confusion_spread, similar.shape)
    logits[rows[spoken, None], similar] += np.maximum(heights, 0.0)
    doubts = generator.normal(difficulty.confusion, difficulty.confusion_spread, int(spoken.sum()))
    logits[spoken, BLANK] += np.maximum(doubts, 0.0)
    logits -= logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), dtype=np.float32)


@functools.cache
def utterances(units: str, difficulty: str, count: int = UTTERANCES, frames: int = FRAMES) -> tuple[Utterance, ...]:
    """The set of that name: `count` texts, each as long as fits into `frames`, and what a model makes of them."""
    kind = UNITS[units]
    found = []
    for index in range(count):
        said: list[tuple[str, ...]] = []
        for word in (word for sentence in sentences(frames, 7_000 + index, UNKNOWN) for word in sentence):
            if len(kind.spell([*said, word])) > frames / kind.frames_per_token:
                break
            said.append(word)
        tokens = kind.spell(said)
        log_probs = draw(tokens, frames, len(kind.labels()), DIFFICULTIES[difficulty], 8_000 + index)
        found.append(Utterance(log_probs, tokens, as_text(said)))
    return tuple(found)


def edit_distance(left: list[str] | list[int], right: list[str] | list[int]) -> int:
    """Levenshtein's: substitutions, deletions and insertions."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def statistics(found: tuple[Utterance, ...]) -> dict[str, float]:
    """Shares and means over all frames of a set, and the greedy path's token error rate."""
    scores = np.stack([utterance.log_probs for utterance in found])
    errors = sum(edit_distance(best_path(utterance.log_probs), utterance.tokens) for utterance in found)
    return {
        "sure_blanks": float((scores[:, :, BLANK] > np.log(0.99)).mean()),
        "classes_above_e5": float((scores > -5).sum(axis=2).mean()),
        "classes_above_1e3": float((scores > np.log(1e-3)).sum(axis=2).mean()),
        "greedy_errors": errors / sum(len(utterance.tokens) for utterance in found),
        "tokens": float(np.mean([len(utterance.tokens) for utterance in found])),
    }


def best_path(log_probs: NDArray[np.float32]) -> list[int]:
    """The classes of the best path, repeats and blanks taken out."""
    best = log_probs.argmax(axis=1)
    kept = (best != BLANK) & np.concatenate([[True], best[1:] != best[:-1]])
    return [int(token) for token in best[kept]]

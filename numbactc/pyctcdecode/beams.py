"""From hypotheses in classes to beams in words, with frames and scores."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from numbactc.decoding import Hypothesis
from numbactc.pyctcdecode.alphabet import MARK, Alphabet
from numbactc.pyctcdecode.language_model import LanguageModel

USUAL_LENGTH = 6
"""Labels of an unknown word from which on each costs more."""

Frames = tuple[int, int]
WordFrames = tuple[str, Frames]


class OutputBeam(NamedTuple):
    """One of an utterance's likely texts.

    Attributes:
        text: words with single spaces between.
        last_lm_state: state of the language model after the last word, for `lm_start_state`; None without a model.
        text_frames: each word with the frame in which it begins and the one after its last.
        logit_score: log-probability of the text, in nats: all alignments.
        lm_score: logit_score and what language model, word bonus and hotwords add to it.
    """

    text: str
    last_lm_state: int | None
    text_frames: list[WordFrames]
    logit_score: float
    lm_score: float


class OutputBeamMPSafe(NamedTuple):
    """An `OutputBeam` without a state."""

    text: str
    text_frames: list[WordFrames]
    logit_score: float
    lm_score: float


class Word(NamedTuple):
    """A word and the places of its first and last token."""

    text: str
    first: int
    last: int


class Weights(NamedTuple):
    """What a text gains apart from its alignments."""

    model: LanguageModel | None
    start_state: int
    hotwords: Collection[str]
    hotword_weight: float


def words_of(tokens: Sequence[int], alphabet: Alphabet) -> list[Word]:
    """The words that classes make up."""
    labels = alphabet.labels
    found: list[Word] = []
    current, first = "", 0
    for place, token in enumerate([*tokens, None]):
        label = "" if token is None else labels[token]
        last_label = labels[tokens[place - 1]] if place else ""
        ends = token is None or (
            label.startswith(MARK) or (len(last_label) > 1 and last_label.endswith(MARK))
            if alphabet.is_bpe
            else token == alphabet.boundary
        )
        if ends:
            if current:
                found.append(Word(current, first, place - 1))
            current, first = "", place
        if alphabet.is_bpe:
            current += label.strip(MARK)
        elif token != alphabet.boundary:
            first = first if current else place
            current += label
    return found


def last_frames(log_probs: np.ndarray) -> np.ndarray:
    """(T,) for each frame the one after the stretch of frames with the same best class that it is in."""
    best = log_probs.argmax(axis=1)
    ends = np.append(np.flatnonzero(best[1:] != best[:-1]) + 1, best.size)
    return np.repeat(ends, np.diff(ends, prepend=0))


def beams_of(
    hypotheses: Sequence[Hypothesis], log_probs: np.ndarray, alphabet: Alphabet, weights: Weights
) -> list[OutputBeam]:
    """Beams of one utterance, the best lm_score first; hypotheses of the same words are one, with all their mass."""
    best, ends = log_probs.argmax(axis=1), last_frames(log_probs) if log_probs.size else np.zeros(0, np.int64)
    tokens = [hypothesis.tokens.tolist() for hypothesis in hypotheses]
    words = [words_of(each, alphabet) for each in tokens]
    states = _states([[word.text for word in each] for each in words], weights)
    merged: dict[str, OutputBeam] = {}
    for hypothesis, said, its_tokens, state in zip(hypotheses, words, tokens, states, strict=True):
        text = " ".join(word.text for word in said)
        if text in merged:
            other = merged[text]
            more = float(np.logaddexp(other.logit_score, hypothesis.log_prob)) - other.logit_score
            merged[text] = other._replace(logit_score=other.logit_score + more, lm_score=other.lm_score + more)
            continue
        times = [*hypothesis.times.tolist(), len(log_probs)]
        frames: list[WordFrames] = []
        for word in said:
            time = times[word.last]
            goes_on = best[time] == its_tokens[word.last]
            end = min(int(ends[time]), times[word.last + 1]) if goes_on else time + 1  # the next token begins there
            frames.append((word.text, (times[word.first], end)))
        gained = _gained(hypothesis, said, state, weights)
        merged[text] = OutputBeam(text, state, frames, hypothesis.log_prob, hypothesis.log_prob + gained)
    return sorted(merged.values(), key=lambda beam: -beam.lm_score if not math.isnan(beam.lm_score) else math.inf)


def _states(texts: list[list[str]], weights: Weights) -> list[int | None]:
    if weights.model is None:
        return [None] * len(texts)
    return list(weights.model.states_after(weights.start_state, texts))


def _gained(hypothesis: Hypothesis, words: list[Word], state: int | None, weights: Weights) -> float:
    gained = weights.hotword_weight * sum(word.text in weights.hotwords for word in words)
    model = weights.model
    if model is None or state is None:
        return gained
    nats = hypothesis.lm_score if model.score_boundary else hypothesis.lm_score - model.end_of(state)
    unknown = sum(
        max(1.0, (word.last - word.first + 1) / USUAL_LENGTH) for word in words if word.text not in model.known
    )
    return gained + model.alpha * nats + model.beta * len(words) - model.unknown_penalty * unknown

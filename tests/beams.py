"""What tests of beam search share: brute force over all paths, the textbook's search, and how results are compared."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

import numbactc
from numbactc import Hypothesis
from oracles import collapse

LAW = settings(derandomize=True, database=None, deadline=None, max_examples=40)

EVERYTHING = 2000
"""A beam that holds every prefix of the small cases: at most (3**7 - 1) / 2 = 1093, of 6 frames and 3 tokens."""


class Text(NamedTuple):
    """What brute force knows of a text."""

    log_prob: float
    best_path: tuple[int, ...]


def texts_of(scores: torch.Tensor, blank: int) -> dict[tuple[int, ...], Text]:
    """Every text that scores (T, C) give a probability, by enumeration of all paths."""
    T, C = scores.shape
    rows = scores.double().tolist()
    total: dict[tuple[int, ...], float] = {}
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path in itertools.product(range(C), repeat=T):
        score = sum(rows[t][c] for t, c in enumerate(path))
        text = tuple(collapse(path, blank))
        if score > -math.inf:
            total[text] = total.get(text, 0.0) + math.exp(score)
            best[text] = max(best.get(text, (-math.inf, path)), (score, path))
    return {text: Text(math.log(total[text]), best[text][1]) for text in total}


def begins(path: Sequence[int], blank: int) -> list[int]:
    """Frames of a path in which a token begins."""
    return [t for t, c in enumerate(path) if c != blank and (t == 0 or path[t - 1] != c)]


def probabilities(*rows: list[float]) -> torch.Tensor:
    """Log-probabilities (T, C)."""
    return torch.tensor(rows, dtype=torch.float64).log()


def decode(scores: torch.Tensor, beam_size: int = 100, n_best: int = 1, **keywords: object) -> list[Hypothesis]:
    """The hypotheses of one utterance (T, C)."""
    (hypotheses,) = numbactc.beam_search_decode(scores, None, beam_size, n_best, **keywords)  # type: ignore[arg-type]
    return hypotheses


def search(scores: torch.Tensor, beam_size: int = 100, n_best: int = 1, **keywords: object) -> list[Hypothesis]:
    """As the search itself ranks and scores them: exact log-probabilities would put right what it gets wrong."""
    return decode(scores, beam_size, n_best, rescore=False, **keywords)


def tokens_of(hypotheses: list[Hypothesis]) -> list[list[int]]:
    return [hypothesis.tokens.tolist() for hypothesis in hypotheses]


def assert_same(a: list[Hypothesis], b: list[Hypothesis]) -> None:
    """To the bit."""
    assert tokens_of(a) == tokens_of(b)
    assert [h.times.tolist() for h in a] == [h.times.tolist() for h in b]
    for field in ("score", "log_prob", "lm_score"):
        values = [[getattr(h, field) for h in hypotheses] for hypotheses in (a, b)]
        assert np.array_equal(*np.array(values).view(np.int64))


def assert_complete(hypotheses: list[Hypothesis], scores: torch.Tensor, blank: int) -> None:
    """Every text that there is, best first, with its probability and the frames of its best path."""
    truth = texts_of(scores, blank)
    assert sorted(tokens_of(hypotheses)) == sorted(map(list, truth))
    for hypothesis in hypotheses:
        text = truth[tuple(hypothesis.tokens.tolist())]
        assert hypothesis.score == pytest.approx(text.log_prob, abs=1e-10)
        assert hypothesis.log_prob == pytest.approx(text.log_prob, abs=1e-10)
        assert hypothesis.times.tolist() == begins(text.best_path, blank)
    assert all(a.score >= b.score for a, b in itertools.pairwise(hypotheses))
    assert hypotheses[0].score == pytest.approx(max(text.log_prob for text in truth.values()), abs=1e-10)


@st.composite
def small_cases(draw: st.DrawFn, largest_classes: int = 4) -> tuple[torch.Tensor, int]:
    """Scores (T, C) and a blank, small enough for brute force; some scores are -inf, though never all of a frame."""
    T, C = draw(st.integers(1, 6)), draw(st.integers(1, largest_classes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    scores = torch.randn(T, C, dtype=torch.float64, generator=generator) * draw(st.sampled_from([0.3, 2.0, 10.0]))
    if draw(st.booleans()):
        masked = torch.rand(T, C, generator=generator) < 0.3
        masked[range(T), scores.argmax(1)] = False
        scores = scores.masked_fill(masked, -math.inf)
    return scores.log_softmax(1) if draw(st.booleans()) else scores, draw(st.integers(0, C - 1))


Masses = dict[tuple[int, ...], tuple[float, float]]


def following(beam: Masses, row: list[float], beam_size: int, blank: int) -> Masses:
    """The beam after one more frame, as the textbook has it: dictionaries of prefixes, probabilities as they are."""
    sums: dict[tuple[int, ...], list[float]] = {}
    for prefix, (blank_mass, label_mass) in beam.items():
        sums.setdefault(prefix, [0.0, 0.0])[0] += (blank_mass + label_mass) * row[blank]
        for token, p in enumerate(row):
            if token != blank:
                repeats = prefix[-1:] == (token,)
                if repeats:
                    sums[prefix][1] += label_mass * p
                longer = sums.setdefault((*prefix, token), [0.0, 0.0])
                longer[1] += (blank_mass if repeats else blank_mass + label_mass) * p
    best = sorted(sums.items(), key=lambda item: -sum(item[1]))[:beam_size]
    return {prefix: (b, l) for prefix, (b, l) in best if b + l > 0}


def reference_beams(scores: torch.Tensor, beam_size: int, blank: int = 0) -> Iterator[dict[tuple[int, ...], float]]:
    """The prefixes in the beam after each frame, and their log-probabilities."""
    beam: Masses = {(): (1.0, 0.0)}
    scale = 0.0
    for row in scores.double().exp().tolist():
        beam = following(beam, row, beam_size, blank)
        largest = max(map(sum, beam.values()))
        scale += math.log(largest)
        beam = {prefix: (b / largest, l / largest) for prefix, (b, l) in beam.items()}
        yield {prefix: scale + math.log(b + l) for prefix, (b, l) in beam.items()}


def reference_search(scores: torch.Tensor, beam_size: int) -> dict[tuple[int, ...], float]:
    *_, last = reference_beams(scores, beam_size)
    return last


def model_like(T: int, C: int, sharpness: float) -> torch.Tensor:
    """Log-probabilities (T, C) in float64, most of them blank, as of a trained model."""
    scores = torch.randn(T, C, dtype=torch.float64) * sharpness
    scores[:, 0] += 2 * sharpness
    return scores.log_softmax(1)

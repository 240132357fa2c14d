"""Exact log-probabilities of many texts at once, by the tree of their prefixes; see `kernels/cpu/texts.py`."""

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import numbactc
from numbactc import _dispatch_texts, _hypotheses
from oracles import recursion

Texts = Sequence[Sequence[int]]


def log_probs_of(scores: Tensor, texts: Texts, least: float, blank: int = 0) -> np.ndarray | None:
    """What is computed for texts of the one utterance of scores (T, C)."""
    tokens = np.array([token for text in texts for token in text], np.int64)
    lengths = np.array([len(text) for text in texts], np.int64)
    return _dispatch_texts.log_probs(scores.unsqueeze(1), 0, len(scores), blank, tokens, lengths, least)


def expected(scores: Tensor, texts: Texts, blank: int = 0) -> list[float]:
    return [-recursion(scores.double().numpy(), text, blank).loss for text in texts]


def similar_texts(count: int, length: int, classes: int, seed: int) -> list[list[int]]:
    """Texts that differ in a few places, with equal neighbours, and the empty one."""
    draw = random.Random(seed)
    text = [draw.randrange(1, classes) for _ in range(length)]
    texts: list[list[int]] = [[]]
    for _ in range(count):
        other = list(text)
        place = draw.randrange(length)
        other[place : place + draw.randrange(2)] = [draw.randrange(1, classes)] * draw.randrange(3)
        texts.append(other)
    return texts


def likely(texts: Texts, frames: int, classes: int, sharpness: float, seed: int) -> Tensor:
    """Scores (T, C) in which the last text is spoken at an even pace."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(frames, classes, dtype=torch.float64, generator=generator)
    for i, token in enumerate(texts[-1]):
        scores[(2 * i + 1) * frames // (2 * len(texts[-1])), token] += sharpness
    scores[:, 0] += sharpness / 2
    return scores.log_softmax(1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sharpness", [0.0, 12.0])
def test_texts_that_share_prefixes(sharpness: float, seed: int) -> None:
    texts = similar_texts(20, 12, 5, seed)
    scores = likely(texts, 60, 5, sharpness, seed)
    answers = expected(scores, texts)
    assert log_probs_of(scores, texts, min(answers)) == pytest.approx(answers, abs=1e-11)


def test_where_levels_are_left_out() -> None:
    """So many labels that, at any time, most prefixes are out of the question."""
    texts = similar_texts(4, 150, 20, 1)[1:]
    scores = likely(texts, 1200, 20, 14.0, 1)
    answers = expected(scores, texts)
    assert log_probs_of(scores, texts, min(answers) - 30.0) == pytest.approx(answers, abs=1e-10)


@pytest.mark.parametrize("shift", [-50.0, 3.0, 200.0])
def test_scores_that_are_no_log_probabilities(shift: float) -> None:
    texts = similar_texts(10, 12, 5, 3)
    scores = likely(texts, 60, 5, 8.0, 3) + shift
    answers = expected(scores, texts)
    assert log_probs_of(scores, texts, min(answers)) == pytest.approx(answers, rel=1e-13)


@pytest.mark.parametrize("least", [-1e4, -100.0, -20.0, 1e4])
def test_what_is_said_to_be_known_never_makes_it_wrong(least: float) -> None:
    """Scores that turn about: what is out of the question in one frame is all there is in the next."""
    answered = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        scores = (torch.randn(12, 4, dtype=torch.float64, generator=generator) * 25).log_softmax(1)
        texts = similar_texts(3, 3, 4, seed)
        found = log_probs_of(scores, texts, least)
        if found is not None:
            answered += 1
            assert found == pytest.approx(expected(scores, texts), abs=1e-11)
    assert answered > 30 or least > -1e4


@pytest.mark.parametrize(
    ("frames", "text", "least"),
    [
        ([[0.0, -35.0], [0.0, -30.0]], [1], 8.0),
        ([[0.0, -75.0, -700.0], [0.0, -60.0, -700.0], [-700.0, -700.0, 0.0]], [1, 2], -25.0),
    ],
    ids=["on one scale", "before the scale changes"],
)
def test_what_was_left_out_is_not_forgotten(frames: list[list[float]], text: list[int], least: float) -> None:
    """A label in the first frame has less than is said to be known, and is left out; in the second it is not."""
    scores = torch.tensor(frames, dtype=torch.float64)
    (answer,) = expected(scores, [text])
    assert log_probs_of(scores, [text], least) is None
    assert log_probs_of(scores, [text], answer) == pytest.approx([answer], abs=1e-14)


def test_masked_classes_and_impossible_texts() -> None:
    texts = [[1, 2], [2, 1], [1, 1], [3]]
    scores = likely(texts, 8, 4, 2.0, 5)
    scores[:, 3] = -math.inf
    answers = expected(scores, texts)
    assert answers[3] == -math.inf
    assert log_probs_of(scores, texts[:3], min(answers[:3])) == pytest.approx(answers[:3], abs=1e-12)
    # that a text has no path cannot be told from one whose paths are out of reach
    assert log_probs_of(scores, texts, -math.inf) is None
    scores[4] = -math.inf
    assert log_probs_of(scores, texts, -math.inf) == pytest.approx([-math.inf] * 4)


def test_no_frames() -> None:
    assert log_probs_of(torch.zeros(0, 3), [[]], 0.0) == pytest.approx([0.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_and_strides(dtype: torch.dtype) -> None:
    texts = similar_texts(10, 12, 9, 6)
    wide = likely(texts, 50, 9, 6.0, 6).to(dtype).repeat_interleave(2, dim=1)
    answers = expected(wide[:, ::2], texts)
    assert log_probs_of(wide[:, ::2], texts, min(answers)) == pytest.approx(answers, abs=1e-11)


def test_out_of_reach_of_plain_numbers_the_loss_answers() -> None:
    """e**-2000 from one frame to the next, and back: a sum on the way is nothing beside others, and counts later."""
    scores = torch.tensor([[-2000.0, 0.0], [-2000.0, 0.0], [0.0, -2000.0], [-2000.0, 0.0]], dtype=torch.float64)
    assert log_probs_of(scores, [[1, 1], [1]], -2000.0) is None
    nearly_lost = torch.tensor([[0.0, -644.0], [0.0, -650.0]], dtype=torch.float64)
    assert log_probs_of(nearly_lost, [[], [1]], -650.0) is None
    found = numbactc.beam_search_decode(scores, beam_size=10, n_best=3)[0]
    for hypothesis in found:
        answer = -recursion(scores.numpy(), hypothesis.tokens.tolist(), 0).loss
        assert hypothesis.log_prob == pytest.approx(answer, rel=1e-12)


def test_without_the_loss_as_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels take long to compile."""
    monkeypatch.setattr(_hypotheses, "_by_loss", None)
    scores = likely([[1, 2, 3]], 80, 6, 5.0, 7)
    for some in (scores, scores.float(), scores * 3.0, torch.zeros(5, 3), scores[:0], torch.full((4, 3), -math.inf)):
        assert numbactc.beam_search_decode(some, beam_size=30, n_best=10)[0]
    scores[3, 1] = math.nan
    assert math.isnan(numbactc.beam_search_decode(scores)[0][0].log_prob)

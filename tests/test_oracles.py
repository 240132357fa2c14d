"""The three oracles agree with each other and with numbers worked out by hand. Nothing of numbactc runs here."""

import math

import numpy as np
import pytest
import torch

from batches import random_target
from oracles import Array, Oracle, best_path, collapse, enumeration, expected, recursion, torch_float64

CASES = [
    # T, C, blank, target
    pytest.param(1, 2, 0, [1], id="one-frame"),
    pytest.param(3, 3, 0, [1, 2], id="skip"),
    pytest.param(3, 3, 0, [1, 1], id="repeat-exactly-fits"),
    pytest.param(5, 3, 0, [1, 1, 2], id="repeat-then-skip"),
    pytest.param(6, 3, 1, [0, 2, 2], id="blank-in-the-middle"),
    pytest.param(7, 3, 2, [0, 1, 0], id="blank-last"),
    pytest.param(7, 3, 0, [1, 2, 2, 1], id="seven-frames"),
    pytest.param(7, 2, 1, [0, 0, 0], id="one-label-class"),
    pytest.param(5, 4, 3, [], id="empty-target"),
    pytest.param(4, 3, 0, [1, 2, 1, 2], id="as-many-labels-as-frames"),
]


def random_scores(T: int, C: int, normalised: bool) -> Array:
    scores = np.random.randn(T, C) * 2
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True) if normalised else scores


@pytest.mark.parametrize("normalised", [True, False], ids=["normalised", "unnormalised"])
@pytest.mark.parametrize(("T", "C", "blank", "target"), CASES)
def test_recursion_and_torch_equal_enumeration(T: int, C: int, blank: int, target: list[int], normalised: bool) -> None:
    scores = random_scores(T, C, normalised)
    truth = enumeration(scores, target, blank)
    assert math.isfinite(truth.loss)
    for oracle in (recursion, torch_float64):
        answer = oracle(scores, target, blank)
        assert answer.loss == pytest.approx(truth.loss, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(answer.posteriors, truth.posteriors, rtol=1e-10, atol=1e-13)


def test_recursion_equals_torch_where_enumeration_cannot_follow() -> None:
    for T, C, L, blank in [(40, 6, 12, 0), (90, 3, 30, 2), (200, 20, 99, 7)]:
        scores = random_scores(T, C, normalised=False)
        target = random_target(L, C, blank, T)
        truth, answer = torch_float64(scores, target, blank), recursion(scores, target, blank)
        assert answer.loss == pytest.approx(truth.loss, rel=1e-12)
        np.testing.assert_allclose(answer.posteriors, truth.posteriors, atol=1e-11)


@pytest.mark.parametrize("oracle", [enumeration, recursion])
def test_no_frames(oracle: Oracle) -> None:
    assert oracle(np.zeros((0, 3)), [], 0).loss == 0.0
    assert oracle(np.zeros((0, 3)), [1], 0).loss == math.inf


@pytest.mark.parametrize("oracle", [enumeration, recursion, torch_float64])
@pytest.mark.parametrize(("T", "target"), [(1, [1, 2]), (2, [1, 1]), (5, [1, 1, 2, 2]), (4, [1, 1, 1])])
def test_no_path_fits(oracle: Oracle, T: int, target: list[int]) -> None:
    answer = oracle(random_scores(T, 3, True), target, 0)
    assert answer.loss == math.inf
    assert not answer.posteriors.any()


def test_masked_classes_have_no_posterior() -> None:
    scores = random_scores(6, 3, False)
    scores[2, 0] = scores[3, 1] = -np.inf
    truth, answer = enumeration(scores, [1, 2], 0), recursion(scores, [1, 2], 0)
    assert answer.loss == pytest.approx(truth.loss, rel=1e-12)
    np.testing.assert_allclose(answer.posteriors, truth.posteriors, atol=1e-13)
    assert answer.posteriors[2, 0] == answer.posteriors[3, 1] == 0.0


def test_numbers_worked_out_by_hand() -> None:
    """Uniform over three classes in three frames: the paths of [1, 2] are 112 122 12- 1-2 -12, five of 27."""
    uniform = np.full((3, 3), -math.log(3))
    for oracle in (enumeration, recursion, torch_float64):
        assert oracle(uniform, [1, 2], 0).loss == pytest.approx(math.log(27 / 5), rel=1e-12)
        assert oracle(uniform, [1, 1], 0).loss == pytest.approx(math.log(27), rel=1e-12)
        assert oracle(uniform, [], 0).loss == pytest.approx(math.log(27), rel=1e-12)


def test_posteriors_of_a_frame_sum_to_one() -> None:
    np.testing.assert_allclose(recursion(random_scores(50, 5, False), [1, 2, 2, 4], 0).posteriors.sum(1), 1, rtol=1e-12)


def test_collapse() -> None:
    assert collapse([0, 1, 1, 0, 1, 2, 2, 0], blank=0) == [1, 1, 2]
    assert collapse([0, 0], blank=0) == collapse([], blank=0) == []


def test_best_path_is_the_largest_term_of_the_sum() -> None:
    scores = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]]))
    assert best_path(scores, [1, 2], 0) == pytest.approx(-math.log(0.3 * 0.8 * 0.6))
    assert best_path(scores, [1, 1], 0) == pytest.approx(-math.log(0.3 * 0.1 * 0.2))
    assert best_path(scores[:1], [1, 2], 0) == math.inf


def test_expected_differentiates_what_it_says() -> None:
    """The gradient `expected` returns is the slope of the loss it returns, for both losses."""
    scores = torch.randn(6, 1, 4, dtype=torch.float64)
    for with_logits in (False, True):
        _, gradient = expected(scores, [[1, 2, 2]], [5], blank=3, with_logits=with_logits)
        for t, c in [(0, 1), (2, 3), (4, 2), (5, 0)]:
            step = torch.zeros_like(scores)
            step[t, 0, c] = 1e-5
            above, _ = expected(scores + step, [[1, 2, 2]], [5], blank=3, with_logits=with_logits)
            below, _ = expected(scores - step, [[1, 2, 2]], [5], blank=3, with_logits=with_logits)
            assert (above - below).item() / 2e-5 == pytest.approx(gradient[t, 0, c].item(), abs=1e-8)

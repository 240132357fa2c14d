"""All paths of a small problem: the right ones, each once, best first, adding up to the loss; never too many."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import numbactc
from oracles import collapse, enumeration


def scores(T: int, C: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(T, C, dtype=torch.float64).log_softmax(-1).to(dtype)


def by_brute_force(T: int, C: int, target: list[int], blank: int) -> set[tuple[int, ...]]:
    return {path for path in itertools.product(range(C), repeat=T) if collapse(path, blank) == target}


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("T", range(7))
def test_paths_are_those_that_collapse_to_the_target(T: int, blank: int) -> None:
    labels = [label for label in range(3) if label != blank]
    for L in range(5):
        for target in itertools.product(labels, repeat=L):
            paths = numbactc.enumerate_alignments(scores(T, 3), target, blank)
            classes = [path.classes for path in paths]
            assert set(classes) == by_brute_force(T, 3, list(target), blank), target
            assert len(set(classes)) == len(classes), target


@given(st.integers(0, 9), st.lists(st.integers(1, 3), max_size=4), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_they_add_up_to_the_loss_and_the_posteriors(T: int, target: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(T, 4, dtype=torch.float64, generator=generator).log_softmax(-1).requires_grad_()
    loss = numbactc.ctc_loss(log_probs, torch.tensor(target, dtype=torch.int64), [T], [len(target)], reduction="sum")
    paths = numbactc.enumerate_alignments(log_probs, target)
    if not paths:
        assert loss.item() == math.inf
        return
    probabilities = np.exp([path.log_prob for path in paths])
    assert -math.log(math.fsum(probabilities)) == pytest.approx(loss.item(), abs=1e-12)
    posteriors = np.zeros((T, 4))
    for path, probability in zip(paths, probabilities, strict=True):
        posteriors[range(T), path.classes] += probability / probabilities.sum()
    if T:
        loss.backward()
        assert log_probs.grad is not None
        np.testing.assert_allclose(posteriors, -log_probs.grad.numpy(), atol=1e-12)


def test_each_has_its_own_log_probability_and_the_best_comes_first() -> None:
    log_probs = scores(6, 4)
    paths = numbactc.enumerate_alignments(log_probs, [3, 1, 1])
    for path in paths:
        assert path.log_prob == pytest.approx(log_probs[range(6), path.classes].sum().item(), abs=1e-13)
    values = [path.log_prob for path in paths]
    assert values == sorted(values, reverse=True)
    answer = enumeration(log_probs.numpy(), [3, 1, 1], 0)
    assert -math.log(sum(map(math.exp, values))) == pytest.approx(answer.loss, abs=1e-12)


def test_equally_probable_paths_are_in_the_order_of_their_classes() -> None:
    paths = numbactc.enumerate_alignments(torch.zeros(4, 3), [2, 1])
    assert [path.classes for path in paths] == sorted(path.classes for path in paths)
    assert {path.log_prob for path in paths} == {0.0}


@pytest.mark.parametrize(
    ("T", "target", "number"),
    [(0, [], 1), (5, [], 1), (1, [1], 1), (2, [1], 3), (3, [1, 1], 1), (4, [1, 1], 5), (4, [1, 2], 15)],
)
def test_numbers_worked_out_by_hand(T: int, target: list[int], number: int) -> None:
    assert len(numbactc.enumerate_alignments(scores(T, 3), target)) == number


def test_a_repeated_label_needs_a_blank_between() -> None:
    (path,) = numbactc.enumerate_alignments(scores(3, 2), [1, 1])
    assert path.classes == (1, 0, 1)
    assert numbactc.enumerate_alignments(scores(2, 2), [1, 1]) == []


@pytest.mark.parametrize("target", [[1, 2, 1, 2], [1, 1, 2], [1, 1, 1]])
def test_no_path_where_the_target_does_not_fit(target: list[int]) -> None:
    assert numbactc.enumerate_alignments(scores(3, 3), target) == []
    assert numbactc.ctc_loss(scores(3, 3), torch.tensor(target), [3], [len(target)]).item() == math.inf


def test_an_empty_target_has_the_path_of_blanks() -> None:
    log_probs = scores(3, 2)
    (path,) = numbactc.enumerate_alignments(log_probs, [], 1)
    assert path.classes == (1, 1, 1)
    assert path.log_prob == pytest.approx(log_probs[:, 1].sum().item())
    (path,) = numbactc.enumerate_alignments(scores(0, 2), [])
    assert path == ((), 0.0)


def test_impossible_paths_are_there_and_come_last() -> None:
    log_probs = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    paths = numbactc.enumerate_alignments(log_probs, [1])
    assert [path.classes for path in paths] == [(1, 0), (0, 1), (1, 1)]
    assert [path.log_prob for path in paths[1:]] == [-math.inf] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_is_summed_in_float64(dtype: torch.dtype) -> None:
    log_probs = scores(5, 3, dtype)
    assert numbactc.enumerate_alignments(log_probs, [1, 2]) == numbactc.enumerate_alignments(log_probs.double(), [1, 2])


def test_forms_of_target() -> None:
    log_probs = scores(4, 3)
    expected = numbactc.enumerate_alignments(log_probs, [2, 1])
    forms: list[Any] = [(2, 1), torch.tensor([2, 1]), torch.tensor([2, 1], dtype=torch.int32), np.array([2, 1])]
    for target in forms:
        assert numbactc.enumerate_alignments(log_probs, target) == expected


def test_the_callers_tensor_keeps_its_graph_and_values() -> None:
    log_probs = scores(4, 3).requires_grad_()
    before = log_probs.detach().clone()
    numbactc.enumerate_alignments(log_probs, [2, 1])
    assert log_probs.grad is None
    assert torch.equal(log_probs, before)


def test_too_many_paths_are_counted_and_never_made() -> None:
    with pytest.raises(ValueError, match=r"at most 100000 alignments .* got 3190187286 of 5 labels in 40 frames"):
        numbactc.enumerate_alignments(scores(40, 6), [1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match=r"got more than 10\*\*330 of 200 labels in 1000 frames"):
        numbactc.enumerate_alignments(scores(1000, 3), [1, 2] * 100)


def test_the_limit_is_the_largest_number_that_is_allowed() -> None:
    assert len(numbactc.enumerate_alignments(scores(4, 3), [1, 2], limit=15)) == 15
    with pytest.raises(ValueError, match=r"at most 14 alignments .* got 15 of 2 labels in 4 frames"):
        numbactc.enumerate_alignments(scores(4, 3), [1, 2], limit=14)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0.0, 0.0]], [1]), TypeError, "log_probs must be a tensor, got list"),
        ((torch.zeros(2, 2, dtype=torch.int64), [1]), TypeError, "log_probs must be float32, .* got torch.int64"),
        ((torch.zeros(2, 1, 2), [1]), ValueError, r"log_probs must have shape \(T, C\), got \(2, 1, 2\)"),
        ((torch.zeros(2, 2), torch.tensor([[1]])), ValueError, r"target must have shape \(L,\), got \(1, 1\)"),
        ((torch.zeros(2, 2), [0.5]), TypeError, r"target must hold integers, got \[0.5\]"),
        ((torch.zeros(2, 2), torch.ones(1)), TypeError, "target must be int32 or int64, got torch.float32"),
        ((torch.zeros(2, 2), [2]), ValueError, "where C = 2, and not the blank, 0, got 2 at position 0"),
        ((torch.zeros(2, 2), [1], 1), ValueError, "not the blank, 1, got 1 at position 0"),
        ((torch.zeros(2, 2), [1], 2), ValueError, "blank must be from 0 to C - 1, where C = 2, got 2"),
        ((torch.tensor([[0.0, 0.0], [0.0, torch.nan]]), [1]), ValueError, "NaN or .inf, got nan in frame 1, class 1"),
        ((torch.tensor([[torch.inf, 0.0]]), [1]), ValueError, "NaN or .inf, got inf in frame 0, class 0"),
    ],
)
def test_refused_arguments(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbactc.enumerate_alignments(*arguments)

"""What beam search may be given and what comes back: batches, layouts, dtypes, threads, errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import numbactc
from beams import LAW, assert_same, decode
from numbactc import _threads


@LAW
@given(st.integers(1, 5), st.integers(0, 2**16), st.integers(1, 20))
def test_batch_equals_one_by_one_and_padding_is_irrelevant(N: int, seed: int, beam_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(12, N, 5, generator=generator)
    lengths = torch.randint(0, 13, (N,), generator=generator)
    padded = scores.clone()
    for n in range(N):
        padded[lengths[n] :, n] = math.nan
    n_best = 1 + seed % beam_size
    for n, hypotheses in enumerate(numbactc.beam_search_decode(padded, lengths, beam_size, n_best)):
        assert_same(hypotheses, decode(scores[: lengths[n], n], beam_size, n_best))


def test_layouts_and_forms_of_lengths() -> None:
    scores = torch.randn(9, 3, 5)
    expected = numbactc.beam_search_decode(scores, [9, 4, 6], 10, 2)
    wide = torch.full((3, 5, 2, 9), math.nan)
    wide[:, :, 1] = scores.permute(1, 2, 0)
    for found in (
        numbactc.beam_search_decode(scores.transpose(0, 1).contiguous(), [9, 4, 6], 10, 2, batch_first=True),
        numbactc.beam_search_decode(wide[:, :, 1].permute(2, 0, 1), torch.tensor([9, 4, 6]), 10, 2),
        numbactc.beam_search_decode(torch._neg_view(-scores), torch.tensor([9, 4, 6], dtype=torch.int32), 10, 2),
    ):
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_are_decoded_as_their_values_in_float64(dtype: torch.dtype) -> None:
    scores = torch.randn(30, 7).to(dtype)
    for a, b in zip(decode(scores, 10, 10), decode(scores.double(), 10, 10), strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        assert a.score == b.score
        assert a.log_prob == pytest.approx(b.log_prob, abs=1e-9)


@pytest.mark.parametrize("n_best", [1, 4])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch, n_best: int) -> None:
    monkeypatch.setattr(_threads, "SMALLEST_SHARE", 1)
    scores = torch.randn(40, 7, 6)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(numbactc.beam_search_decode(scores, None, 12, n_best))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert_same(a, b)


def test_the_callers_scores_are_left_alone() -> None:
    scores = torch.randn(6, 2, 3, requires_grad=True)
    before = scores.detach().clone()
    numbactc.beam_search_decode(scores)
    assert torch.equal(scores.detach(), before)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"lengths": [4]}, ValueError, r"lengths must have shape \(2,\), got \(1,\)"),
        ({"lengths": [4, 5]}, ValueError, r"lengths must be from 0 to 4 \(T\), got 5 for utterance 1"),
        ({"lengths": [4, 0.5]}, TypeError, r"lengths must hold integers, got \[4, 0.5\]"),
        ({"beam_size": 0}, ValueError, "beam_size must be at least 1, got 0"),
        ({"beam_size": 2.5}, TypeError, "beam_size must be an integer, got 2.5"),
        ({"n_best": 0}, ValueError, r"n_best must be from 1 to 100 \(beam_size\), got 0"),
        ({"n_best": 101}, ValueError, r"n_best must be from 1 to 100 \(beam_size\), got 101"),
        ({"blank": 3}, ValueError, "blank must be from 0 to C - 1, where C = 3, got 3"),
        ({"beam_threshold": -1}, ValueError, "beam_threshold must be finite and at least 0, got -1.0"),
        ({"beam_threshold": math.nan}, ValueError, "beam_threshold must be finite and at least 0, got nan"),
        ({"token_threshold": math.inf}, ValueError, "token_threshold must be finite, got inf"),
        ({"token_threshold": "low"}, TypeError, "token_threshold must be a number, got 'low'"),
    ],
)
def test_what_is_wrong_is_said(keywords: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbactc.beam_search_decode(torch.zeros(4, 2, 3), **keywords)  # type: ignore[arg-type]


def test_a_beam_that_is_too_large_for_memory_says_so() -> None:
    with pytest.raises(MemoryError, match=r"must fit into 2 GiB"):
        decode(torch.randn(3, 5), 10**9)

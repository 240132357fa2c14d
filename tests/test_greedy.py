"""The best path: the best class of each frame, runs merged, blanks removed."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import numbactc
from numbactc import BestPath
from oracles import collapse


def frames_of(rows: list[list[float]]) -> torch.Tensor:
    """Log-probabilities (T, C) of probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


def alone(log_probs: torch.Tensor, **keywords: object) -> BestPath:
    (path,) = numbactc.greedy_decode(log_probs, **keywords)  # type: ignore[arg-type]
    return path


def assert_same(a: BestPath, b: BestPath) -> None:
    assert a.tokens.tolist() == b.tokens.tolist()
    assert a.times.tolist() == b.times.tolist()
    assert a.score == b.score or (math.isnan(a.score) and math.isnan(b.score))


def test_runs_merge_and_a_blank_between_keeps_both() -> None:
    path = alone(frames_of([[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    assert path.tokens.tolist() == [1, 1, 2]
    assert path.times.tolist() == [0, 3, 4]
    assert path.score == 0.0
    assert path.tokens.dtype == path.times.dtype == torch.int64


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(st.integers(0, 6), st.integers(1, 4), st.integers(0, 2**16), st.data())
def test_it_is_the_best_of_every_path(T: int, C: int, seed: int, data: st.DataObject) -> None:
    blank = data.draw(st.integers(0, C - 1))
    scores = torch.randn(T, C, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    paths = itertools.product(range(C), repeat=T)
    best = max(paths, key=lambda path: sum(scores[t, c].item() for t, c in enumerate(path)))
    path = alone(scores, blank=blank)
    assert path.tokens.tolist() == collapse(best, blank)
    begins = [t for t in range(T) if best[t] != blank and (t == 0 or best[t] != best[t - 1])]
    assert path.times.tolist() == begins
    assert path.score == pytest.approx(sum(scores[t, c].item() for t, c in enumerate(best)), abs=1e-12)


def test_batch_equals_one_by_one_and_padding_is_irrelevant() -> None:
    lengths = [9, 0, 5, 1]
    scores = torch.randn(9, 4, 3)
    padded = scores.clone()
    for n, length in enumerate(lengths):
        padded[length:, n] = torch.nan
    together = numbactc.greedy_decode(padded, lengths)
    for n, length in enumerate(lengths):
        assert_same(together[n], alone(scores[:length, n]))


def test_layouts_and_forms_of_lengths() -> None:
    scores = torch.randn(7, 3, 5)
    expected = numbactc.greedy_decode(scores, [7, 3, 6])
    for path, same in zip(
        expected, numbactc.greedy_decode(scores.transpose(0, 1), torch.tensor([7, 3, 6]), batch_first=True), strict=True
    ):
        assert_same(path, same)
    for path, same in zip(expected, numbactc.greedy_decode(scores.flip(2), (7, 3, 6), blank=4), strict=True):
        assert path.tokens.tolist() == (4 - same.tokens).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_are_decoded_as_their_values_in_float64(dtype: torch.dtype) -> None:
    scores = torch.randn(40, 3, 6).to(dtype)
    for path, exact in zip(numbactc.greedy_decode(scores), numbactc.greedy_decode(scores.double()), strict=True):
        assert_same(path, exact)


def test_the_score_is_summed_in_float64() -> None:
    scores = torch.full((20_000, 1, 2), -0.1)
    assert alone(scores).score == pytest.approx(20_000 * scores[0, 0, 0].item(), rel=1e-14)


def test_the_first_of_equal_classes_wins() -> None:
    assert alone(torch.zeros(3, 4), blank=3).tokens.tolist() == [0]


def test_no_frames_and_no_utterances() -> None:
    path = alone(torch.zeros(0, 3))
    assert (path.tokens.tolist(), path.times.tolist(), path.score) == ([], [], 0.0)
    assert numbactc.greedy_decode(torch.zeros(5, 0, 3)) == []


@pytest.mark.parametrize(
    ("value", "score"), [(-math.inf, "-inf"), (math.nan, "nan"), (math.inf, "nan")], ids=["-inf", "nan", "inf"]
)
def test_a_frame_without_a_best_class_has_no_path_and_hurts_no_neighbour(value: float, score: str) -> None:
    scores = torch.randn(6, 2, 3)
    expected = alone(scores[:, 1])
    scores[2, 0] = value
    bad, good = numbactc.greedy_decode(scores)
    assert bad.tokens.tolist() == bad.times.tolist() == []
    assert str(bad.score) == score
    assert_same(good, expected)


def test_one_nan_among_scores_is_enough() -> None:
    scores = torch.zeros(6, 3)
    scores[4, 1] = math.nan
    assert math.isnan(alone(scores).score)


def test_the_callers_scores_are_left_alone() -> None:
    scores = torch.randn(6, 2, 3, requires_grad=True)
    before = scores.detach().clone()
    assert not numbactc.greedy_decode(scores)[0].tokens.requires_grad
    assert torch.equal(scores.detach(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(4, 2, 3), [4]), r"lengths must have shape \(2,\), got \(1,\)"),
        ((torch.zeros(4, 2, 3), [4, 5]), r"lengths must be from 0 to 4 \(T\), got 5 for utterance 1"),
        ((torch.zeros(4, 2, 3), [-1, 4]), r"lengths must be from 0 to 4 \(T\), got -1 for utterance 0"),
        ((torch.zeros(4),), r"log_probs must have shape \(T, N, C\) or \(T, C\), got \(4,\)"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numbactc.greedy_decode(*arguments)  # type: ignore[arg-type]


def test_blank_out_of_range() -> None:
    with pytest.raises(ValueError, match="blank must be from 0 to C - 1, where C = 3, got 3"):
        numbactc.greedy_decode(torch.zeros(4, 3), blank=3)
    with pytest.raises(TypeError, match="log_probs must be float32"):
        numbactc.greedy_decode(torch.zeros(4, 3, dtype=torch.int64))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_it_is_the_same_and_scores_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(200, 5, 40)
    expected = numbactc.greedy_decode(scores, [200, 0, 17, 199, 3])
    copied = []
    to_cpu = torch.Tensor.cpu

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        copied.append(tensor.numel())
        return to_cpu(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    found = numbactc.greedy_decode(scores.cuda(), [200, 0, 17, 199, 3])
    for path, same in zip(expected, found, strict=True):
        assert_same(path, same)
        assert not same.tokens.is_cuda
    assert copied == [1000, 1000]

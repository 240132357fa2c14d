"""The best path is the best of all paths, settles ties as it says, and lies where its spans say."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import numbactc
from batches import Batch
from numbactc import Alignment
from oracles import collapse
from paths import all_paths, chosen, score_of

WILDCARD = -1


def align(batch: Batch, **options: object) -> list[Alignment]:
    return numbactc.forced_align(batch.scores, *batch.arguments(), blank=batch.blank, **options)  # type: ignore[arg-type]


def align_one(scores: Tensor, target: Sequence[int], **options: object) -> Alignment:
    """Of a single utterance (T, C)."""
    labels = torch.tensor(list(target), dtype=torch.int64)
    [alignment] = numbactc.forced_align(scores, labels, [len(scores)], [len(target)], **options)  # type: ignore[arg-type]
    return alignment


def assert_is_path_of(alignment: Alignment, target: Sequence[int], T: int, blank: int = 0) -> None:
    """Path and spans say the same, and it is a path of the target."""
    path = alignment.path.tolist()
    assert len(path) == T
    assert collapse(path, blank) == list(target)
    assert [span.token for span in alignment.spans] == list(target)
    rebuilt = [blank] * T
    behind = 0
    for span in alignment.spans:
        assert behind <= span.start < span.end <= T
        behind = span.end
        rebuilt[span.start : span.end] = [span.token] * (span.end - span.start)
    assert rebuilt == path


def assert_none(alignment: Alignment) -> None:
    assert alignment.path.dtype == torch.int64 and alignment.path.shape == (0,) and alignment.spans == []


TARGETS = [[], [1], [2, 1], [1, 1], [1, 2, 1], [2, 2, 1], [1, 1, 1]]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_every_path_is_tried(target: list[int], dtype: torch.dtype) -> None:
    """Same path, same score to the last bit, as the best of all by enumeration: T up to 7, three classes."""
    for T in range(1, 8):
        paths = all_paths(target, T, range(3))
        for _ in range(6):
            scores = torch.randn(T, 3, dtype=torch.float64).log_softmax(-1).to(dtype)
            alignment = align_one(scores, target)
            if not paths:
                assert alignment.score == -math.inf
                assert_none(alignment)
                continue
            rows = scores.double().numpy()
            expected = chosen(rows, paths)
            assert tuple(alignment.path.tolist()) == expected
            assert alignment.score == score_of(rows, expected)
            assert_is_path_of(alignment, target, T)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_ties_are_settled_as_documented(target: list[int]) -> None:
    """Scores of -1 and 0 only: nearly everything is a tie."""
    for T in range(1, 8):
        paths = all_paths(target, T, range(3))
        for _ in range(10):
            scores = -torch.randint(0, 2, (T, 3)).float()
            if paths:
                assert tuple(align_one(scores, target).path.tolist()) == chosen(scores.double().numpy(), paths)

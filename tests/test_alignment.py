"""The best path is the best of all paths, settles ties as it says, and lies where its spans say."""

import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import numbactc
from batches import random_target
from numbactc import Alignment
from oracles import collapse
from paths import all_paths, chosen, score_of, viterbi

pytestmark = pytest.mark.usefixtures("device")


def align_one(scores: Tensor, target: Sequence[int], blank: int = 0) -> Alignment:
    """Of a single utterance (T, C)."""
    labels = torch.tensor(list(target), dtype=torch.int64)
    [alignment] = numbactc.forced_align(scores, labels, [len(scores)], [len(target)], blank)
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


def assert_none(alignment: Alignment, score: float) -> None:
    """No alignment, for the reason that the score tells."""
    assert alignment.score == score or (math.isnan(score) and math.isnan(alignment.score))
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
                assert_none(alignment, -math.inf)
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


def test_ties_are_settled_alike_in_long_utterances() -> None:
    """As the table of decisions of the textbook's recursion, which has the same sums in the same order."""
    for L, T in [(900, 2_400), (2_000, 2_050), (30, 60_000)]:
        target = random_target(L, 7, 3, T)
        scores = -torch.randint(0, 2, (T, 7)).double()
        alignment, expected = align_one(scores, target, 3), viterbi(scores.numpy(), target, 3)
        assert alignment.score == expected.score
        assert alignment.path.tolist() == expected.path


@pytest.mark.parametrize("C", [2, 5, 40, 700])
@pytest.mark.parametrize("T, L", [(1, 1), (17, 15), (16, 16), (33, 17), (90, 31), (500, 64), (3_000, 800), (900, 850)])
def test_the_table_of_all_decisions_says_the_same(T: int, L: int, C: int) -> None:
    """Blocks of one frame and many, bands narrow and wide, targets around the width of vectors."""
    target = random_target(L, C, 0, T)
    scores = torch.randn(T, C).log_softmax(-1)
    alignment, expected = align_one(scores, target), viterbi(scores.double().numpy(), target)
    assert alignment.score == expected.score
    assert alignment.path.tolist() == expected.path
    assert_is_path_of(alignment, target, T)


def test_exactly_as_many_frames_as_are_needed() -> None:
    """T = L, where ctc-forced-aligner dies, and T = L + repeats: there is one path, of whatever score."""
    scores = torch.randn(40, 5)
    target = [1, 2] * 20
    alignment = align_one(scores, target)
    assert alignment.path.tolist() == target
    assert alignment.score == score_of(scores.double().numpy(), target)
    assert align_one(scores[:7], [1, 1, 2, 2, 1]).path.tolist() == [1, 0, 1, 2, 0, 2, 1]


def test_equal_labels_need_a_blank_between() -> None:
    """"aa" from a model that says "a" throughout."""
    scores = torch.tensor([[0.1, 0.9]] * 3).log()
    assert align_one(scores, [1, 1]).path.tolist() == [1, 0, 1]
    assert_none(align_one(scores[:2], [1, 1]), -math.inf)


def test_hard_zeros_and_ones() -> None:
    """a-a from probabilities of 1 and 0: a score of 0, and of -inf where one frame contradicts."""
    frames = torch.tensor([1, 0, 1])
    scores = torch.nn.functional.one_hot(frames, 3).double().log()
    alignment = align_one(scores, [1, 1])
    assert alignment.score == 0.0 and alignment.path.tolist() == [1, 0, 1]
    assert [span.confidence for span in alignment.spans] == [1.0, 1.0]
    assert_none(align_one(scores, [1]), -math.inf)


def test_a_frame_of_minus_infinity_has_no_path() -> None:
    scores = torch.zeros(5, 3)
    scores[2] = -math.inf
    for target in [[], [1], [1, 2]]:
        assert_none(align_one(scores, target), -math.inf)


def test_one_frame_and_none() -> None:
    scores = torch.tensor([[-1.0, -2.0, -3.0]])
    assert align_one(scores, [2]).path.tolist() == [2]
    assert align_one(scores, []).path.tolist() == [0]
    assert_none(align_one(scores, [1, 2]), -math.inf)
    assert align_one(scores[:0], []).score == 0.0
    assert_none(align_one(scores[:0], [1]), -math.inf)


def test_an_empty_target_is_blanks() -> None:
    scores = torch.randn(6, 4)
    alignment = align_one(scores, [], 2)
    assert alignment.path.tolist() == [2] * 6 and alignment.spans == []
    assert alignment.score == score_of(scores.double().numpy(), [2] * 6)


def test_the_best_sum_is_not_the_best_path() -> None:
    """Graves's example: "a" has the better sum over its paths, and "" the better path."""
    scores = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    a, nothing = (align_one(scores, target).score for target in ([1], []))
    loss_a, loss_nothing = (
        numbactc.ctc_loss(scores, torch.tensor(target, dtype=torch.int64), [2], [len(target)], reduction="sum").item()
        for target in ([1], [])
    )
    assert nothing > a and loss_a < loss_nothing
    assert a == pytest.approx(math.log(0.6 * 0.4)) and loss_a == pytest.approx(-math.log(0.64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_scores_in_half_precision_get_their_best_path(dtype: torch.dtype) -> None:
    """Rounded scores are full of ties and near ties, where torchaudio takes a worse path (pytorch/audio#4221)."""
    for _ in range(150):
        target = random_target(random.randint(1, 12), 5, 0, 40)
        scores = torch.randn(40, 5).log_softmax(-1).to(dtype)
        alignment = align_one(scores, target)
        assert alignment.score == viterbi(scores.double().numpy(), target).score
        assert alignment.score == score_of(scores.double().numpy(), alignment.path.tolist())


def test_length_costs_no_digits() -> None:
    """In float32 sums a difference of 1e-4 nats is lost after some thousand frames; here it decides, at either end."""
    T = 50_000
    scores = torch.full((T, 3), -20.0)
    scores[:, 0] = -9.0
    for frame in (10, T - 10):
        scores[:, 1] = -12.0
        scores[frame, 1] = -12.0 + 1e-4
        assert align_one(scores, [1]).spans[0][:3] == (1, frame, frame + 1)


def test_torchaudio_agrees() -> None:
    """Where sums are short and no two paths are close, so that its float32 decides nothing."""
    functional = pytest.importorskip("torchaudio.functional")
    for _ in range(50):
        T, C = random.randint(10, 60), random.randint(3, 30)
        target = random_target(random.randint(1, T // 2), C, 0, T)
        scores = torch.randn(T, C).log_softmax(-1)
        path, own = functional.forced_align(scores[None], torch.tensor([target]), blank=0)
        alignment = align_one(scores, target)
        assert alignment.path.tolist() == path[0].tolist()
        assert alignment.score == pytest.approx(own.double().sum().item(), abs=1e-4)


def test_more_states_than_31_bits_count() -> None:
    """T * (2 L + 1) beyond 2**31, where torchaudio dies (pytorch/audio#4208): a path that was planted is found."""
    T, L, C = 54_000, 20_000, 50
    assert T * (2 * L + 1) > 2**31
    target = random_target(L, C, 0, T)
    durations = torch.randint(1, 3, (L,))
    path = torch.zeros(T, dtype=torch.int64)
    t = 0
    for label, following, frames in zip(target, [*target[1:], 0], durations.tolist(), strict=True):
        path[t : t + frames] = label
        t += frames + (label == following)
    assert t <= T
    scores = torch.full((T, C), -1.0)
    scores[torch.arange(T), path] = 0.0
    alignment = align_one(scores, target)
    assert alignment.score == 0.0
    assert torch.equal(alignment.path, path)

"""What may be passed to an aligner and what comes back: batches, layouts, wildcards, spans, errors, memory."""

import math
import random
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import numbactc
from batches import Batch, on_threads, random_batch
from numbactc import Alignment
from oracles import collapse
from paths import all_paths, chosen, score_of, viterbi
from processes import run_python

STAR = -1

pytestmark = pytest.mark.usefixtures("device")


def align(batch: Batch, scores: Tensor | None = None) -> list[Alignment]:
    given = batch.scores if scores is None else scores
    return numbactc.forced_align(given, *batch.arguments(), blank=batch.blank)


def same(a: Alignment, b: Alignment) -> bool:
    """To the last bit; a score of NaN is itself."""
    scores = a.score == b.score or (math.isnan(a.score) and math.isnan(b.score))
    return scores and torch.equal(a.path, b.path) and a.spans == b.spans


def all_same(these: list[Alignment], those: list[Alignment]) -> bool:
    return all(same(a, b) for a, b in zip(these, those, strict=True))


def star_align(scores: Tensor, target: list[int], cost: float, star: int = STAR, blank: int = 0) -> Alignment:
    labels = torch.tensor([star if label == STAR else label for label in target])
    [alignment] = numbactc.forced_align(
        scores, labels, [len(scores)], [len(target)], blank, wildcard=star, wildcard_cost=cost
    )
    return alignment


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), T=st.integers(0, 40), N=st.integers(1, 4), C=st.integers(1, 6))
def test_a_drawn_batch(seed: int, T: int, N: int, C: int) -> None:
    """Each is the textbook's, whatever its company; padding of frames and targets is not read."""
    torch.manual_seed(seed)
    random.seed(seed)
    blank = random.randrange(C)
    batch = random_batch(T, N, C, T // 2 if C > 1 else 0, blank=blank)
    for n, frames in enumerate(batch.input_lengths):
        batch.scores[frames:, n] = math.nan
    found = align(batch)
    assert len(found) == N
    for n, (alignment, target, frames) in enumerate(zip(found, batch.targets, batch.input_lengths, strict=True)):
        expected = viterbi(batch.scores[:frames, n].double().numpy(), target, blank)
        assert (alignment.score, alignment.path.tolist()) == (expected.score, expected.path)
        assert collapse(alignment.path.tolist(), blank) == target
        assert same(alignment, align(batch.select([n]))[0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_classes_may_be_renamed(seed: int) -> None:
    """And the loss is at most the cost of the best path."""
    torch.manual_seed(seed)
    random.seed(seed)
    batch = random_batch(30, 2, 6, 12)
    names = torch.randperm(6)
    renamed = Batch(
        torch.empty_like(batch.scores).index_copy_(2, names, batch.scores),
        [names[target].tolist() if target else [] for target in batch.targets],
        batch.input_lengths,
        int(names[0]),
    )
    losses = numbactc.ctc_loss(batch.scores, *batch.arguments(), reduction="none")
    for old, new, loss in zip(align(batch), align(renamed), losses.tolist(), strict=True):
        assert new.score == old.score and torch.equal(new.path, names[old.path])
        assert loss <= -old.score + 1e-5


@pytest.mark.cpu_only
def test_any_number_of_threads_gives_the_same_bits() -> None:
    batch = random_batch(600, 8, 9, 250)
    one, three = on_threads(lambda: align(batch), 1, 3)
    assert all_same(one, three)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_any_strides(dtype: torch.dtype) -> None:
    """Utterances first, classes with gaps, frames backwards in memory, one utterance for all, pending negation."""
    batch = random_batch(40, 3, 7, 15, dtype=dtype, ragged=False)
    expected = align(batch)
    utterances_first = batch.scores.transpose(0, 1).contiguous()
    targets, frames, labels = batch.arguments()
    assert all_same(numbactc.forced_align(utterances_first, targets, frames, labels, batch_first=True), expected)
    wide = torch.zeros(40, 3, 14, dtype=dtype)
    wide[:, :, ::2] = batch.scores
    assert all_same(align(batch, wide[:, :, ::2]), expected)
    classes_first = batch.scores.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert all_same(align(batch, classes_first), expected)
    for_all = align(Batch(batch.scores[:, :1].expand(40, 3, 7), [batch.targets[0]] * 3, [40] * 3))
    assert all_same(for_all, [expected[0]] * 3)
    assert all_same(align(batch, torch._neg_view(-batch.scores)), expected)


def test_forms_of_targets_and_lengths() -> None:
    batch = random_batch(30, 4, 6, 10)
    expected = align(batch)
    _, frames, labels = batch.arguments()
    for targets in (batch.concatenated(), batch.concatenated(torch.int32), batch.padded(99, extra=3)):
        for forms in ((frames, labels), (frames.int().tolist(), tuple(labels.tolist()))):
            assert all_same(numbactc.forced_align(batch.scores, targets, *forms), expected)
    one = batch.scores[: batch.input_lengths[0], 0]
    [alone] = numbactc.forced_align(one, torch.tensor(batch.targets[0]), frames[0], labels[0])
    assert same(alone, expected[0])


def test_scores_are_left_alone_and_nothing_is_differentiable() -> None:
    batch = random_batch(20, 2, 5, 6)
    leaf = batch.scores.clone().requires_grad_()
    [first, _] = align(batch, leaf.log_softmax(-1))
    assert torch.equal(leaf, batch.scores) and not first.path.requires_grad
    assert isinstance(first.score, float) and all(type(value) is int for value in first.spans[0][:3])


def test_bad_scores_hurt_nobody_else() -> None:
    """NaN or +inf of a class of the target, or of the blank; elsewhere they are not read."""
    batch = random_batch(50, 6, 9, 12, ragged=False)
    batch.targets[:] = [[1 + label % 4 for label in target] for target in batch.targets]
    batch.targets[1] = [1, 2, 3]
    expected = align(batch)
    scores = batch.scores.clone()
    scores[49, 1, 1] = math.nan  # where only label 3 and the blank can be on a path
    scores[0, 2, batch.targets[2][-1]] = math.inf
    scores[:, 3, 8] = math.nan
    scores[20, 4] = -math.inf
    found = align(batch, scores)
    for n, score in [(1, math.nan), (2, math.nan), (4, -math.inf)]:
        assert same(found[n], Alignment(torch.empty(0, dtype=torch.int64), score, []))
    for n in (0, 3, 5):
        assert same(found[n], expected[n])


def test_a_bad_score_in_any_block_of_a_long_utterance() -> None:
    batch = random_batch(3_000, 1, 4, 800)
    for frame in (0, 1_200, 2_999):
        scores = batch.scores.clone()
        scores[frame, 0, 0] = math.nan
        assert math.isnan(align(batch, scores)[0].score)


def test_a_target_that_does_not_fit_hurts_nobody_else() -> None:
    batch = random_batch(20, 3, 5, 6, ragged=False)
    expected = align(batch)
    targets = [batch.targets[0], [1] * 11, batch.targets[2]]
    found = align(Batch(batch.scores, targets, batch.input_lengths))
    assert same(found[1], Alignment(torch.empty(0, dtype=torch.int64), -math.inf, []))
    assert same(found[0], expected[0]) and same(found[2], expected[2])


def test_a_path_of_scores_below_all_floats_is_none() -> None:
    """finfo.min twice is -inf in float64: a mask like any other. In float32 there is room for 1e269 of them."""
    for dtype, score in [(torch.float64, -math.inf), (torch.float32, 2 * torch.finfo(torch.float32).min)]:
        scores = torch.zeros(4, 2, dtype=dtype)
        scores[1:3] = torch.finfo(dtype).min
        [alignment] = numbactc.forced_align(scores, torch.tensor([1]), [4], [1])
        assert alignment.score == score


def test_no_utterances() -> None:
    assert numbactc.forced_align(torch.zeros(5, 0, 3), torch.empty(0, 4, dtype=torch.int64), [], []) == []


def test_spans_have_times_and_confidence() -> None:
    of_labels = torch.tensor([[0.8, 0.1], [0.1, 0.1], [0.1, 0.7], [0.1, 0.5], [0.05, 0.05]])
    probabilities = torch.cat([1 - of_labels.sum(1, keepdim=True), of_labels], 1)
    [alignment] = numbactc.forced_align(
        probabilities.double().log(), torch.tensor([1, 2]), [5], [2], frame_duration=0.02
    )
    assert alignment.path.tolist() == [1, 0, 2, 2, 0]
    first, second = alignment.spans
    assert first[:3] == (1, 0, 1) and first.confidence == pytest.approx(0.8, rel=1e-6)
    assert second[:3] == (2, 2, 4) and second.confidence == pytest.approx(math.sqrt(0.7 * 0.5), rel=1e-6)
    assert (first.start_time, first.end_time) == (0.0, 0.02)
    assert (second.start_time, second.end_time) == (0.04, 0.08)
    [plain] = numbactc.forced_align(probabilities.log(), torch.tensor([1, 2]), [5], [2])
    assert plain.spans[0].start_time is None and plain.spans[0].end_time is None


STARRED = [[STAR], [1, STAR], [STAR, 1], [1, STAR, 2], [1, STAR, 1], [2, STAR, STAR], [STAR, 1, STAR]]


@pytest.mark.parametrize("cost", [0.0, 2**-10, 0.5])
@pytest.mark.parametrize("target", STARRED, ids=str)
def test_a_wildcard_among_all_paths(target: list[int], cost: float) -> None:
    """As a class whose score is that of the frame's best less the cost; ties, which it makes, included."""
    for T in range(1, 7):
        paths = all_paths(target, T, [0, 1, 2, STAR])
        for _ in range(5):
            scores = (64 * torch.randn(T, 3, dtype=torch.float64)).round() / 64  # sums without rounding: ties stay ties
            rows = torch.cat([scores, scores.amax(1, keepdim=True) - cost], 1).numpy()
            alignment = star_align(scores, target, cost)
            if paths:
                assert tuple(alignment.path.tolist()) == chosen(rows, paths)
                assert alignment.score == score_of(rows, alignment.path.tolist())
            else:
                assert alignment.score == -math.inf


@pytest.mark.parametrize("star", [-1, 30, -100], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_any_number_that_is_no_class_is_a_wildcard(star: int, dtype: torch.dtype) -> None:
    scores = torch.randn(80, 30).log_softmax(-1).to(dtype)
    target = [3, 3, STAR, 4, 29]
    alignment = star_align(scores, target, 0.25, star)
    wide = scores.double()
    rows = torch.cat([wide, wide.amax(1, keepdim=True) - 0.25], 1).numpy()
    expected = viterbi(rows, [30 if label == STAR else label for label in target])
    assert alignment.score == expected.score
    assert alignment.path.tolist() == [star if label == 30 else label for label in expected.path]
    assert [span.token for span in alignment.spans] == [3, 3, star, 4, 29]
    span = alignment.spans[2]
    own = rows[span.start : span.end, 30]
    assert span.confidence == pytest.approx(math.exp(own.mean()))


def test_a_wildcard_leaves_labels_what_is_theirs() -> None:
    """The text that is missing is found between its neighbours, which keep all of their frames."""
    frames = [0, 1, 1, 1, 0, 3, 3, 0, 4, 5, 0, 2, 2, 2, 0]
    scores = (4.0 * torch.nn.functional.one_hot(torch.tensor(frames), 6)).log_softmax(-1)
    alignment = star_align(scores, [1, STAR, 2], 0.001)
    first, star, last = alignment.spans
    assert first[:3] == (1, 1, 4) and last[:3] == (2, 11, 14)
    assert 4 <= star.start <= 5 and 10 <= star.end <= 11


def test_a_wildcard_reads_every_class() -> None:
    """A NaN anywhere is seen where one is asked for, and only there."""
    scores = torch.zeros(5, 2, 4)
    scores[3, :, 3] = math.nan
    targets = torch.tensor([[1, STAR], [1, 2]])
    with_star, without = numbactc.forced_align(scores, targets, [5, 5], [2, 2], wildcard=STAR)
    assert math.isnan(with_star.score) and without.score == 0.0


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"wildcard": 2}, ValueError, "wildcard must not be a class, from 0 to C - 1, where C = 5, got 2"),
        ({"wildcard": 2**63}, ValueError, f"wildcard must fit into 64 bits, got {2**63}"),
        ({"wildcard": 0.5}, TypeError, "wildcard must be an integer or None, got 0.5"),
        ({"wildcard_cost": -0.1}, ValueError, "wildcard_cost must be finite and at least 0, got -0.1"),
        ({"wildcard_cost": math.inf}, ValueError, "wildcard_cost must be finite and at least 0, got inf"),
        ({"frame_duration": 0}, ValueError, "frame_duration must be finite and positive, got 0.0"),
        ({"frame_duration": "1"}, TypeError, "frame_duration must be a number, got '1'"),
        ({"log_probs": torch.zeros(6)}, ValueError, r"log_probs must have shape \(T, N, C\) or \(T, C\), got \(6,\)"),
        ({"log_probs": torch.zeros(6, 3, 5).int()}, TypeError, "log_probs must be float32, .* got torch.int32"),
        ({"input_lengths": [6, 7, 6]}, ValueError, "input_lengths must be from 0 to 6 .*, got 7 for utterance 1"),
        ({"target_lengths": [2, 2]}, ValueError, r"target_lengths must have shape \(3,\), got \(2,\)"),
        ({"targets": torch.tensor([[1, 2], [1, -1], [1, 2]])}, ValueError, "got -1 at position 1 of utterance 1"),
        ({"targets": torch.tensor([[1, 2], [1, 0], [1, 2]])}, ValueError, "got 0 at position 1 of utterance 1"),
        ({"blank": 5}, ValueError, "blank must be from 0 to C - 1, where C = 5, got 5"),
    ],
)  # fmt: skip
def test_errors_name_argument_rule_and_value(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "log_probs": torch.zeros(6, 3, 5),
        "targets": torch.tensor([[1, 2], [1, 1], [2, 2]]),
        "input_lengths": [6, 6, 6],
        "target_lengths": [2, 2, 2],
    }
    assert len(numbactc.forced_align(**arguments)) == 3
    with pytest.raises(error, match=message):
        numbactc.forced_align(**(arguments | changes))


MEMORY = """
import resource, torch, numbactc
torch.set_num_threads(1)
T, L = 60_000, 8_000
scores = torch.randn(T, 30)
target = torch.randint(1, 30, (L,))
numbactc.forced_align(scores[:10], target[:2], [10], [2])
with open("/proc/self/statm") as statm:
    now = int(statm.read().split()[0]) * resource.getpagesize()
limit = now + 50_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
[alignment] = numbactc.forced_align(scores, target, [T], [L])
try:
    torch.empty(60_000_000)
except RuntimeError:
    print(len(alignment.spans), "with a limit that holds")
"""


@pytest.mark.cpu_only
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for its address space")
def test_an_hour_of_speech_takes_less_than_50_megabytes() -> None:
    """T = 60,000, L = 8,000, in a process that may not have more: a table of decisions alone would take 960 MB."""
    assert run_python(MEMORY) == "8000 with a limit that holds\n"

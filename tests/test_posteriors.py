"""Posteriors of states and classes are what enumeration adds up, and agree with the loss that they are taken from."""

import math

import pytest
import torch
from torch import Tensor

import numbactc
from batches import Batch, loss_and_gradient, on_threads, random_batch, random_target, same_bits
from closeness import GRADIENT_BOUND
from numbactc import Posteriors
from oracles import recursion
from paths import all_paths, score_of, states_of

pytestmark = pytest.mark.usefixtures("device")

TARGETS = [[], [1], [2, 1], [1, 1], [1, 2, 1], [2, 2, 1], [1, 1, 1]]


def posteriors_of(batch: Batch) -> Posteriors:
    return numbactc.posteriors(batch.scores, *batch.arguments(), blank=batch.blank)


def classes_from(states: Tensor, batch: Batch) -> Tensor:
    """(T, N, C): what the states say about classes."""
    classes = torch.zeros(batch.scores.shape, dtype=torch.float64)
    for n, target in enumerate(batch.targets):
        of_state = [batch.blank]
        for label in target:
            of_state += [label, batch.blank]
        classes[:, n].index_add_(1, torch.tensor(of_state), states[:, n, : len(of_state)].double())
    return classes


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_path_is_counted(target: list[int], dtype: torch.dtype) -> None:
    """Both, against the sum over all paths by the states that they are in: T up to 7, where each has its own."""
    for T in range(1, 8):
        paths = all_paths(target, T, range(3))
        scores = (2 * torch.randn(T, 3, dtype=torch.float64)).to(dtype)
        states, classes = torch.zeros(T, 2 * len(target) + 1), torch.zeros(T, 3)
        states, classes = states.double(), classes.double()
        for path in paths:
            weight = math.exp(score_of(scores.double().numpy(), path))
            states[range(T), states_of(path)] += weight
            classes[range(T), path] += weight
        total = states[0].sum() if paths else 1.0
        found = numbactc.posteriors(scores, torch.tensor(target, dtype=torch.int64), [T], [len(target)])
        bound = 1e-12 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(found.states.double(), states / total, rtol=0, atol=bound)
        torch.testing.assert_close(found.classes.double(), classes / total, rtol=0, atol=bound)
        assert found.states.dtype == found.classes.dtype == dtype


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["unsure", "sure"])
def test_classes_are_minus_the_gradient_of_the_loss(scale: float) -> None:
    batch = random_batch(120, 5, 12, 30, blank=3, scale=scale)
    _, gradient = loss_and_gradient(numbactc.ctc_loss, batch)
    assert torch.equal(posteriors_of(batch).classes, -gradient)


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["unsure", "sure"])
def test_states_add_up_to_classes(scale: float) -> None:
    """Two recursions that share no code: alpha and beta by states, and the loss's pairs in blocks."""
    batch = random_batch(300, 4, 20, 90, blank=5, scale=scale, dtype=torch.float64)
    found = posteriors_of(batch)
    torch.testing.assert_close(classes_from(found.states, batch), found.classes, rtol=0, atol=1e-11)


def test_states_add_up_to_classes_in_long_utterances() -> None:
    """Where probabilities are near 1e-3000, and there are more blocks than one could forget."""
    batch = random_batch(2_000, 2, 40, 300)
    found = posteriors_of(batch)
    torch.testing.assert_close(classes_from(found.states, batch), found.classes.double(), rtol=0, atol=GRADIENT_BOUND)


def test_each_label_of_its_own_class_is_what_the_recursion_says() -> None:
    target = list(range(1, 41))
    scores = torch.randn(150, 41, dtype=torch.float64)
    states = numbactc.posteriors(scores, torch.tensor(target), [150], [40]).states
    expected = recursion(scores.numpy(), target, 0).posteriors
    torch.testing.assert_close(states[:, 1::2], torch.from_numpy(expected[:, 1:]), rtol=0, atol=1e-12)


def test_reversed_time_reverses_states() -> None:
    """Blanks too: what no sum over classes sees."""
    batch = random_batch(80, 1, 6, 25, dtype=torch.float64)
    backwards = Batch(batch.scores.flip(0), [batch.targets[0][::-1]], batch.input_lengths)
    torch.testing.assert_close(
        posteriors_of(backwards).states, posteriors_of(batch).states.flip(0, 2), rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_frames_sum_to_one(dtype: torch.dtype) -> None:
    batch = random_batch(60, 3, 7, 15, dtype=dtype)
    found = posteriors_of(batch)
    for values in found:
        assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert (values >= 0).all()
        for n, frames in enumerate(batch.input_lengths):
            sums = values[:frames, n].double().sum(-1)
            torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-6)


@pytest.mark.simulated
def test_half_precision_is_widened() -> None:
    batch = random_batch(40, 2, 6, 8, dtype=torch.bfloat16)
    wide = Batch(batch.scores.float(), batch.targets, batch.input_lengths)
    for half, single in zip(posteriors_of(batch), posteriors_of(wide), strict=True):
        assert same_bits(half, single)


def test_a_batch_equals_one_by_one() -> None:
    """Bit for bit, and padding of frames and of targets is 0."""
    batch = random_batch(70, 6, 9, 20)
    together = posteriors_of(batch)
    for n, (frames, labels) in enumerate(zip(batch.input_lengths, batch.target_lengths, strict=True)):
        alone = posteriors_of(batch.select([n]))
        own = slice(None, frames), n
        assert same_bits(together.states[own][:, : 2 * labels + 1], alone.states[:, 0])
        assert same_bits(together.classes[own], alone.classes[:, 0])
        assert not together.states[frames:, n].any() and not together.states[:, n, 2 * labels + 1 :].any()
        assert not together.classes[frames:, n].any()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    batch = random_batch(200, 8, 9, 60)
    one, three = on_threads(lambda: posteriors_of(batch), 1, 3)
    assert all(same_bits(a, b) for a, b in zip(one, three, strict=True))


@pytest.mark.simulated
def test_layouts() -> None:
    """(T, N, C), (N, T, C) and (T, C), with gaps between the numbers; the caller's tensor is left alone."""
    batch = random_batch(30, 3, 5, 8, ragged=False)
    expected = posteriors_of(batch)
    gaps = torch.full((3, 30, 10), torch.nan)
    gaps[:, :, ::2] = batch.scores.transpose(0, 1)
    before = gaps.clone()
    first = numbactc.posteriors(gaps[:, :, ::2].requires_grad_(), *batch.arguments(), batch_first=True)
    assert same_bits(gaps.detach(), before)
    one = numbactc.posteriors(batch.scores[:, 1], torch.tensor(batch.targets[1]), [30], [8])
    for whole, swapped, single in zip(expected, first, one, strict=True):
        assert same_bits(whole, swapped.transpose(0, 1).contiguous())
        assert same_bits(whole[:, 1].contiguous(), single.contiguous())
        assert not swapped.requires_grad


@pytest.mark.simulated
def test_utterances_without_a_path_and_bad_scores_hurt_nobody() -> None:
    """One that does not fit is 0, one with a NaN is NaN in its frames, and the others keep every bit."""
    batch = random_batch(20, 5, 6, 6, ragged=False)
    expected = posteriors_of(batch)
    targets = [*batch.targets]
    targets[1] = [1] * 11  # needs 21 frames
    scores = batch.scores.clone()
    scores[7, 2, 5] = math.nan
    scores[3, 3] = -math.inf
    lengths = [20, 20, 19, 20, 20]
    found = posteriors_of(Batch(scores, targets, lengths))
    for good in (0, 4):
        assert same_bits(found.states[:, good, :13].contiguous(), expected.states[:, good].contiguous())
        assert same_bits(found.classes[:, good].contiguous(), expected.classes[:, good].contiguous())
    for empty in (1, 3):
        assert not found.states[:, empty].any() and not found.classes[:, empty].any()
    states = 2 * len(targets[2]) + 1
    assert found.states[:19, 2, :states].isnan().all() and not found.states[19:, 2].any()
    assert not found.states[:, 2, states:].any()
    assert found.classes[:19, 2].isnan().all() and not found.classes[19:, 2].any()


@pytest.mark.simulated
def test_an_empty_target_is_the_blank() -> None:
    found = numbactc.posteriors(torch.randn(4, 3), torch.empty(0, dtype=torch.int64), [4], [0], blank=2)
    assert found.states.tolist() == [[1.0]] * 4
    assert found.classes.tolist() == [[0.0, 0.0, 1.0]] * 4


@pytest.mark.simulated
def test_no_frames_and_no_utterances() -> None:
    none = numbactc.posteriors(torch.randn(0, 2, 3), torch.tensor([[1], [2]]), [0, 0], [1, 0])
    assert none.states.shape == (0, 2, 3) and none.classes.shape == (0, 2, 3)
    empty = numbactc.posteriors(torch.randn(5, 0, 3), torch.empty(0, 4, dtype=torch.int64), [], [])
    assert empty.states.shape == (5, 0, 1) and empty.classes.shape == (5, 0, 3)


@pytest.mark.parametrize("low", [-math.inf, -1e9, torch.finfo(torch.float32).min, -1e4], ids=str)
def test_masked_classes(low: float) -> None:
    """A class that is masked has nothing; a blank that is masked in one frame neither, where there is room."""
    scores = 4 * torch.randn(6, 4)
    scores[2, 0] = low
    scores[3, 1] = low
    target = torch.tensor([1, 2])
    found = numbactc.posteriors(scores, target, [6], [2])
    assert found.states[2, ::2].tolist() == [0.0] * 3
    assert found.states[3, 1] == 0.0
    truth = recursion(scores.double().numpy(), [1, 2], 0).posteriors
    torch.testing.assert_close(found.states[:, 3].double(), torch.from_numpy(truth[:, 2]), rtol=0, atol=1e-6)


@pytest.mark.simulated
def test_errors_are_those_of_the_loss() -> None:
    scores = torch.zeros(4, 2, 3)
    with pytest.raises(ValueError, match="target_lengths must have shape"):
        numbactc.posteriors(scores, torch.tensor([[1], [2]]), [4, 4], [1])
    with pytest.raises(ValueError, match="got 3 at position 0 of utterance 1"):
        numbactc.posteriors(scores, torch.tensor([[1], [3]]), [4, 4], [1, 1])
    with pytest.raises(TypeError, match="log_probs must be a tensor"):
        numbactc.posteriors([[0.0]], torch.tensor([[1]]), [1], [1])  # type: ignore[arg-type]


@pytest.mark.simulated
def test_forms_of_targets() -> None:
    """Concatenated targets are the same as padded ones."""
    batch = random_batch(25, 4, 5, 7)
    _, frames, labels = batch.arguments()
    concatenated = numbactc.posteriors(batch.scores, batch.concatenated(), frames, labels)
    assert all(same_bits(a, b) for a, b in zip(posteriors_of(batch), concatenated, strict=True))


@pytest.mark.parametrize("T", [1, 2, 3, 4, 15, 16, 17])
def test_any_number_of_blocks(T: int) -> None:
    target = random_target((T + 1) // 2, 5, 0, T)
    scores = torch.randn(T, 1, 5, dtype=torch.float64)
    found = posteriors_of(Batch(scores, [target], [T]))
    truth = torch.from_numpy(recursion(scores[:, 0].numpy(), target, 0).posteriors)
    torch.testing.assert_close(
        classes_from(found.states, Batch(scores, [target], [T]))[:, 0], truth, rtol=0, atol=1e-12
    )

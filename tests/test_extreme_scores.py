"""Scores that spread over hundreds and thousands of nats: models that are sure, rightly or not, now or always."""

import pytest
import torch

from batches import Batch, Loss, random_batch, random_target
from closeness import assert_accurate

pytestmark = pytest.mark.usefixtures("device")


def alignment(target: list[int], T: int, blank: int = 0) -> list[int]:
    """A path of T frames that spells the target: labels spread evenly, two frames each where there is room."""
    path = [blank] * T
    spacing = T / max(len(target), 1)
    for j, label in enumerate(target):
        start = int(j * spacing)
        path[start] = label
        if spacing >= 4:
            path[start + 1] = label
    return path


def confident(T: int, N: int, C: int, margin: float, paths: list[list[int]]) -> torch.Tensor:
    """Noise of one nat, and `margin` nats on the class each path takes."""
    scores = torch.randn(T, N, C)
    for n, path in enumerate(paths):
        scores[range(T), n, path] += margin
    return scores


@pytest.mark.parametrize("margin", [30.0, 100.0, 500.0, 2000.0])
def test_confident_and_right(entry: Loss, margin: float) -> None:
    """A model that has learnt: nearly all probability on one path, which spells the target."""
    T, N, C, L = 300, 4, 29, 60
    targets = [random_target(L, C, 0, T) for _ in range(N)]
    scores = confident(T, N, C, margin, [alignment(target, T) for target in targets])
    assert_accurate(entry, Batch(scores, targets, [T] * N))


@pytest.mark.parametrize("margin", [30.0, 100.0, 500.0, 2000.0])
def test_confident_and_wrong(entry: Loss, margin: float) -> None:
    """As sure of another target: every path of the right one is far below what the model would say.

    States that matter later are then far below the frame's best state; linear float32 loses them.
    """
    T, N, C, L = 300, 4, 29, 60
    targets = [random_target(L, C, 0, T) for _ in range(N)]
    scores = confident(T, N, C, margin, [alignment(random_target(L, C, 0, T), T) for _ in range(N)])
    assert_accurate(entry, Batch(scores, targets, [T] * N))


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("step", [5.0, 40.0, 150.0])
def test_steep_fronts(entry: Loss, step: float, late: bool) -> None:
    """Blank leads by `step` nats a frame, yet all labels must come out: most frames leave it against the model.

    Along one frame alpha falls by `step` nats per label, so neighbouring states differ by up to 2**216.
    """
    T, L, C = 120, 100, 10
    scores = torch.randn(T, 2, C)
    half = slice(T // 2, T) if late else slice(0, T // 2)
    scores[half, :, 0] += step
    targets = [random_target(L, C, 0, T) for _ in range(2)]
    assert_accurate(entry, Batch(scores, targets, [T, T]))


def test_the_front_turns(entry: Loss) -> None:
    """Half the frames hold the path back, half pull it on: 1e-1700 of the best state at the middle wins at the end."""
    T, L, C = 200, 90, 12
    targets = [random_target(L, C, 0, T) for _ in range(2)]
    scores = torch.randn(T, 2, C)
    scores[:100, :, 0] += 40.0
    scores[100:, :, 0] -= 80.0
    assert_accurate(entry, Batch(scores, targets, [T, T]))


def test_both_fronts_are_steep_and_cannot_meet_within_a_block(entry: Loss) -> None:
    """Equal labels ask for two frames each: in the middle, forward and backward mass are far below their neighbours'.

    All blocks in question are within float64's range, but the two together are not.
    """
    T, L = 496, 223
    scores = 0.3 * torch.randn(T, 2, 4)
    scores[160:240, :, 0] += 35.0
    scores[256:336, :, 0] += 35.0
    assert_accurate(entry, Batch(scores, [[1] * L, [3] * L], [T, T]))


@pytest.mark.parametrize("depth", [88.0, 104.0, 200.0, 1e4, 1e6])
def test_an_emission_too_small_for_float32(entry: Loss, depth: float) -> None:
    """One label's probability is below 2**-126, even below 2**-149, on every frame; the target needs it three times."""
    scores = torch.randn(40, 2, 6)
    scores[:, :, 3] -= depth
    targets = [[1, 3, 2, 3, 3], [3, 3, 3]]
    assert_accurate(entry, Batch(scores, targets, [40, 40]))


def test_a_blank_too_small_for_float32(entry: Loss) -> None:
    scores = torch.randn(40, 2, 6)
    scores[:, :, 0] -= 300.0
    assert_accurate(entry, Batch(scores, [[1, 1, 2, 2, 2], [4, 4, 4]], [40, 40]))


@pytest.mark.parametrize("spread", [12.0, 16.0, 20.0, 25.0, 32.0, 40.0, 60.0, 100.0, 250.0])
@pytest.mark.parametrize(("T", "L"), [(7, 3), (8, 8), (9, 5), (23, 9), (40, 17), (64, 25), (131, 40)])
def test_every_spread_on_the_way_to_extreme(entry: Loss, T: int, L: int, spread: float) -> None:
    """Between ordinary and extreme scores lies the place where a float64 alone would run out of range."""
    batch = random_batch(T, 8, 6, L, scale=spread)
    assert_accurate(entry, batch)


@pytest.mark.parametrize("T", [50, 203])
@pytest.mark.parametrize("burst", [1, 5, 17])
def test_bursts_of_extreme_frames(entry: Loss, burst: int, T: int) -> None:
    """Sure for some frames, unsure for many: what is done for the one must leave the other in order, both ways."""
    batch = random_batch(T, 6, 12, T // 4, ragged=False)
    scores = batch.scores.clone()
    for n in range(6):
        for start in range(5 + 3 * n, T, 31 + n):
            scores[start : start + burst, n] *= 10.0 ** (n - 1)
    assert_accurate(entry, Batch(scores, batch.targets, batch.input_lengths))


def test_scores_with_heavy_tails(entry: Loss) -> None:
    """Every frame has a spread of its own, from a hundredth of a nat to hundreds."""
    batch = random_batch(300, 8, 20, 70)
    spread = torch.exp(2.5 * torch.randn(300, 8, 1)).clamp(max=1000.0)
    assert_accurate(entry, Batch(batch.scores * spread, batch.targets, batch.input_lengths))


@pytest.mark.parametrize("extreme", [50.0, 1000.0])
def test_normal_and_extreme_frames_together(entry: Loss, extreme: float) -> None:
    """The extreme frames must not take digits from the normal ones."""
    batch = random_batch(300, 3, 29, 80, ragged=False)
    scores = batch.scores.clone()
    scores[::7] *= extreme
    assert_accurate(entry, Batch(scores, batch.targets, batch.input_lengths))

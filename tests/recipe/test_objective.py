"""What is minimised: CTC by either package, intermediate losses, the consistency of two views."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from common.config import LossConfig
from common.objective import Objective, disagreement
from data import Batch
from manifest import Utterance

T, N, C = 12, 3, 5
LENGTHS = torch.tensor([12, 7, 9])


def batch_of() -> Batch:
    """Three utterances of 4, 1 and no labels; their features are of no interest here."""
    targets, target_lengths = torch.tensor([1, 2, 2, 4, 3], dtype=torch.int32), torch.tensor([4, 1, 0])
    utterances = [Utterance(f"{n}.flac", 1.0, "", "") for n in range(N)]
    return Batch(torch.zeros(N, T, 1), LENGTHS, targets, target_lengths, utterances, [""] * N, [])


def logits_of(seed: int, views: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(T, views * N, C, generator=generator)).requires_grad_()


def ctc(logits: Tensor) -> Tensor:
    """By PyTorch, in float64, a label."""
    batch = batch_of()
    log_probs = logits.double().log_softmax(-1)
    losses = F.ctc_loss(log_probs, batch.targets, LENGTHS, batch.target_lengths, reduction="none")
    return (losses / torch.tensor([4, 1, 1])).float()


@pytest.mark.parametrize("package", ["numbactc", "torch"])
def test_a_plain_objective_is_ctc_a_label(package: str) -> None:
    logits = logits_of(1)
    losses = Objective(LossConfig(package=package))([logits], batch_of(), LENGTHS)
    torch.testing.assert_close(losses, ctc(logits), atol=1e-5, rtol=1e-5)


def test_intermediate_losses_are_averaged_and_weighed_against_the_last() -> None:
    scores = [logits_of(seed) for seed in range(3)]
    losses = Objective(LossConfig(inter_weight=0.4))(scores, batch_of(), LENGTHS)
    expected = 0.6 * ctc(scores[2]) + 0.2 * ctc(scores[0]) + 0.2 * ctc(scores[1])
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)


def test_disagreement_is_the_symmetric_divergence_over_an_utterances_own_frames() -> None:
    logits = logits_of(2, views=2)
    first, second = logits.double().softmax(-1).chunk(2, dim=1)
    divergence = 0.5 * ((first - second) * (first / second).log()).sum(-1)
    expected = torch.stack([divergence[:length, n].sum() for n, length in enumerate(LENGTHS.tolist())])
    torch.testing.assert_close(disagreement(logits, LENGTHS.repeat(2)), expected.float(), atol=1e-5, rtol=1e-5)


def test_each_view_is_pulled_to_the_other_as_to_a_fixed_target() -> None:
    logits = logits_of(3, views=2)
    disagreement(logits, LENGTHS.repeat(2)).sum().backward()
    first, second = logits.detach().softmax(-1).chunk(2, dim=1)
    valid = (torch.arange(T)[:, None] < LENGTHS)[..., None]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[:, :N], 0.5 * (first - second) * valid, atol=1e-6, rtol=0)
    torch.testing.assert_close(logits.grad[:, N:], 0.5 * (second - first) * valid, atol=1e-6, rtol=0)


@pytest.mark.parametrize("package", ["numbactc", "torch"])
def test_consistency_adds_what_the_views_of_the_last_layer_disagree_by_to_their_mean_loss(package: str) -> None:
    inter, last = logits_of(4, views=2), logits_of(5, views=2)
    objective = Objective(LossConfig(package=package, inter_weight=0.3, consistency=0.2))
    assert objective.views == 2
    losses = objective([inter, last], batch_of(), LENGTHS.repeat(2))
    views = [0.7 * ctc(b) + 0.3 * ctc(a) for a, b in zip(inter.chunk(2, 1), last.chunk(2, 1), strict=True)]
    apart = disagreement(last, LENGTHS.repeat(2)) / torch.tensor([4, 1, 1])
    torch.testing.assert_close(losses, (views[0] + views[1]) / 2 + 0.2 * apart, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LossConfig(package="warp"), "loss.package must be numbactc or torch, got 'warp'"),
        (LossConfig(inter_weight=1.5), "loss.inter_weight must be from 0 to 1, got 1.5"),
        (LossConfig(consistency=-0.2), "loss.consistency must not be negative, got -0.2"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(config: LossConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(config)

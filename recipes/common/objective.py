"""What training minimises, one number an utterance: CTC, that of inner layers, and the consistency of two copies.

Shapes: T frames, N utterances, C classes, L labels; V copies of the batch (views), each augmented by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from common.batches import Batch, E, valid_frames
from common.config import LossConfig
from common.tokens import BLANK
from numbactc import ctc_loss_with_logits


def disagreement(logits: Tensor, input_lengths: Tensor) -> Tensor:
    """How far two views of the same utterances are apart: (T, 2N, C) logits, first views first, to (N,) nats.

    Over the frames t of an utterance, with p and q the softmax of its views and sg what no gradient flows through,

        1/2  sum over t of  KL(sg(q[t]) || p[t]) + KL(sg(p[t]) || q[t])

    References: Yao et al., "CR-CTC: Consistency regularization on CTC for improved speech recognition", ICLR 2025,
    equation 4.
    """
    first, second = logits.log_softmax(-1).chunk(2, dim=1)
    there = F.kl_div(first, second.detach(), reduction="none", log_target=True)
    back = F.kl_div(second, first.detach(), reduction="none", log_target=True)
    valid = valid_frames(input_lengths[: first.shape[1]], len(first))
    return 0.5 * ((there + back) * valid).sum((0, 2))


class Objective:
    """The losses of a batch, a number an utterance, in nats a label.

    With w = ``inter_weight``, c = ``consistency``, and each term divided by the utterance's number of labels:

        mean over views of ((1 - w) * CTC of the last layer + w * mean CTC of ``model.inter_layers``)
            + c * disagreement of the views in the last layer

    Without ``model.inter_layers`` w is 0; ``views`` is 1, and there is nothing to disagree, where c is 0.
    """

    def __init__(self, config: LossConfig) -> None:
        if config.package not in ("numbactc", "torch"):
            raise ValueError(f"loss.package must be numbactc or torch, got {config.package!r}")
        if not 0 <= config.inter_weight <= 1:
            raise ValueError(f"loss.inter_weight must be from 0 to 1, got {config.inter_weight}")
        if config.consistency < 0:
            raise ValueError(f"loss.consistency must not be negative, got {config.consistency}")
        self.config = config
        self.views = 2 if config.consistency > 0 else 1

    def ctc(self, logits: Tensor, batch: Batch[E], input_lengths: Tensor) -> Tensor:
        """CTC of (T, V * N, C) logits of a batch of N utterances, once a view: (V * N,) nats a label."""
        views = logits.shape[1] // len(batch.utterances)
        targets, target_lengths = batch.targets.repeat(views), batch.target_lengths.repeat(views)
        if self.config.package == "torch":
            log_probs = logits.log_softmax(-1)
            losses = F.ctc_loss(log_probs, targets, input_lengths, target_lengths, BLANK, reduction="none")
        else:
            losses = ctc_loss_with_logits(logits, targets, input_lengths, target_lengths, BLANK, reduction="none")
        return losses / target_lengths.clamp(min=1)

    def __call__(self, scores: list[Tensor], batch: Batch[E], input_lengths: Tensor) -> Tensor:
        """``scores`` as a model's ``all_scores`` gives them for ``views`` copies of the batch, to losses (N,)."""
        *inter, last = (self.ctc(logits, batch, input_lengths) for logits in scores)
        if inter:
            weight = self.config.inter_weight
            last = (1 - weight) * last + weight * torch.stack(inter).mean(0)
        losses = last.view(self.views, -1).mean(0)
        if self.views == 2:
            apart = disagreement(scores[-1], input_lengths) / batch.target_lengths.clamp(min=1)
            losses = losses + self.config.consistency * apart
        return losses

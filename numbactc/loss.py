"""The CTC losses that users call: one for log-probabilities, PyTorch's drop-in, and one for raw scores."""

import torch
from torch import Tensor, nn

from numbactc import _autograd, _dispatch, _validation
from numbactc._validation import Lengths


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    *,
    batch_first: bool = False,
) -> Tensor:
    return _loss(
        "log_probs", log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity, batch_first
    )


def ctc_loss_with_logits(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    *,
    batch_first: bool = False,
) -> Tensor:
    return _loss(
        "logits", logits, targets, input_lengths, target_lengths, blank, reduction, zero_infinity, batch_first
    )


def _loss(
    name: str,
    scores: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int,
    reduction: str,
    zero_infinity: bool,
    batch_first: bool,
) -> Tensor:
    _validation.check_reduction(reduction)
    _validation.check_scores(name, scores)
    unbatched = scores.dim() == 2
    if unbatched:
        scores = scores.unsqueeze(1)
    elif batch_first:
        scores = scores.transpose(0, 1)
    checked = _validation.check_targets(scores, targets, input_lengths, target_lengths, blank, unbatched)
    losses = _autograd.ctc(scores, _dispatch.Problem(checked, normalise=name == "logits"))
    # reduced in float64 and rounded once
    if zero_infinity:
        losses = torch.where(losses == torch.inf, 0.0, losses)
    if reduction == "mean":
        losses = (losses / torch.from_numpy(checked.target_lengths.clip(min=1))).mean()
    elif reduction == "sum":
        losses = losses.sum()
    elif unbatched:
        losses = losses.squeeze(0)
    return losses.to(torch.float64 if scores.dtype == torch.float64 else torch.float32)


class CTCLoss(nn.Module):
    """`numbactc.ctc_loss` as a module, with the arguments of `torch.nn.CTCLoss`."""

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False, *, batch_first: bool = False
    ) -> None:
        super().__init__()
        _validation.check_reduction(reduction)
        self.blank = blank
        self.reduction = reduction
        self.zero_infinity = zero_infinity
        self.batch_first = batch_first

    def extra_repr(self) -> str:
        return (
            f"blank={self.blank}, reduction={self.reduction!r}, zero_infinity={self.zero_infinity}, "
            f"batch_first={self.batch_first}"
        )

    def forward(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths
    ) -> Tensor:
        """See `numbactc.ctc_loss`."""
        return ctc_loss(
            log_probs, targets, input_lengths, target_lengths,
            self.blank, self.reduction, self.zero_infinity, batch_first=self.batch_first,
        )  # fmt: skip


class CTCLossWithLogits(CTCLoss):
    """`numbactc.ctc_loss_with_logits` as a module, with the arguments of `torch.nn.CTCLoss`."""

    def forward(self, logits: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths) -> Tensor:
        """See `numbactc.ctc_loss_with_logits`."""
        return ctc_loss_with_logits(
            logits, targets, input_lengths, target_lengths,
            self.blank, self.reduction, self.zero_infinity, batch_first=self.batch_first,
        )  # fmt: skip

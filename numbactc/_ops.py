"""The loss as operators of torch.library, which is what torch.compile can put into a graph.

Eager calls use the autograd functions of `_autograd`, which cost the host less. Arguments are checked when an operator
runs: while a graph is made there are shapes and dtypes, but no values.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from numbactc import _devices
from numbactc._validation import NO_SECOND_DERIVATIVE, Lengths

_NO_DISPATCH = Tensor.__torch_dispatch__

_library = torch.library.Library("numbactc", "DEF")
_library.define(
    "ctc(Tensor scores, Tensor targets, Tensor input_lengths, Tensor target_lengths, int blank, bool normalise, "
    "bool unbatched, bool check, bool keep) -> (Tensor, Tensor, Tensor[])"
)
_library.define(
    "ctc_gradient(Tensor scores, Tensor grad_losses, Tensor[] saved, SymInt width, bool concatenated, int blank, "
    "bool normalise) -> Tensor"
)


def is_watched(scores: Tensor) -> bool:
    """Whether somebody sees the operators that run, in place of their kernels: a mode, or the type of the scores."""
    return torch._C._len_torch_dispatch_stack() > 0 or type(scores).__torch_dispatch__ is not _NO_DISPATCH


def ctc(
    scores: Tensor,
    targets: Any,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int,
    normalise: bool,
    unbatched: bool,
    check: bool,
) -> tuple[Tensor, Callable[[], Tensor]]:
    """As `_autograd.ctc`, for a graph: losses (N,) in float64 of scores (T, N, C), and what a mean divides them by."""
    lengths = [each if isinstance(each, Tensor) else torch.tensor(each) for each in (input_lengths, target_lengths)]
    keep = torch.is_grad_enabled() and scores.requires_grad
    losses, counts, _ = torch.ops.numbactc.ctc(scores, targets, *lengths, blank, normalise, unbatched, check, keep)
    return losses, lambda: counts


def _forward(
    scores: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    normalise: bool,
    unbatched: bool,
    check: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    problem = _devices.prepare(
        scores, targets, input_lengths, target_lengths, blank, normalise, unbatched, check
    )
    # what an operator returns must be the same each time, and may not be memory that nobody wrote
    losses, saved = _devices.forward(scores, problem, keep, zeroed=keep)
    return losses, problem.label_counts().long(), saved


def _backward(scores: Tensor, grad_losses: Tensor, saved: list[Tensor], *options: Any) -> Tensor:
    return _devices.backward(scores, grad_losses, saved, _devices.problem_for_backward(scores, *options))


def _form(targets: Tensor, unbatched: bool) -> tuple[int, bool]:
    """(S or how many labels, whether they are concatenated), as far as memory depends on it."""
    return targets.shape[-1], targets.dim() == 1 and not unbatched


def _fake_forward(
    scores: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    normalise: bool,
    unbatched: bool,
    check: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    losses, counts = (scores.new_empty(scores.shape[1], dtype=dtype) for dtype in (torch.float64, torch.int64))
    return losses, counts, _devices.fake_saved(scores, *_form(targets, unbatched)) if keep else []


def _fake_backward(scores: Tensor, grad_losses: Tensor, saved: list[Tensor], *options: Any) -> Tensor:
    frames, utterances, classes = scores.shape
    if scores.stride(0) < scores.stride(1):
        return scores.new_empty(utterances, frames, classes).transpose(0, 1)
    return scores.new_empty(frames, utterances, classes)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, list[Tensor]]) -> None:
    scores, targets, _, _, blank, normalise, unbatched, _, _ = inputs
    ctx.save_for_backward(scores, *output[2])
    ctx.options = *_form(targets, unbatched), blank, normalise


def _differentiate(ctx: Any, grad_losses: Tensor, *others: object) -> tuple[Any, ...]:
    scores, *saved = ctx.saved_tensors
    return torch.ops.numbactc.ctc_gradient(scores, grad_losses, saved, *ctx.options), *[None] * 8


def _refuse(ctx: Any, grad: Tensor) -> Any:
    raise RuntimeError(NO_SECOND_DERIVATIVE)


for _key in ("CPU", "CUDA"):
    _library.impl("ctc", _forward, _key)
    _library.impl("ctc_gradient", _backward, _key)
torch.library.register_fake("numbactc::ctc", _fake_forward, lib=_library)
torch.library.register_fake("numbactc::ctc_gradient", _fake_backward, lib=_library)
torch.library.register_autograd("numbactc::ctc", _differentiate, setup_context=_keep_for_backward, lib=_library)
torch.library.register_autograd("numbactc::ctc_gradient", _refuse, lib=_library)

"""From torch tensors on a GPU to the kernels of the loss: memory on the current stream, arguments, launches.

Everything is queued and nothing waits, so lengths and labels on the GPU stay unknown here. All memory comes from
`torch.empty`: one piece for what backward needs, one for what forward alone needs, one for the result. Imported with
the first tensor on a GPU, and imports Numba only where a kernel must be compiled.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from numbactc import _validation_cuda
from numbactc import _views_cuda as views
from numbactc._views_cuda import DTYPE_NAMES, on_its_device, readable
from numbactc.kernels.cuda.plan import VECTOR_BYTES, Call, is_aligned, plan, saved_layout

PADDED, CONCATENATED = 0, 1
"""Forms of targets, as the kernels number them. A single utterance's are padded."""

plan_of = lru_cache(1024)(plan)


class Problem:
    """One call: what its plan follows from, and its targets."""

    def __init__(self, call: Call, blank: int, targets: _validation_cuda.DeviceTargets | None = None) -> None:
        self.call = call
        self.blank = blank
        self.targets = targets

    def label_counts(self) -> Tensor:
        """(N,) labels of each utterance, at least 1: what a mean divides its loss by."""
        assert self.targets is not None
        return self.targets.target_lengths.clamp(min=1)


@on_its_device
def prepare(
    scores: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: Any,
    normalise: bool,
    unbatched: bool,
    check: bool,
) -> Problem:
    """A problem for scores (T, N, C), its arguments checked: what the host knows, or with `check` everything."""
    checked = _validation_cuda.check_targets(
        scores, targets, input_lengths, target_lengths, blank, unbatched, check
    )
    labels = checked.labels
    return Problem(_call(scores, labels.shape[-1], labels.dim() == 1, normalise), checked.blank, checked)


@on_its_device
def forward(scores: Tensor, problem: Problem, keep: bool, zeroed: bool = False) -> tuple[Tensor, list[Tensor]]:
    """As `_devices.forward`."""
    targets, blank, call = problem.targets, problem.blank, problem.call._replace(keep=keep)
    assert targets is not None
    scores = readable(scores)
    its_plan = plan_of(call)
    losses = scores.new_empty(call.batch, dtype=torch.float64)
    saved = scores.new_empty(its_plan.saved_bytes, dtype=torch.uint8)
    if zeroed:
        saved.zero_()
    scratch = scores.new_empty(its_plan.scratch_bytes, dtype=torch.uint8)
    kept, free = views.addresses(saved, its_plan.saved), views.addresses(scratch, its_plan.scratch)
    T, N, C, S = call.frames, call.batch, call.classes, call.width
    normalise, table = int(call.normalise), int(its_plan.table)
    prepared = kept["facts"], kept["starts"], free["labels"]
    lattice = (
        T, C, blank, normalise, table, int(keep), *prepared, kept["row_stats"], free["emissions"], free["states"],
        free["sums"], kept["posteriors"], free["exponents"], free["blanks"], kept["order"], kept["classes"],
        kept["begins"], kept["class_counts"], kept["outcomes"], views.address(losses),
    )  # fmt: skip
    arguments = {
        "prepare": (
            *views.integers(targets.labels, 2),
            *views.integers(targets.input_lengths, 1), *views.integers(targets.target_lengths, 1),
            T, N, C, S, blank, CONCATENATED if call.concatenated else PADDED, *prepared,
        ),
        "rows_forward": (
            *_rows(scores, call), T, N, C, blank, normalise, table, *prepared, kept["row_stats"], free["emissions"],
        ),
        "lattice_outer": lattice,
        "lattice_inner": lattice,
    }  # fmt: skip
    views.queue(scores.device, its_plan.forward, arguments)
    return losses, [saved] if keep else []


@on_its_device
def backward(scores: Tensor, grad_losses: Tensor, saved: list[Tensor], problem: Problem) -> Tensor:
    """As `_devices.backward`."""
    call = problem.call._replace(keep=True)
    its_plan = plan_of(call)
    scores, grad_losses = readable(scores), readable(grad_losses)
    T, N, C = call.frames, call.batch, call.classes
    # rows contiguous, utterances outermost if they are so in scores
    if scores.stride(0) < scores.stride(1):
        gradient = scores.new_empty(N, T, C).transpose(0, 1)
    else:
        gradient = scores.new_empty(T, N, C)
    workspace = saved[0]
    if workspace.data_ptr() % VECTOR_BYTES:  # autograd's hooks may pack what is saved, and hand it back anywhere
        workspace = workspace.clone()
    kept = views.addresses(workspace, its_plan.saved)
    arguments = (
        *_rows(scores, call), T, N, C, problem.blank, int(call.normalise),
        kept["facts"], kept["starts"], kept["row_stats"], kept["posteriors"], kept["order"], kept["classes"],
        kept["begins"], kept["class_counts"], kept["outcomes"],
        views.address(grad_losses), grad_losses.stride(0),
        views.address(gradient), gradient.stride(0), gradient.stride(1),
    )  # fmt: skip
    views.queue(scores.device, its_plan.backward, {"rows_backward": arguments})
    return gradient


def problem_for_backward(
    scores: Tensor, width: int, concatenated: bool, blank: int, normalise: bool
) -> Problem:
    """As `_devices.problem_for_backward`."""
    return Problem(_call(scores, width, concatenated, normalise), blank)


def fake_saved(scores: Tensor, width: int, concatenated: bool) -> list[Tensor]:
    """As `_devices.fake_saved`."""
    _, saved_bytes = saved_layout(_call(scores, width, concatenated, normalise=True)._replace(keep=True))
    return [scores.new_empty(saved_bytes, dtype=torch.uint8)]


def _call(scores: Tensor, width: int, concatenated: bool, normalise: bool) -> Call:
    T, N, C = scores.shape
    views.check_sizes(C, width)
    return Call(T, N, C, width, concatenated, DTYPE_NAMES[scores.dtype], normalise, keep=False)


def _rows(scores: Tensor, call: Call) -> tuple[int, ...]:
    """The arguments for scores: address, strides, whether vectors may be loaded, whether frames are innermost."""
    address, (t, n, c) = views.address(scores), scores.stride()
    return address, t, n, c, int(is_aligned(address, (t, n, c), call.dtype)), int(t < n)

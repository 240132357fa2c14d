"""The loss of a projection as operators of torch.library, for torch.compile; as `_ops.py` for the loss of scores."""

from typing import Any

import torch
from torch import Tensor

from numbactc import _head
from numbactc._validation import NO_SECOND_DERIVATIVE, Lengths

_library = torch.library.Library("numbactc", "FRAGMENT")
_library.define(
    "linear_ctc(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets, Tensor input_lengths, "
    "Tensor target_lengths, int blank, bool unbatched, str reduction, bool zero_infinity, ScalarType dtype, "
    "int chunk_bytes, bool[] wanted) -> (Tensor, Tensor, Tensor[], Tensor[])"
)
_library.define(
    "linear_ctc_gradient(Tensor hidden, Tensor weight, Tensor? bias, Tensor grad, Tensor label_counts, Tensor[] kept, "
    "Tensor[] dense, str reduction, ScalarType dtype, int chunk_bytes, bool[] wanted) -> Tensor[]"
)


def linear_ctc(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, input_lengths: Lengths,
    target_lengths: Lengths, *options: Any,
) -> Tensor:  # fmt: skip
    """As `_autograd_head.linear_ctc`, for a graph."""
    lengths = [each if isinstance(each, Tensor) else torch.tensor(each) for each in (input_lengths, target_lengths)]
    inputs = hidden, weight, bias
    wanted = [torch.is_grad_enabled() and x is not None and x.requires_grad for x in inputs]
    result: Tensor = torch.ops.numbactc.linear_ctc(*inputs, targets, *lengths, *options, wanted)[0]
    return result


class Counted:
    """A problem as far as backward asks for it."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts

    def label_counts(self) -> Tensor:
        return self.counts


def _forward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, input_lengths: Tensor,
    target_lengths: Tensor, blank: int, unbatched: bool, reduction: str, zero_infinity: bool, dtype: torch.dtype,
    chunk_bytes: int, wanted: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    call = _head.prepare(
        hidden, weight, targets, input_lengths, target_lengths, blank, unbatched, reduction, zero_infinity, dtype,
        chunk_bytes,
    )  # fmt: skip
    result, kept, dense = _head.forward(hidden, weight, bias, call, tuple(wanted))
    return result, call.problem.label_counts(), kept, [each for each in dense or [] if each is not None]


def _backward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, label_counts: Tensor, kept: list[Tensor],
    dense: list[Tensor], reduction: str, dtype: torch.dtype, chunk_bytes: int, wanted: list[bool],
) -> list[Tensor]:  # fmt: skip
    call = _head.Call(Counted(label_counts), reduction, False, dtype, chunk_bytes)
    # an operator may not use up what it is given
    given = iter(dense)
    parts = [next(given).clone() if want else None for want in wanted] if dense else None
    gradients = _head.backward(hidden, weight, bias, grad, kept, call, parts, tuple(wanted))
    return [each for each in gradients if each is not None]


def _fake_forward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, input_lengths: Tensor,
    target_lengths: Tensor, blank: int, unbatched: bool, reduction: str, zero_infinity: bool, dtype: torch.dtype,
    chunk_bytes: int, wanted: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    N = hidden.shape[1]
    real = _head.real_of(dtype)
    result = hidden.new_empty((N,) if reduction == "none" else (), dtype=real)
    counts = hidden.new_empty(N, dtype=torch.int64)
    if not any(wanted):
        return result, counts, [], []
    kept = _head.of(hidden).fake_saved(hidden, targets, unbatched, real)
    return result, counts, kept, [] if reduction == "none" else _like(hidden, weight, [real] * 3, wanted)


def _fake_backward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, label_counts: Tensor, kept: list[Tensor],
    dense: list[Tensor], reduction: str, dtype: torch.dtype, chunk_bytes: int, wanted: list[bool],
) -> list[Tensor]:  # fmt: skip
    return _like(hidden, weight, [x.dtype for x in (hidden, weight, weight if bias is None else bias)], wanted)


def _like(hidden: Tensor, weight: Tensor, dtypes: list[torch.dtype], wanted: list[bool]) -> list[Tensor]:
    """Gradients without values."""
    T, N, H = hidden.shape
    if hidden.stride(0) < hidden.stride(1):
        of_hidden = hidden.new_empty(N, T, H, dtype=dtypes[0]).transpose(0, 1)
    else:
        of_hidden = hidden.new_empty(T, N, H, dtype=dtypes[0])
    C = weight.shape[0]
    gradients = of_hidden, weight.new_empty(C, H, dtype=dtypes[1]), weight.new_empty(C, dtype=dtypes[2])
    return [each for each, want in zip(gradients, wanted, strict=True) if want]


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    hidden, weight, bias, *_, reduction, _, dtype, chunk_bytes, wanted = inputs
    _, counts, kept, dense = output
    ctx.mark_non_differentiable(counts, *kept, *dense)
    ctx.save_for_backward(hidden, weight, bias, counts, *kept, *dense)
    ctx.kept, ctx.options = len(kept), (reduction, dtype, chunk_bytes, wanted)


def _differentiate(ctx: Any, grad: Tensor, *others: object) -> tuple[Any, ...]:
    hidden, weight, bias, counts, *rest = ctx.saved_tensors
    kept, dense = rest[: ctx.kept], rest[ctx.kept :]
    given = iter(
        torch.ops.numbactc.linear_ctc_gradient(hidden, weight, bias, grad, counts, kept, dense, *ctx.options)
    )
    return *(next(given) if want else None for want in ctx.options[-1]), *[None] * 10


def _refuse(ctx: Any, grad: Tensor) -> Any:
    raise RuntimeError(NO_SECOND_DERIVATIVE)


for device in ("CPU", "CUDA"):
    _library.impl("linear_ctc", _forward, device)
    _library.impl("linear_ctc_gradient", _backward, device)
torch.library.register_fake("numbactc::linear_ctc", _fake_forward, lib=_library)
torch.library.register_fake("numbactc::linear_ctc_gradient", _fake_backward, lib=_library)
torch.library.register_autograd("numbactc::linear_ctc", _differentiate, setup_context=_keep_for_backward, lib=_library)
torch.library.register_autograd("numbactc::linear_ctc_gradient", _refuse, lib=_library)

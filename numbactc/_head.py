"""A projection and the loss of its logits, in chunks of rows, so that never all of them are in memory.

One sweep over the chunks: product, what the recursion needs of each row, and what of the gradient needs no recursion,
its dense part: the softmax of the classes that are not in a row's target, which goes through two more products at once.
The target's classes are few; their part is added after the recursion. See `kernels/README.md`.
"""

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from numbactc import _devices, _dispatch, _dispatch_head

P = ParamSpec("P")
Result = TypeVar("Result")
Gradients = list[Tensor | None]
"""Of hidden (T, N, H), weight (C, H) and bias (C,), each only if it is wanted."""

CLASSES_AT_ONCE = 4096
"""Rows of a weight's gradient that are widened at a time, where products are in half precision."""


class Call(NamedTuple):
    """What is asked about some hidden states."""

    problem: _devices.Problem
    reduction: str
    zero_infinity: bool
    dtype: torch.dtype
    """Of the products, and so of the logits."""
    chunk_bytes: int

    @property
    def real(self) -> torch.dtype:
        return real_of(self.dtype)

    def reduce(self, losses: Tensor) -> Tensor:
        if self.zero_infinity:
            losses = losses.masked_fill(losses == torch.inf, 0.0)
        if self.reduction == "mean":
            losses = (losses / self.problem.label_counts()).mean()
        elif self.reduction == "sum":
            losses = losses.sum()
        return losses.to(self.real)


def prepare(
    hidden: Tensor, weight: Tensor, targets: Any, input_lengths: Any, target_lengths: Any, blank: Any, unbatched: bool,
    reduction: str, zero_infinity: bool, dtype: torch.dtype, chunk_bytes: int,
) -> Call:  # fmt: skip
    """A call, its targets and lengths checked."""
    # what has the shape of the logits, and no more memory than one of them
    logits = hidden.new_empty(1, dtype=dtype).expand(*hidden.shape[:2], len(weight))
    while isinstance(targets, Tensor) and torch._C._functorch.is_gradtrackingtensor(targets):
        targets = torch._C._functorch.get_unwrapped(targets)  # made inside torch.func.grad: the wrapper has no memory
    problem = _devices.prepare(
        logits, targets, input_lengths, target_lengths, blank, normalise=True, unbatched=unbatched, check=False
    )
    return Call(problem, reduction, zero_infinity, dtype, chunk_bytes)


def of(hidden: Tensor) -> ModuleType:
    """`_dispatch_head`, or on a GPU `_dispatch_head_cuda`, whose functions are the same."""
    if _devices.of(hidden) is _dispatch:
        return _dispatch_head
    from numbactc import _dispatch_head_cuda

    return _dispatch_head_cuda


def real_of(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the arithmetic, and of sums over chunks."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Projection:
    """hidden @ weight.T + bias, some rows at a time, and its gradients.

    Args:
        hidden: (T, N, H). weight: (C, H). bias: (C,) or None.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, call: Call) -> None:
        self.hidden, self.real, self.dispatch = hidden.detach(), call.real, of(hidden)
        self.time_inner = hidden.stride(0) < hidden.stride(1)
        self.rows = self._rows_of(self.hidden)
        self.weight = weight.detach().to(call.dtype)
        self.bias = None if bias is None else bias.detach().to(call.dtype)
        self.rows_at_once = max(1, call.chunk_bytes // max(1, len(weight) * self.weight.itemsize))

    def _rows_of(self, tensor: Tensor) -> Tensor:
        """(T, N, H) as (T * N, H) in the order of memory."""
        return (tensor.transpose(0, 1) if self.time_inner else tensor).flatten(0, 1)

    def chunks(self, batch: Any, chosen: Tensor) -> list[Any]:
        """The frames of the chosen utterances; `batch` has lengths."""
        T = self.hidden.shape[0]
        found: list[Any] = self.dispatch.chunks(batch, chosen, T, self.time_inner, self.rows_at_once)
        return found

    def sweep(self, chunks: list[Any], visit: Callable[[Tensor, Any], None], gradients: Gradients) -> None:
        """Have each chunk's logits visited; what they are then is the gradient by them, and is added to the others."""
        of_hidden, of_weight, of_bias = gradients
        self._clear(gradients, chunks)
        memory = self.dispatch.memory(self.weight, max((chunk.size for chunk in chunks), default=0))
        for i, chunk in enumerate(chunks):
            rows, logits = self.dispatch.take(self.rows, chunk).to(self.weight.dtype), memory[: chunk.size]
            if self.bias is None:
                torch.mm(rows, self.weight.t(), out=logits)
            else:
                torch.addmm(self.bias, rows, self.weight.t(), out=logits)
            visit(logits, chunk)
            if of_hidden is not None:
                _put_product(self._rows_of(of_hidden), chunk.places, logits, self.weight)
            if of_weight is not None:
                _add_product(of_weight, logits, rows, i == 0)
            if of_bias is not None:
                of_bias.add_(_sum_of_rows(logits, self.real))

    def _clear(self, gradients: Gradients, chunks: list[Any]) -> None:
        """What no chunk writes is 0."""
        of_hidden, of_weight, of_bias = gradients
        if of_hidden is not None and sum(chunk.size for chunk in chunks) < self.rows.shape[0]:
            of_hidden.zero_()
        if of_weight is not None and not chunks:
            of_weight.zero_()
        if of_bias is not None:
            of_bias.zero_()

    def memory_for(self, wanted: tuple[bool, ...]) -> Gradients:
        """Of their own, of hidden in the layout of hidden; `sweep` fills it."""
        T, N, H = self.hidden.shape
        of_hidden, of_weight, of_bias = (
            self.weight.new_empty(shape, dtype=self.real) if want else None
            for shape, want in zip(((T * N, H), self.weight.shape, self.weight.shape[:1]), wanted, strict=True)
        )
        if of_hidden is not None:
            of_hidden = of_hidden.view(N, T, H).transpose(0, 1) if self.time_inner else of_hidden.view(T, N, H)
        return [of_hidden, of_weight, of_bias]


def _put_product(rows: Tensor, places: slice | Tensor, left: Tensor, right: Tensor) -> None:
    """rows[places] = left @ right"""
    if isinstance(places, slice) and rows.dtype == left.dtype:
        torch.mm(left, right, out=rows[places])
    else:
        rows[places] = (left @ right).to(rows.dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor, first: bool) -> None:
    """total += left.T @ right, or the first of them; products of half precision are added in float32."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right, beta=0 if first else 1)
        return
    for some in range(0, len(total), CLASSES_AT_ONCE):
        part, product = total[some : some + CLASSES_AT_ONCE], left[:, some : some + CLASSES_AT_ONCE].t() @ right
        part.copy_(product) if first else part.add_(product)


def _sum_of_rows(rows: Tensor, real: torch.dtype) -> Tensor:
    # of float32 and float64 a product is many times faster
    return rows.t() @ rows.new_ones(len(rows)) if rows.dtype == real else rows.sum(0, dtype=real)


class Slopes(NamedTuple):
    """d result / d losses as weights * scale, for half precision has no room for what a mean divides by."""

    weights: Tensor
    """(N,) from -1 to 1, and 0 where no path fits."""
    scale: Tensor
    """()"""


def _slopes(call: Call, has_path: Tensor, given: Tensor | None = None) -> Slopes:
    """Of 'mean' and 'sum', or given for 'none'."""
    if given is not None:
        slopes = given.double()
    elif call.reduction == "mean":
        slopes = 1 / (call.problem.label_counts().double() * len(has_path))
    else:
        slopes = torch.ones_like(has_path, dtype=torch.float64)
    if call.dtype == call.real:
        return Slopes(slopes.masked_fill(~has_path, 0.0).to(call.real), slopes.new_ones((), dtype=call.real))
    largest = torch.cat([slopes.abs(), slopes.new_zeros(1)]).nan_to_num(0.0, 0.0).amax()
    scale = largest.masked_fill(largest == 0, 1.0)
    return Slopes((slopes / scale).masked_fill(~has_path, 0.0).to(call.real), scale.to(call.real))


def _dense(projection: Projection, saved: Any, weights: Tensor, wanted: tuple[bool, ...]) -> Gradients:
    """The dense parts of gradients, from another sweep."""
    dense, again = projection.memory_for(wanted), projection.dispatch.read_again
    chunks = projection.chunks(saved, weights != 0)
    projection.sweep(chunks, lambda logits, chunk: again(logits, chunk, weights, saved), dense)
    return dense


def _without_autocast(function: Callable[P, Result]) -> Callable[P, Result]:
    """What is done in which precision is said here, product by product."""

    @wraps(function)
    def plain(*arguments: P.args, **options: P.kwargs) -> Result:
        hidden = cast(Tensor, arguments[0])
        with torch.autocast(hidden.device.type, enabled=False):
            return function(*arguments, **options)

    return plain


@_without_autocast
def forward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, call: Call, wanted: tuple[bool, ...], ahead: bool = True
) -> tuple[Tensor, list[Tensor], Gradients | None]:
    """The result; if a gradient is wanted, what `backward` needs; and with `ahead` the dense parts of gradients."""
    projection, keep = Projection(hidden, weight, bias, call), any(wanted)
    dispatch = projection.dispatch
    batch = dispatch.Batch(call.problem, hidden.shape[0], len(weight), call.real, keep)
    weights, dense = None, None
    if keep and ahead and call.reduction != "none":
        weights, dense = _slopes(call, batch.fits).weights, projection.memory_for(wanted)
    nothing: Gradients = [None, None, None]
    fitting = projection.chunks(batch, batch.fits)
    projection.sweep(fitting, lambda logits, chunk: batch.read(logits, chunk, weights), dense or nothing)
    if dispatch.KNOWS_LENGTHS:
        # these have no path, but may be NaN
        others = projection.chunks(batch, ~batch.fits)
        projection.sweep(others, lambda logits, chunk: batch.read(logits, chunk, None), nothing)
    saved = batch.finish()
    if dense and batch.fits_less_than_thought(saved):
        # an utterance's part cannot be taken out of a sum
        dense = _dense(projection, saved, _slopes(call, saved.has_path).weights, wanted)
    # a copy, for float64 losses that are not reduced would be what backward reads
    return call.reduce(saved.losses.clone()), list(saved) if keep else [], dense


@_without_autocast
def backward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, kept: list[Tensor], call: Call,
    dense: Gradients | None, wanted: tuple[bool, ...],
) -> Gradients:  # fmt: skip
    """Gradients in the dtypes of their tensors.

    Args:
        grad: d / d result.
        kept, dense: from `forward`. The latter is used up; where it is None, another sweep makes it.
    """
    projection = Projection(hidden, weight, bias, call)
    saved = projection.dispatch.Saved(*kept)
    if call.reduction == "none":
        weights, scale = _slopes(call, saved.has_path, grad)
    else:
        weights, scale = _slopes(call, saved.has_path)
        scale = scale * grad
    if dense is None:
        dense = _dense(projection, saved, weights, wanted)
    projection.dispatch.add_sparse(projection.hidden, projection.weight, saved, weights, scale, dense)
    inputs = hidden, weight, bias
    return [None if g is None else g.to(x.dtype) for g, x in zip(dense, inputs, strict=True)]  # type: ignore[union-attr]

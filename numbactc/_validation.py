"""Every check of the arguments and every message about them: what was wrong, the rule, the value that was given."""

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

SCORE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGER_DTYPES = (torch.int32, torch.int64)
REDUCTIONS = ("none", "mean", "sum")

NO_SECOND_DERIVATIVE = "numbactc cannot differentiate the CTC loss twice: its second derivative is not implemented"
NO_FORWARD_MODE = "numbactc has no forward-mode derivative of the CTC loss: it is differentiated in reverse only"

Lengths = Tensor | Sequence[int]


class Targets(NamedTuple):
    """What a batch asks for, checked; all integers are int64 NumPy arrays of our own."""

    labels: np.ndarray
    """Flat; utterance n has the labels from starts[n] to starts[n] + target_lengths[n]. A wildcard is C."""
    starts: np.ndarray
    input_lengths: np.ndarray
    target_lengths: np.ndarray
    blank: int


class NoClass(ValueError):
    """Among the labels is one that is no class: an index out of bounds, for whoever takes it for one."""


def check_reduction(reduction: object) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")


def check_scores(name: str, scores: object, last: str = "C") -> None:
    """The tensor of log-probabilities or logits: a floating dtype, 2 or 3 dimensions, on a device that has kernels.

    Args:
        last: the size of its last dimension, for the message.
    """
    if not isinstance(scores, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(scores).__name__}")
    if scores.dtype not in SCORE_DTYPES:
        raise TypeError(f"{name} must be float32, float64, bfloat16 or float16, got {scores.dtype}")
    if scores.dim() not in (2, 3):
        raise ValueError(f"{name} must have shape (T, N, {last}) or (T, {last}), got {tuple(scores.shape)}")
    if scores.device.type != "cpu" and not (scores.is_cuda and torch.version.hip is None):
        raise NotImplementedError(f"{name} must be on the CPU or an NVIDIA GPU, got a tensor on {scores.device}")
    check_dense(name, scores)


def check_dense(name: str, tensor: Tensor) -> None:
    """Memory with strides: neither sparse, nor nested, nor in a layout of some library's own."""
    if tensor.layout != torch.strided or tensor.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got {'a nested one' if tensor.is_nested else tensor.layout}")


def as_batch(name: str, scores: Tensor, batch_first: bool, last: str = "C") -> Tensor:
    """Checked scores in any of the forms that callers may choose, as (T, N, C)."""
    check_scores(name, scores, last)
    if scores.dim() == 2:
        return scores.unsqueeze(1)
    return scores.transpose(0, 1) if batch_first else scores


def check_projection(hidden: Tensor, weight: Any, bias: Any) -> torch.dtype:
    """What makes logits of hidden states (T, N, H): weight (C, H) and bias (C,) or None; the dtype of the products.

    That is autocast's, where it is on, as for `torch.nn.functional.linear`; it leaves float64 alone.
    """
    if torch.is_autocast_enabled(hidden.device.type) and hidden.dtype != torch.float64:
        dtype, allowed = torch.get_autocast_dtype(hidden.device.type), set(SCORE_DTYPES) - {torch.float64}
    else:
        dtype, allowed = hidden.dtype, {hidden.dtype}
    for name, tensor in (("weight", weight), ("bias", bias)):
        if name == "bias" and tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
        if tensor.dtype not in allowed:
            raise TypeError(f"{name} must have the dtype of hidden, {hidden.dtype}, got {tensor.dtype}")
        if tensor.device != hidden.device:
            raise ValueError(f"{name} must be on the device of hidden, {hidden.device}, got {tensor.device}")
        check_dense(name, tensor)
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[-1]:
        raise ValueError(f"weight must have shape (C, {hidden.shape[-1]}), got {tuple(weight.shape)}")
    if bias is not None and tuple(bias.shape) != (len(weight),):
        raise ValueError(f"bias must have shape ({len(weight)},), got {tuple(bias.shape)}")
    return dtype


def check_positive(name: str, value: object) -> int:
    number = check_integer(name, value)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def check_targets(
    scores: Tensor,
    targets: object,
    input_lengths: object,
    target_lengths: object,
    blank: object,
    unbatched: bool,
    elsewhere: bool = False,
    wildcard: int | None = None,
    name: str = "targets",
) -> Targets:
    """Targets and lengths for scores (T, N, C), each checked against its range.

    Args:
        elsewhere: targets may be on any device.
        wildcard: what stands among the labels for anything, checked.
        name: what the caller calls targets.
    """
    frames, batch, classes = scores.shape
    blank = check_blank(blank, classes)
    input_lengths = check_lengths("input_lengths", input_lengths, batch, unbatched)
    target_lengths = check_lengths("target_lengths", target_lengths, batch, unbatched)
    check_range("input_lengths", input_lengths, frames, "T")
    targets = check_targets_type(targets, name)
    if targets.device != scores.device and not elsewhere:
        raise ValueError(f"{name} must be on the device of the scores, {scores.device}, got {targets.device}")
    longest = width_of(targets, batch, unbatched)
    if longest is not None:
        check_range("target_lengths", target_lengths, longest, "S, the width of targets")
        starts = np.arange(batch, dtype=np.int64) * longest
    else:
        check_range("target_lengths", target_lengths, None, "")
        check_total(targets, target_lengths, unbatched)
        starts = np.cumsum(target_lengths) - target_lengths
    if targets.device.type != "cpu":
        targets = targets.cpu()
    labels = np.array(np.from_dlpack(targets), dtype=np.int64).reshape(-1)
    _check_labels(name, labels, starts, target_lengths, classes, blank, wildcard)
    if wildcard is not None:
        labels[labels == wildcard] = classes
    return Targets(labels, starts, input_lengths, target_lengths, blank)


def check_targets_type(targets: object, name: str = "targets") -> Tensor:
    if not isinstance(targets, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(targets).__name__}")
    return check_integers(name, targets)


def check_integers(name: str, tensor: Tensor) -> Tensor:
    """A dense tensor of integers, whose memory holds what it says: no minus sign is left to whoever reads it."""
    if tensor.dtype not in INTEGER_DTYPES:
        raise TypeError(f"{name} must be int32 or int64, got {tensor.dtype}")
    check_dense(name, tensor)
    return tensor.resolve_neg() if tensor.is_neg() else tensor  # even for nothing, torch.func would wrap the result


def width_of(targets: Tensor, batch: int, unbatched: bool) -> int | None:
    """S for padded targets (N, S), None for concatenated ones and for those of a single utterance."""
    if targets.dim() == 2 and targets.shape[0] == batch and not unbatched:
        return targets.shape[1]
    if targets.dim() == 1 or (unbatched and targets.dim() == 2 and targets.shape[0] == 1):
        return None
    raise ValueError(f"targets must have shape ({batch}, S) or (sum(target_lengths),), got {tuple(targets.shape)}")


def check_total(targets: Tensor, target_lengths: np.ndarray, unbatched: bool) -> None:
    """As many labels as the lengths say, in concatenated targets; a single utterance's may be padded."""
    total = sum(target_lengths.tolist())  # which never overflows
    if total > targets.numel() or (total < targets.numel() and not unbatched):
        raise ValueError(
            f"targets, concatenated, must have sum(target_lengths) = {total} labels, got {targets.numel()}"
        )


def check_integer(name: str, value: Any, otherwise: str = "") -> int:
    """An integer of any type; `otherwise` is what the message allows besides."""
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{name} must be an integer{otherwise}, got {value!r}") from None


def check_blank(blank: object, classes: int) -> int:
    blank = check_integer("blank", blank)
    if not 0 <= blank < classes:
        raise ValueError(f"blank must be from 0 to C - 1, where C = {classes}, got {blank}")
    return blank


def check_wildcard(wildcard: object, classes: int) -> int | None:
    """An integer that is no class and that targets can hold, or None."""
    if wildcard is None:
        return None
    wildcard = check_integer("wildcard", wildcard, " or None")
    if 0 <= wildcard < classes:
        raise ValueError(f"wildcard must not be a class, from 0 to C - 1, where C = {classes}, got {wildcard}")
    if not -(2**63) <= wildcard < 2**63:
        raise ValueError(f"wildcard must fit into 64 bits, got {wildcard}")
    return wildcard


def check_number(name: str, number: Any, rule: str = "") -> float:
    """A finite float: any, 'positive' or 'at least 0'."""
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"{name} must be a number, got {number!r}")
    try:
        value = float(number)
    except OverflowError:  # an integer or a fraction beyond float64
        value = math.inf
    if not math.isfinite(value) or (rule and value < 0) or (rule == "positive" and value == 0):
        raise ValueError(f"{name} must be finite{' and ' * bool(rule)}{rule}, got {value}")
    return value


def check_lengths(name: str, lengths: Any, batch: int, unbatched: bool) -> np.ndarray:
    """Lengths in any form as int64."""
    if isinstance(lengths, Tensor):
        if lengths.is_meta:
            raise ValueError(f"{name} must have values, got a tensor on meta")
        array = np.array(check_integers(name, lengths).tolist(), dtype=np.int64)
        if unbatched and array.ndim == 0:
            array = array.reshape(1)
    elif isinstance(lengths, (list, tuple)):
        array = as_integers(name, lengths)
    else:
        raise TypeError(f"{name} must be a tensor, list or tuple of integers, got {type(lengths).__name__}")
    check_lengths_shape(name, array.shape, batch)
    return array


def as_integers(name: str, values: Sequence[Any]) -> np.ndarray:
    """Python's integers of any kind as int64."""
    try:
        integers = [operator.index(value) for value in values]
    except TypeError:
        raise TypeError(f"{name} must hold integers, got {values!r}") from None
    for value in integers:
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{name} must hold integers that fit into 64 bits, got {value}")
    return np.array(integers, dtype=np.int64)


def check_lengths_shape(name: str, shape: tuple[int, ...], batch: int) -> None:
    if tuple(shape) != (batch,):
        raise ValueError(f"{name} must have shape ({batch},), got {tuple(shape)}")


def check_range(name: str, lengths: np.ndarray, largest: int | None, meaning: str) -> None:
    values = lengths.tolist()
    if not values or (min(values) >= 0 and (largest is None or max(values) <= largest)):
        return
    n = next(n for n, value in enumerate(values) if value < 0 or (largest is not None and value > largest))
    limit = "at least 0" if largest is None else f"from 0 to {largest} ({meaning})"
    raise ValueError(f"{name} must be {limit}, got {values[n]} for utterance {n}")


def _check_labels(
    name: str, labels: np.ndarray, starts: np.ndarray, target_lengths: np.ndarray, classes: int, blank: int,
    wildcard: int | None,
) -> None:  # fmt: skip
    if not labels.size:
        return
    if blank == 0 and labels.min() > 0 and labels.max() < classes:
        return
    outside = (labels < 0) | (labels >= classes)
    if wildcard is not None:
        outside &= labels != wildcard
    bad = outside | (labels == blank)
    if not bad.any():
        return
    # most of what is bad is padding: look again, utterance by utterance
    utterances = list(zip(starts.tolist(), target_lengths.tolist(), strict=True))
    for n, (start, length) in enumerate(utterances):
        wrong = bad[start : start + length]
        if wrong.any():
            position = int(wrong.argmax())
            no_class = any(outside[start : start + length].any() for start, length in utterances)
            raise (NoClass if no_class else ValueError)(
                f"{name} must be from 0 to C - 1, where C = {classes}, and not the blank, {blank}, "
                f"got {labels[start + position]} at position {position} of utterance {n}"
            )

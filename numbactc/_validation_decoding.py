"""Checks of what decoders are asked for; messages as in `_validation`."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from numbactc._validation import check_blank as check_blank
from numbactc._validation import check_integer, check_lengths, check_number, check_range, check_scores


class Pruning(NamedTuple):
    """How much of the search is given up."""

    beam_threshold: float
    """Nats below the best prefix; inf for none."""
    token_threshold: float
    """Nats; -inf for none."""


class Utterances(NamedTuple):
    """Scores to decode, checked."""

    scores: Tensor
    """(T, N, C), detached, with whatever strides."""
    lengths: np.ndarray
    """(N,) int64"""
    blank: int


def check_utterances(log_probs: Tensor, lengths: Any, blank: Any, batch_first: bool) -> Utterances:
    """Scores (T, N, C), (N, T, C) or (T, C); without lengths all utterances have T frames."""
    check_scores("log_probs", log_probs)
    scores = log_probs.detach()
    unbatched = scores.dim() == 2
    if unbatched:
        scores = scores.unsqueeze(1)
    elif batch_first:
        scores = scores.transpose(0, 1)
    frames, batch, classes = scores.shape
    blank = check_blank(blank, classes)
    if lengths is None:
        return Utterances(scores, np.full(batch, frames, np.int64), blank)
    lengths = check_lengths("lengths", lengths, batch, unbatched)
    check_range("lengths", lengths, frames, "T")
    return Utterances(scores, lengths, blank)


def check_chunk(log_probs: Tensor, classes: int, before: Sequence[Tensor]) -> None:
    """Some frames (T, C) of one utterance, of the same dtype as those before."""
    check_scores("log_probs", log_probs)
    if log_probs.dim() != 2 or log_probs.shape[1] != classes:
        raise ValueError(f"log_probs must have shape (T, {classes}), got {tuple(log_probs.shape)}")
    if before and log_probs.dtype != before[0].dtype:
        raise ValueError(f"log_probs must be {before[0].dtype} as the frames before, got {log_probs.dtype}")


def check_count(name: str, count: object, largest: int | None = None, meaning: str = "") -> int:
    """An integer of at least 1."""
    count = check_integer(name, count)
    if count < 1 or (largest is not None and count > largest):
        limit = "at least 1" if largest is None else f"from 1 to {largest} ({meaning})"
        raise ValueError(f"{name} must be {limit}, got {count}")
    return count


def check_pruning(beam_threshold: Any, token_threshold: Any) -> Pruning:
    """Thresholds in nats; None for none."""
    return Pruning(
        math.inf if beam_threshold is None else check_number("beam_threshold", beam_threshold, "at least 0"),
        -math.inf if token_threshold is None else check_number("token_threshold", token_threshold),
    )

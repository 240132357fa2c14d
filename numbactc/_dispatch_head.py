"""From torch tensors on the CPU to its kernels, for logits that come in chunks of rows; as `_dispatch.py` otherwise."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbactc import _memory, _threads
from numbactc._dispatch import Problem
from numbactc._views import flat_view, recycled

KNOWS_LENGTHS = True
"""Chunks are of the utterances that are asked for, and of their frames alone."""

PIECES_PER_THREAD = 2


class Chunk(NamedTuple):
    """Some rows: those of frames that an utterance has."""

    size: int
    """R"""
    places: slice | Tensor
    """(R,) where each is among the T * N rows, in the order of memory."""
    utterances: np.ndarray
    frames: np.ndarray


class Saved(NamedTuple):
    """What is known of a batch when its rows have been read; sizes are those of the targets' classes."""

    losses: Tensor
    input_lengths: Tensor
    row_stats: Tensor
    class_counts: Tensor
    classes: Tensor
    coefficients: Tensor
    """(N, T, K) d loss / d logit of the classes of each target: softmax - posterior."""
    has_path: Tensor
    """(N,) also True where NaN hides whether there is one."""


class Rows(NamedTuple):
    """What the kernels know of rows, as `batch.RowResults` there."""

    row_stats: np.ndarray
    class_counts: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    lowest: np.ndarray
    masked: np.ndarray
    removed: np.ndarray


class Batch:
    """The logits of one call, of which chunks are seen one after the other.

    Args:
        frames, classes_in_row: T and C.
        real: float32 or float64, the dtype of the arithmetic.
        keep: a gradient will be asked for.
    """

    def __init__(self, problem: Problem, frames: int, classes_in_row: int, real: torch.dtype, keep: bool) -> None:
        from numbactc.kernels.cpu import batch, head

        self.targets, self.keep = problem.targets, keep
        self.input_lengths = torch.from_numpy(problem.targets.input_lengths)
        labels, starts, input_lengths, target_lengths, blank = self.targets
        N = starts.size
        K = int(batch.padded(min(max(target_lengths.tolist(), default=0), classes_in_row - 1) + 1))
        number = np.float64 if real == torch.float64 else np.float32
        self.rows = Rows(
            row_stats=np.empty((N, 2, frames), number),
            class_counts=np.empty(N, np.int64),
            classes=np.empty((N, K), np.int64),
            scores=_memory.empty("posteriors", (N, frames, K), number),
            lowest=np.empty((N, frames)),
            masked=np.empty((N, frames), np.bool_),
            removed=np.zeros(N),
        )
        self.coefficients = np.empty((N, frames if keep else 0, K), number)
        self.slots = np.empty(labels.size, np.int64)
        needed = np.empty(N, np.int64)
        head.begin(
            labels, starts, target_lengths, blank, classes_in_row, self.rows.class_counts, self.rows.classes,
            self.slots, needed,
        )  # fmt: skip
        self.fits = torch.from_numpy(needed <= input_lengths)
        """(N,) whether a target has a path, as far as lengths tell."""

    def read(self, logits: Tensor, chunk: Chunk, weights: Tensor | None) -> None:
        """Rows (R, C) for the first time. With weights (N,) they become the dense part of the gradient."""
        _visit(logits, chunk, True, weights, self.coefficients, self.rows)

    def finish(self) -> Saved:
        """When all rows have been read."""
        from numbactc.kernels.cpu import head, lattice

        room = lattice.CHECKPOINT_BYTES if self.keep else 0
        _, starts, input_lengths, target_lengths, _ = self.targets
        losses = np.empty(starts.size)

        def run(some: np.ndarray) -> None:
            head.finish(
                self.slots, starts, input_lengths, target_lengths, room, some, losses, self.coefficients,
                *self.rows,
            )  # fmt: skip

        _threads.share(run, starts.size, lambda: 8 * input_lengths * target_lengths)
        rows = self.rows.row_stats, self.rows.class_counts, self.rows.classes
        tensors = [torch.from_numpy(array) for array in (losses, input_lengths, *rows, self.coefficients)]
        return Saved._make([*tensors, self.fits & (tensors[0] != torch.inf)])

    def fits_less_than_thought(self, saved: Saved) -> bool:
        """Whether scores, and not lengths, have left an utterance without a path."""
        return bool((self.fits != saved.has_path).any())


def memory(weight: Tensor, rows: int) -> Tensor:
    """For the logits (R, C) of so many rows, recycled."""
    return recycled("logits", rows * len(weight), weight.dtype).view(rows, len(weight))


def chunks(batch: Batch | Saved, chosen: Tensor, frames: int, time_inner: bool, rows: int) -> list[Chunk]:
    """All frames of the chosen utterances, at most so many at a time, in the order of memory.

    Args:
        chosen: (N,) bool.
        frames: T.
        time_inner: neighbouring rows are frames, else utterances.
    """
    there = (torch.arange(frames) < batch.input_lengths[:, None]) & chosen[:, None]  # (N, T)
    there = there if time_inner else there.t()
    places = there.flatten().nonzero().squeeze(1)
    outer, inner = divmod(places.numpy(), max(1, frames if time_inner else len(chosen)))
    utterances, times = (outer, inner) if time_inner else (inner, outer)
    # all of about the same size: products of few rows are slow
    parts = -(-len(places) // rows)
    ends = [len(places) * part // max(1, parts) for part in range(parts + 1)]
    return [
        Chunk(j - i, slice(i, j) if len(places) == there.numel() else places[i:j], utterances[i:j], times[i:j])
        for i, j in pairwise(ends)
    ]


def take(rows: Tensor, chunk: Chunk) -> Tensor:
    """Those of a chunk, of all rows (T * N, ...) in the order of memory."""
    places = chunk.places
    return rows[places] if isinstance(places, slice) else rows.index_select(0, places)


def read_again(logits: Tensor, chunk: Chunk, weights: Tensor, saved: Saved) -> None:
    """As `Batch.read` of the same logits, with other weights."""
    none = np.empty((0, 0, 0), saved.row_stats.numpy().dtype)
    known = saved.row_stats.numpy(), saved.class_counts.numpy(), saved.classes.numpy()
    no_numbers = np.empty(0)
    unread = none, no_numbers.reshape(0, 0), np.empty((0, 0), np.bool_), no_numbers
    _visit(logits, chunk, False, weights, none, Rows(*known, *unread))


def _visit(
    logits: Tensor, chunk: Chunk, read: bool, weights: Tensor | None, coefficients: np.ndarray, rows: Rows
) -> None:
    from numbactc.kernels.cpu import head

    count, classes_in_row = logits.shape
    storage, _ = flat_view(logits)
    factors = np.empty(0, rows.row_stats.dtype) if weights is None else weights.numpy()
    pieces = min(count, PIECES_PER_THREAD * torch.get_num_threads())
    ends = [count * piece // max(1, pieces) for piece in range(pieces + 1)]

    def run(some: np.ndarray) -> None:
        for piece in some.tolist():
            head.read_chunk(
                storage, classes_in_row, chunk.utterances, chunk.frames, read, ends[piece], ends[piece + 1], factors,
                coefficients, *rows,
            )  # fmt: skip

    _threads.share(run, pieces, lambda: np.full(pieces, count // pieces * classes_in_row))


def add_sparse(
    hidden: Tensor, weight: Tensor, saved: Saved, weights: Tensor, scale: Tensor, dense: list[Tensor | None]
) -> None:
    """From the dense parts of gradients to the whole ones, in place.

    Args:
        hidden: (T, N, H). weight: (C, H).
        weights: (N,) of which the dense parts are; scale: what all is to be multiplied by.
        dense: of hidden (T, N, H), weight (C, H) and bias (C,), each only if it is wanted.
    """
    of_hidden, of_weight, of_bias = dense
    factor = scale.item()
    for total in (of_weight, of_bias):
        if total is not None and factor != 1:
            total.mul_(factor)
    factors = weights * scale
    lengths, class_counts = saved.input_lengths.tolist(), saved.class_counts.tolist()
    for n, loss in enumerate(saved.losses.tolist()):
        frames, count = lengths[n], class_counts[n]
        if loss != loss:
            for total in (None if of_hidden is None else of_hidden[:frames, n], of_weight, of_bias):
                if total is not None:
                    total.fill_(torch.nan)
        elif saved.has_path[n]:
            classes = saved.classes[n, :count]
            part = saved.coefficients[n, :frames, :count] * factors[n]
            if of_hidden is not None:
                of_hidden[:frames, n].addmm_(part, weight[classes].to(part.dtype), beta=factor)
            if of_weight is not None:
                of_weight.index_add_(0, classes, part.t() @ hidden[:frames, n].to(part.dtype))
            if of_bias is not None:
                of_bias.index_add_(0, classes, part.sum(0))


def fake_saved(hidden: Tensor, targets: Tensor, unbatched: bool, real: torch.dtype) -> list[Tensor]:
    """What `Batch.finish` saves without values, for torch.compile; the number of classes follows from the labels."""
    T, N, _ = hidden.shape
    columns = torch.library.get_ctx().new_dynamic_size()
    counts = hidden.new_empty(N, dtype=torch.int64)
    return list(
        Saved(
            losses=hidden.new_empty(N, dtype=torch.float64),
            input_lengths=counts,
            row_stats=hidden.new_empty(N, 2, T, dtype=real),
            class_counts=counts.new_empty(N),
            classes=counts.new_empty(N, columns),
            coefficients=hidden.new_empty(N, T, columns, dtype=real),
            has_path=hidden.new_empty(N, dtype=torch.bool),
        )
    )

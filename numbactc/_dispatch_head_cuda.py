"""What `_dispatch_head.py` does, on a GPU: rows in PyTorch's own operations, the recursion by the kernels of the loss.

Of each row the log-probabilities of its target's classes are kept, one column for the blank and one for each label;
they are a small problem of their own, with as few classes, for `_devices`. Nothing here waits for the GPU, but for what
`Batch` and `fits_less_than_thought` say.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from numbactc import _devices

KNOWS_LENGTHS = False
"""As in `_dispatch_head`: chunks are of all rows."""

IMPOSSIBLE = -(2.0**24) * math.log(2.0)
"""Log-probabilities below it count as -inf, as in the kernels: a mask of -1e9 is one."""


class Chunk(NamedTuple):
    """Some rows, those beyond an utterance's length among them."""

    size: int
    """R"""
    places: slice
    """Where they are among the T * N rows, in the order of memory."""
    utterances: Tensor
    """(R,)"""
    frames: Tensor
    absent: Tensor
    """(R,) True beyond an utterance's length."""


class Saved(NamedTuple):
    """What is known of a batch when its rows have been read."""

    losses: Tensor
    has_path: Tensor
    """(N,) also True where NaN hides whether there is one."""
    is_bad: Tensor
    """(N,) lengths or labels are out of range."""
    input_lengths: Tensor
    """(N,) 0 where they are bad."""
    log_sums: Tensor
    """(T, N)"""
    classes: Tensor
    """(N, K) of each column; a label's again where it comes again."""
    coefficients: Tensor
    """(T, N, K) d loss / d logit of the classes of each target: softmax - posterior. 0 where a label comes again."""


class Batch:
    """As `_dispatch_head.Batch`. Concatenated targets are made padded ones, which waits for the longest length."""

    def __init__(self, problem: Any, frames: int, classes_in_row: int, real: torch.dtype, keep: bool) -> None:
        labels, input_lengths, target_lengths, self.blank = problem.targets
        self.keep = keep
        beyond = torch.zeros_like(target_lengths, dtype=torch.bool)
        if labels.dim() == 1:
            beyond = target_lengths.cumsum(0) > len(labels)
            labels = _padded(labels, target_lengths)
        S = labels.shape[1]
        there = torch.arange(S, device=labels.device) < target_lengths[:, None]
        wrong = there & ((labels < 0) | (labels >= classes_in_row) | (labels == self.blank))
        bad_lengths = (input_lengths < 0) | (input_lengths > frames) | (target_lengths < 0) | (target_lengths > S)
        self.is_bad = wrong.any(1) | bad_lengths | beyond
        self.input_lengths = input_lengths.long().masked_fill(self.is_bad, 0)
        self.target_lengths = target_lengths.long().masked_fill(self.is_bad, 0)
        labels = labels.long().masked_fill(~there | self.is_bad[:, None], self.blank)
        first = _first_places(labels)
        self.slots = first + 1
        self.classes = torch.cat([labels.new_full((len(labels), 1), self.blank), labels], 1)
        own = (labels != self.blank) & (first == torch.arange(S, device=labels.device))
        self.own = torch.cat([own.new_ones(len(own), 1), own], 1)
        """(N, K) columns that are not another's again."""
        repeats = ((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != self.blank)).sum(1)
        self.fits = (self.target_lengths + repeats <= self.input_lengths) & ~self.is_bad
        self.scores = labels.new_zeros((frames, *self.classes.shape), dtype=real)
        self.log_sums = labels.new_zeros((frames, len(labels)), dtype=real)

    def read(self, logits: Tensor, chunk: Chunk, weights: Tensor | None) -> None:
        """As there."""
        wide = logits.to(self.scores.dtype)
        log_sums = wide.logsumexp(1)
        log_sums = log_sums.masked_fill(log_sums == -torch.inf, 0.0)
        classes = self.classes[chunk.utterances]
        scores = wide.gather(1, classes) - log_sums[:, None]
        scores.masked_fill_(scores < IMPOSSIBLE, -torch.inf).masked_fill_(chunk.absent[:, None], 0.0)
        # one NaN or +inf makes all of the row's NaN, also where a target's classes are masked
        scores += (log_sums * 0.0).masked_fill(chunk.absent, 0.0)[:, None]
        self.scores[chunk.frames, chunk.utterances] = scores
        self.log_sums[chunk.frames, chunk.utterances] = log_sums
        if weights is not None:
            _to_dense(logits, wide, log_sums, classes, weights[chunk.utterances], chunk.absent)

    def finish(self) -> Saved:
        """As there."""
        arguments = self.slots, self.input_lengths, self.target_lengths
        problem = _devices.prepare(self.scores, *arguments, 0, normalise=False, unbatched=False, check=False)
        losses, saved = _devices.forward(self.scores, problem, self.keep)
        # a probability of the target of more than 1 is round-off; NaN stays
        losses = losses.clamp(min=0.0).masked_fill(self.is_bad, torch.nan)
        coefficients = self.scores
        if self.keep:
            minus_posteriors = _devices.backward(self.scores, torch.ones_like(losses), saved, problem)
            coefficients = self.scores.exp_().add_(minus_posteriors).masked_fill_(~self.own, 0.0)
        has_path = self.fits & (losses != torch.inf)
        return Saved(losses, has_path, self.is_bad, self.input_lengths, self.log_sums, self.classes, coefficients)

    def fits_less_than_thought(self, saved: Saved) -> bool:
        """As there; waits for the GPU, which cannot be done while a graph is captured: then yes, to be sure."""
        if self.fits.is_cuda and torch.cuda.is_current_stream_capturing():
            return True
        return bool((self.fits != saved.has_path).any())


def _padded(labels: Tensor, target_lengths: Tensor) -> Tensor:
    """Concatenated labels (M,) as (N, S)."""
    longest = max(0, min(int(target_lengths.max()), len(labels))) if len(target_lengths) else 0
    starts = target_lengths.cumsum(0) - target_lengths
    places = starts[:, None] + torch.arange(longest, device=labels.device)
    return labels[places.clamp(0, max(0, len(labels) - 1))]


def _first_places(labels: Tensor) -> Tensor:
    """(N, S) where each row's labels first stand."""
    ordered, order = labels.sort(dim=1, stable=True)
    places = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    begins = torch.ones_like(labels, dtype=torch.bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    begin = places.masked_fill(~begins, 0).cummax(1).values if labels.numel() else places
    return torch.empty_like(labels).scatter_(1, order, order.gather(1, begin))


def _to_dense(
    logits: Tensor, wide: Tensor, log_sums: Tensor, classes: Tensor, weights: Tensor, absent: Tensor
) -> None:
    """Logits become weights * softmax, and 0 at the classes of the row's target and in rows that are not there."""
    softmax = (wide.sub_(log_sums[:, None]) if wide is logits else wide - log_sums[:, None]).exp_()
    softmax.scatter_(1, classes, 0.0).mul_(weights[:, None]).masked_fill_((absent | (weights == 0))[:, None], 0.0)
    if softmax is not logits:
        logits.copy_(softmax)


def memory(weight: Tensor, rows: int) -> Tensor:
    """As `_dispatch_head.memory`."""
    return weight.new_empty(rows, len(weight))


def chunks(batch: Batch | Saved, chosen: Tensor, frames: int, time_inner: bool, rows: int) -> list[Chunk]:
    """All rows, at most so many at a time, in the order of memory: which are chosen is not known here."""
    N, device = len(chosen), chosen.device
    parts = -(-frames * N // rows)
    ends = [frames * N * part // max(1, parts) for part in range(parts + 1)]
    found = []
    for i, j in pairwise(ends):
        numbers, inner = torch.arange(i, j, device=device), frames if time_inner else N
        outer, within = numbers // inner, numbers % inner
        utterances, times = (outer, within) if time_inner else (within, outer)
        found.append(Chunk(j - i, slice(i, j), utterances, times, times >= batch.input_lengths[utterances]))
    return found


def take(rows: Tensor, chunk: Chunk) -> Tensor:
    """As `_dispatch_head.take`; 0 where there is none, for what lies there may be NaN."""
    return rows[chunk.places].masked_fill(chunk.absent[:, None], 0.0)


def read_again(logits: Tensor, chunk: Chunk, weights: Tensor, saved: Saved) -> None:
    """As `_dispatch_head.read_again`."""
    wide = logits.to(saved.log_sums.dtype)
    log_sums = saved.log_sums[chunk.frames, chunk.utterances]
    _to_dense(logits, wide, log_sums, saved.classes[chunk.utterances], weights[chunk.utterances], chunk.absent)


def add_sparse(
    hidden: Tensor, weight: Tensor, saved: Saved, weights: Tensor, scale: Tensor, dense: list[Tensor | None]
) -> None:
    """As `_dispatch_head.add_sparse`.

    A label that comes again adds exactly 0 to its class, so the order in which a GPU adds does not show.
    """
    of_hidden, of_weight, of_bias = dense
    is_nan = saved.losses.isnan() & ~saved.is_bad
    poison = is_nan.any().to(weights.dtype) * torch.nan
    poison = poison.masked_fill(~is_nan.any(), 0.0)
    for total in (of_weight, of_bias):
        if total is not None:
            total.mul_(scale).add_(poison)
    factors = weights * scale
    times = torch.arange(hidden.shape[0], device=hidden.device)
    for n in range(hidden.shape[1]):
        absent, classes = (times >= saved.input_lengths[n])[:, None], saved.classes[n]
        part = (saved.coefficients[:, n] * factors[n]).masked_fill(absent | ~saved.has_path[n], 0.0)
        if of_hidden is not None:
            of_hidden[:, n].mul_(scale).addmm_(part, weight[classes].to(part.dtype))
            of_hidden[:, n].masked_fill_(is_nan[n] & ~absent, torch.nan).masked_fill_(absent, 0.0)
        if of_weight is not None:
            of_weight.index_add_(0, classes, part.t() @ hidden[:, n].masked_fill(absent, 0.0).to(part.dtype))
        if of_bias is not None:
            of_bias.index_add_(0, classes, part.sum(0))


def fake_saved(hidden: Tensor, targets: Tensor, unbatched: bool, real: torch.dtype) -> list[Tensor]:
    """As `_dispatch_head.fake_saved`."""
    T, N, _ = hidden.shape
    concatenated = targets.dim() == 1 and not unbatched
    columns = torch.library.get_ctx().new_dynamic_size() if concatenated else targets.shape[-1] + 1
    flags, counts = hidden.new_empty(N, dtype=torch.bool), hidden.new_empty(N, dtype=torch.int64)
    return list(
        Saved(
            losses=hidden.new_empty(N, dtype=torch.float64),
            has_path=flags,
            is_bad=flags.new_empty(N),
            input_lengths=counts,
            log_sums=hidden.new_empty(T, N, dtype=real),
            classes=counts.new_empty(N, columns),
            coefficients=hidden.new_empty(T, N, columns, dtype=real),
        )
    )

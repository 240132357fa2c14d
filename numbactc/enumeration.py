"""Every path of a small problem with its probability: what CTC sums over, for lessons and as an oracle."""

import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from numbactc import _validation


class Path(NamedTuple):
    """One way through the frames."""

    classes: tuple[int, ...]
    """The class of each frame, T of them."""
    log_prob: float
    """The sum of the scores that it picks up: with log-probabilities, its own log-probability, in nats."""


def enumerate_alignments(
    log_probs: Tensor, target: Tensor | Sequence[int], blank: int = 0, *, limit: int = 100_000
) -> list[Path]:
    r"""Every path of T classes that becomes the target once runs are merged and blanks removed, best first.

    With L labels, R of which equal their predecessor, there are

        binomial(T + L - R, 2 L)

    such paths, and none where L + R > T. They are counted before one is made, for the number soon grows beyond measure:
    5 labels in 40 frames have 3,190,187,286. Of more than a handful of frames ask `numbactc.ctc_loss` for the sum and
    `numbactc.forced_align` for the best path.

    Args:
        log_probs: (T, C), float32, float64, bfloat16 or float16, on any device that numbactc knows: logarithms to base
            e, as from `log_softmax` over C. T frames, C classes. Any value from -inf up.
        target: (L,) labels from 0 to C - 1 without the blank: int32 or int64, or a list or tuple of integers.
        blank: the class that stands for no label, from 0 to C - 1.
        limit: the largest number of paths to return, at least 0.

    Returns:
        Paths by falling log-probability; equal ones in the order of their classes. Those of probability 0 are among
        them, with a log-probability of -inf. Sums are in float64, whatever the dtype. Empty where no path fits; a
        single path of blanks, or of no frame at all, for an empty target.

    Raises:
        TypeError: an argument of another type or dtype.
        ValueError: an argument of another shape or out of range, a score that is NaN or +inf, or more paths than
            `limit`; the message has their number.

    References:
        Graves, Fernandez, Gomez, Schmidhuber: Connectionist Temporal Classification. ICML 2006, section 3.1: the map B.

    Example:
        Graves' own: two frames, and blank is likelier than "a" in both. The best path spells nothing, and yet three
        paths spell "a", which together are likelier.

        >>> import math, torch, numbactc
        >>> log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
        >>> for path in numbactc.enumerate_alignments(log_probs, [1]):
        ...     print(path.classes, f"{math.exp(path.log_prob):.2f}")
        (0, 1) 0.24
        (1, 0) 0.24
        (1, 1) 0.16

        The sum over all paths is what the loss is the logarithm of:

        >>> paths = numbactc.enumerate_alignments(log_probs, [1])
        >>> total = sum(math.exp(path.log_prob) for path in paths)
        >>> loss = numbactc.ctc_loss(log_probs, torch.tensor([1]), [2], [1])
        >>> print(f"{total:.2f} {math.exp(-loss):.2f}")
        0.64 0.64
    """
    scores, labels, blank = _checked(log_probs, target, blank)
    limit = _validation.check_integer("limit", limit)
    if limit < 0:
        raise ValueError(f"limit must be at least 0, got {limit}")
    number = math.comb(_places(len(scores), labels), 2 * len(labels))
    if number > limit:
        written = str(number) if number < 10**15 else f"more than 10**{math.floor(math.log10(number))}"
        raise ValueError(
            f"log_probs and target must have at most {limit} alignments (limit), "
            f"got {written} of {len(labels)} labels in {len(scores)} frames"
        )
    paths = [Path(path, math.fsum(map(operator.getitem, scores, path))) for path in _paths(len(scores), labels, blank)]
    return sorted(paths, key=lambda path: (-path.log_prob, path.classes))


def _checked(
    log_probs: Tensor, target: Tensor | Sequence[int], blank: int
) -> tuple[list[list[float]], list[int], int]:
    """Scores, labels and blank as Python's own numbers."""
    _validation.check_scores("log_probs", log_probs)
    if log_probs.dim() != 2:
        raise ValueError(f"log_probs must have shape (T, C), got {tuple(log_probs.shape)}")
    if not isinstance(target, Tensor):
        target = torch.from_numpy(_validation.as_integers("target", target))
    target = _validation.check_targets_type(target, "target")
    if target.is_meta:
        raise ValueError("target must have values, got a tensor on meta")
    if target.dim() != 1:
        raise ValueError(f"target must have shape (L,), got {tuple(target.shape)}")
    # in the contract of the losses a target on another device than the scores is refused; here all goes to the host
    scores = log_probs.detach().to("cpu", torch.float64)
    checked = _validation.check_targets(
        scores.unsqueeze(1), target.cpu(), [len(scores)], [len(target)], blank, unbatched=True, name="target"
    )
    bad = (scores.isnan() | (scores == torch.inf)).nonzero()
    if len(bad):
        t, c = bad[0].tolist()
        raise ValueError(f"log_probs must not be NaN or +inf, got {scores[t, c].item()} in frame {t}, class {c}")
    return scores.tolist(), checked.labels.tolist(), checked.blank


def _places(frames: int, labels: list[int]) -> int:
    """T + L - R: how many places there are for the 2 L boundaries of labels."""
    return frames + len(labels) - sum(label == following for label, following in itertools.pairwise(labels))


def _paths(frames: int, labels: list[int], blank: int) -> Iterator[tuple[int, ...]]:
    """Choose where each label begins and ends; what lies between is blank.

    A label may begin in the frame where the one before it ends, unless both are equal: then a blank must part them.
    Moving all that follows such a meeting of unequal labels on by one makes the boundaries of every path strictly
    increasing, so that they are the combinations of 2 L places.
    """
    unequal = (label != following for label, following in itertools.pairwise(labels))
    shifts = list(itertools.accumulate(unequal, initial=0))[: len(labels)]
    for boundaries in itertools.combinations(range(_places(frames, labels)), 2 * len(labels)):
        path = [blank] * frames
        for label, shift, begin, end in zip(labels, shifts, boundaries[::2], boundaries[1::2], strict=True):
            path[begin - shift : end - shift] = [label] * (end - begin)
        yield tuple(path)

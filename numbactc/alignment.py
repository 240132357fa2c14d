"""Forced alignment: the single best path of each utterance's target, and where in time its tokens lie."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbactc import _dispatch_alignment, _validation
from numbactc._validation import Lengths, Targets
from numbactc.spans import TokenSpan


class Alignment(NamedTuple):
    """The best path of one utterance.

    Attributes:
        path: (T_n,) int64 on the CPU: the class of each of the utterance's frames, the blank among them. Equal
            neighbours merged and blanks removed, it is the target. Empty where there is no path.
        score: nats, the sum of the path's scores; -inf where no path fits, NaN where a score that counts is no number.
        spans: one for each label of the target, in its order; empty where there is no path.
    """

    path: Tensor
    score: float
    spans: list[TokenSpan]


def forced_align(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    *,
    batch_first: bool = False,
    frame_duration: float | None = None,
    wildcard: int | None = None,
    wildcard_cost: float = 0.001,
) -> list[Alignment]:
    r"""The most probable path of each utterance among those that become its target.

    For scores s (T, C) of one utterance and a target y of L labels, it is the sequence of T classes that

        maximises  sum over t of  s[t, path[t]]

    among those that become y once equal neighbours are merged and blanks removed: Viterbi's algorithm, exactly, for any
    scores. `numbactc.ctc_loss` adds up all these paths; its loss is at most minus the score of the best.

    Args:
        log_probs: (T, N, C), or (T, C) for a single utterance, float32, float64, bfloat16 or float16, on the CPU or an
            NVIDIA GPU, with any strides: logarithms to base e, as from `log_softmax` over C. Any numbers below +inf,
            -inf among them; they need not be normalised. T frames, N utterances, C classes.
        targets: (N, S) padded on the right with anything, or (sum(target_lengths),) concatenated, or (S,) for a single
            utterance; int32 or int64, on the device of the scores or the CPU. Labels from 0 to C - 1 without the blank,
            and the wildcard.
        input_lengths: (N,) frames of each utterance, from 0 to T: a list, tuple or tensor (int32, int64).
        target_lengths: (N,) labels of each utterance, from 0 to S, in the same forms.
        blank: the class that stands for no label, from 0 to C - 1.
        batch_first: log_probs is (N, T, C). Nothing is copied for it.
        frame_duration: seconds from a frame to the next, such as 0.02: spans then have times.
        wildcard: a number that is no class, such as -1, which stands in targets for text that is missing there.
        wildcard_cost: nats, at least 0, for each of a wildcard's frames.

    Returns:
        An `Alignment` for each utterance; for (T, C), a list of one.

    Raises:
        TypeError: an argument of another type or dtype.
        ValueError: an argument of another shape or out of range; the message names the utterance.
        NotImplementedError: scores on another device than a CPU or an NVIDIA GPU.

    Edge cases, each by utterance; neighbours never feel them:

        =============================================  ======================================================
        case                                           alignment
        =============================================  ======================================================
        empty target                                   blanks throughout (score 0 for no frames)
        labels, and more of them than fit: L + equal   score -inf, path and spans empty
        neighbours in the target > T
        no path has a probability, as where a frame    score -inf, path and spans empty
        is -inf throughout
        a score of -inf                                the class cannot occur there
        a score of NaN or +inf, of the blank or of a   score NaN, path and spans empty, whatever else holds
        class in the target; with a wildcard in the
        target, of any class
        a NaN in other classes, or beyond the length   not read
        N = 0                                          an empty list
        =============================================  ======================================================

    Ties are settled one way on every device. The path ends in its last label, not in the blank behind it, if both are
    as good; and followed back from there, frame by frame, it stays in its state where no other way to come there is
    better, else comes from the state before, else over a blank from the label before.

    A wildcard matches any stretch of one or more frames. In each it has the score of the frame's best class, blank or
    not, less `wildcard_cost`: it stands for whatever the model hears there. A score of 0 in each frame, that of a class
    of probability 1, would beat the labels beside it wherever the model is not quite sure, and leave them one frame
    each. As the best class it leaves to them what is theirs, and the cost is there so that it does so in a tie. A
    higher one keeps it from what labels explain nearly as well. In the path its frames have the wildcard's number. Two
    wildcards in a row are separated by a blank, as equal labels are.

    Notes:
        Sums are in float64 from the first frame on, whatever the dtype: a path over 200,000 frames is exact to some
        1e-8 nats, and of scores in half precision no digit is lost.

        No table of T * L is kept. On a CPU each thread takes a few megabytes and less than 300 bytes a frame, however
        many labels there are; `benchmarks/results/decode.md` has what was measured.

        On a GPU the scores stay there, and all utterances are done at once: targets go there in one copy, spans come
        back in one, and the call waits for them. Paths and scores are those of the CPU, bit for bit. It takes a twelfth
        of a byte a frame and label (40 MB for 60,000 frames and 8,000 labels) and, with a wildcard in a target, a
        copy of the scores in float64.

        The same input gives the same bits on every run, with any number of threads and in any batch. Utterances are
        shared among `torch.get_num_threads()` threads. Nothing is differentiable.

    References:
        Kürzinger, Winkelbauer, Li, Watzel, Rigoll: CTC-Segmentation of Large Corpora for German End-to-End Speech
        Recognition. SPECOM 2020. For the wildcard, Pratap et al.: Scaling Speech Technology to 1,000+ Languages. JMLR
        2024.

    Example:
        Four frames of three classes; the best path of [1, 2] has label 2 twice.

        >>> import torch, numbactc
        >>> probs = torch.tensor([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.3, 0.1, 0.6], [0.4, 0.1, 0.5]])
        >>> [alignment] = numbactc.forced_align(probs.log(), torch.tensor([1, 2]), [4], [2], frame_duration=0.02)
        >>> alignment.path
        tensor([1, 0, 2, 2])
        >>> print(f"{alignment.score:.4f}")  # log(0.8 * 0.8 * 0.6 * 0.5)
        -1.6503
        >>> span = alignment.spans[1]
        >>> print(span.token, span.start, span.end, f"{span.confidence:.3f} {span.start_time} {span.end_time}")
        2 2 4 0.548 0.04 0.08
    """
    scores = _validation.as_batch("log_probs", log_probs, batch_first)
    wildcard = _validation.check_wildcard(wildcard, scores.shape[2])
    wildcard_cost = _validation.check_number("wildcard_cost", wildcard_cost, "at least 0")
    if frame_duration is not None:
        frame_duration = _validation.check_number("frame_duration", frame_duration, "positive")
    checked = _validation.check_targets(
        scores, targets, input_lengths, target_lengths, blank, log_probs.dim() == 2, scores.is_cuda, wildcard
    )
    found = _dispatch_alignment.align(scores, checked, wildcard_cost)
    tokens = checked.labels
    if wildcard is not None:
        tokens = np.where(tokens == scores.shape[2], wildcard, tokens)
    return [_alignment(found, n, checked, tokens, frame_duration) for n in range(scores.shape[1])]


def _alignment(
    found: _dispatch_alignment.BestPaths, n: int, targets: Targets, tokens: np.ndarray, frame_duration: float | None
) -> Alignment:
    """The path and spans of utterance n, whose tokens stand where its labels do."""
    score = float(found.scores[n])
    if not np.isfinite(score):
        return Alignment(torch.empty(0, dtype=torch.int64), score, [])
    frames, start, count = int(targets.input_lengths[n]), int(targets.starts[n]), int(targets.target_lengths[n])
    tokens, edges = tokens[start : start + count], found.spans[start : start + count]
    # blank, label, blank, ..., label, blank, each as often as it has frames
    classes = np.full(2 * count + 1, targets.blank, np.int64)
    classes[1::2] = tokens
    durations = np.diff(edges.reshape(-1), prepend=0, append=frames)
    path = torch.from_numpy(np.repeat(classes, durations))
    with np.errstate(over="ignore"):  # of scores that are no log-probabilities
        confidences = np.exp(found.log_means[start : start + count])
    columns = [tokens, edges[:, 0], edges[:, 1], confidences]
    if frame_duration is not None:
        columns += [edges[:, 0] * frame_duration, edges[:, 1] * frame_duration]
    return Alignment(path, score, list(map(TokenSpan, *(column.tolist() for column in columns))))

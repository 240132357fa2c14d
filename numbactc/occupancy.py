"""Posteriors: how probable each state of a target, and each class, is in each frame, given the target."""

from typing import NamedTuple

import torch
from torch import Tensor

from numbactc import _devices, _dispatch_alignment, _validation
from numbactc._validation import Lengths


class Posteriors(NamedTuple):
    """Probabilities given the target, float64 for float64 scores and float32 otherwise, on the device of the scores.

    Attributes:
        states: (T, N, 2 S + 1), S the longest target: of the blank before the first label, the first label, the blank
            behind it, and so on to the blank behind the last.
        classes: (T, N, C): of each class, the sum of its states: minus the gradient of `numbactc.ctc_loss`.
    """

    states: Tensor
    classes: Tensor


def posteriors(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    *,
    batch_first: bool = False,
) -> Posteriors:
    r"""The probability of each state of the target, and of each class, in each frame, given the target.

    For one utterance with scores s (T, C) and a target y of L labels, a path that becomes y is at each frame in one of
    2 L + 1 states: label j, or the blank before, between or behind labels. With a path's weight exp(sum of its scores),

        states[t, k]   =  sum of the weights of the paths that are in state k at t  /  sum of all weights
        classes[t, c]  =  the same for the paths that have class c at t  =  sum of states[t, k] over the states of c

    Alpha times beta over the target's probability, in the literature's words: what training pulls the model towards.

    Args:
        log_probs: (T, N, C), or (T, C) for a single utterance, float32, float64, bfloat16 or float16, on the CPU or an
            NVIDIA GPU, with any strides: logarithms to base e, as from `log_softmax` over C; they need not be
            normalised. T frames, N utterances, C classes.
        targets: (N, S) padded on the right with anything, or (sum(target_lengths),) concatenated, or (S,) for a single
            utterance; int32 or int64, on the device of the scores or the CPU. Labels from 0 to C - 1 without the blank.
        input_lengths: (N,) frames of each utterance, from 0 to T: a list, tuple or tensor (int32, int64).
        target_lengths: (N,) labels of each utterance, from 0 to S, in the same forms.
        blank: the class that stands for no label, from 0 to C - 1.
        batch_first: log_probs is (N, T, C). Nothing is copied for it.

    Returns:
        `Posteriors`, with dimensions in the order of log_probs: states (T, N, 2 S + 1), or (N, T, 2 S + 1) with
        batch_first, or (T, 2 S + 1) for (T, C), and classes in the shape of log_probs. In each of an utterance's frames
        both sum to 1 over the last dimension. They carry no gradient.

    Raises:
        As `numbactc.ctc_loss`, on both devices at once.

    Edge cases, each by utterance; neighbours never feel them:

        =============================================  ==========================
        case                                           states and classes
        =============================================  ==========================
        empty target                                   1 for the blank
        no path fits, or none has a probability        0 throughout
        a score of -inf, or 2**24 bits (1.2e7 nats)    0 there
        below the target's best score in its frame
        a score of NaN or +inf                         NaN up to the length
        frames beyond the length, states beyond the    0
        target
        =============================================  ==========================

    Notes:
        Scores in half precision are widened to float32 first. Arithmetic is in float64 with exponents apart: any number
        of frames, and probabilities of any size. Beside the results a call takes about 64 * sqrt(T) * S bytes a thread.
        Scores on a GPU are copied to the host for the states; classes are computed where they are.

        The same input gives the same bits on every run, with any number of threads and in any batch.

    References:
        Graves, Fernandez, Gomez, Schmidhuber: Connectionist Temporal Classification. ICML 2006, section 4.1.

    Example:
        Two frames, three classes, all equally likely. Three of nine paths become [1]: (1, 1), (0, 1), (1, 0).

        >>> import torch, numbactc
        >>> log_probs = torch.zeros(2, 3).log_softmax(-1)
        >>> states, classes = numbactc.posteriors(log_probs, torch.tensor([1]), [2], [1])
        >>> print(states)
        tensor([[0.3333, 0.6667, 0.0000],
                [0.0000, 0.6667, 0.3333]])
        >>> print(classes)
        tensor([[0.3333, 0.6667, 0.0000],
                [0.3333, 0.6667, 0.0000]])
    """
    scores = _validation.as_batch("log_probs", log_probs, batch_first).detach()
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    rest = targets, input_lengths, target_lengths, blank
    unbatched = log_probs.dim() == 2
    problem = _devices.prepare(scores, *rest, normalise=False, unbatched=unbatched, check=True)
    losses, saved = _devices.forward(scores, problem, keep=True)
    # the loss's derivative by a score is minus the class's posterior
    classes = _devices.backward(scores, -torch.ones_like(losses), saved, problem)
    checked = _validation.check_targets(scores, *rest, unbatched, scores.is_cuda)
    states = _dispatch_alignment.occupancies(scores, checked, losses)
    if unbatched:
        return Posteriors(states.squeeze(1), classes.squeeze(1))
    return Posteriors(states.transpose(0, 1), classes.transpose(0, 1)) if batch_first else Posteriors(states, classes)

"""Three slow answers to one question: what CTC loss does an utterance have, and how likely is each class on each frame?

    enumeration     every path of T frames, kept when it collapses to the target
    recursion       alpha and beta in float64 log-space, one line per rule
    torch_float64   PyTorch's own loss in float64

Each takes scores (T, C) in nats, normalised or not, and a target of L labels. None of them imports numbactc.
T frames, N utterances, C classes, L labels.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


class Answer(NamedTuple):
    loss: float
    posteriors: Array
    """(T, C): how much of the target's probability passes through each class on each frame; zero where no path fits."""


Oracle = Callable[[Array, Sequence[int], int], Answer]


def collapse(path: Sequence[int], blank: int) -> list[int]:
    """Merge runs, then drop blanks: the target that a path spells."""
    return [label for label, _ in itertools.groupby(path) if label != blank]


def enumeration(scores: Array, target: Sequence[int], blank: int) -> Answer:
    """Add up exp(score) over all C**T paths: trusted because it has no recursion; small T only."""
    T, C = scores.shape
    probability = 0.0
    posteriors = np.zeros((T, C))
    for path in itertools.product(range(C), repeat=T):
        if collapse(path, blank) == list(target):
            weight = math.exp(sum(scores[t, label] for t, label in enumerate(path)))
            probability += weight
            posteriors[range(T), path] += weight
    if probability == 0.0:
        return Answer(math.inf, np.zeros((T, C)))
    return Answer(-math.log(probability), posteriors / probability)


def recursion(scores: Array, target: Sequence[int], blank: int) -> Answer:
    """Graves et al. 2006, section 4.1, in log-space; beta leaves its own frame's score out, so none is subtracted."""
    T, C = scores.shape
    states = [blank]
    for label in target:
        states += [label, blank]
    S = len(states)
    if T == 0:
        return Answer(0.0 if S == 1 else math.inf, np.zeros((0, C)))
    emissions = scores[:, states]
    may_skip = np.array([s >= 2 and states[s] != blank and states[s] != states[s - 2] for s in range(S)])

    alpha = np.full((T, S), -np.inf)
    alpha[0, :2] = emissions[0, :2]
    for t in range(1, T):
        stay = alpha[t - 1]
        step = _shift(stay, 1)
        skip = np.where(may_skip, _shift(stay, 2), -np.inf)
        alpha[t] = emissions[t] + np.logaddexp(np.logaddexp(stay, step), skip)

    beta = np.full((T, S), -np.inf)
    beta[T - 1, -2:] = 0.0
    for t in reversed(range(T - 1)):
        stay = emissions[t + 1] + beta[t + 1]
        step = _shift(stay, -1)
        skip = _shift(np.where(may_skip, stay, -np.inf), -2)
        beta[t] = np.logaddexp(np.logaddexp(stay, step), skip)

    log_probability = float(np.logaddexp.reduce(alpha[T - 1, -2:]))
    posteriors = np.zeros((T, C))
    if log_probability == -math.inf:
        return Answer(math.inf, posteriors)
    for s, label in enumerate(states):
        posteriors[:, label] += np.exp(alpha[:, s] + beta[:, s] - log_probability)
    return Answer(-log_probability, posteriors)


def _shift(row: Array, by: int) -> Array:
    """Move a row of log-weights by some states; zero probability comes in at the end."""
    shifted = np.full_like(row, -np.inf)
    if by > 0:
        shifted[by:] = row[:-by]
    else:
        shifted[:by] = row[-by:]
    return shifted


def torch_float64(scores: Array, target: Sequence[int], blank: int) -> Answer:
    """PyTorch's gradient is softmax minus posterior once log_softmax is in the graph. Finite scores only."""
    T, C = scores.shape
    logits = torch.tensor(scores, dtype=torch.float64).unsqueeze(1).requires_grad_()
    log_probs = logits.log_softmax(-1)
    loss = torch.nn.functional.ctc_loss(
        log_probs,
        torch.tensor([list(target)], dtype=torch.int64),
        torch.tensor([T]),
        torch.tensor([len(target)]),
        blank,
        "sum",
    )
    if math.isinf(loss.item()):
        return Answer(math.inf, np.zeros((T, C)))
    (gradient,) = torch.autograd.grad(loss, logits)
    softmax = log_probs.detach().exp()
    normaliser = float(logits.detach().logsumexp(-1).sum())
    return Answer(loss.item() - normaliser, (softmax - gradient).squeeze(1).numpy())


def best_path(scores: Array, target: Sequence[int], blank: int) -> float:
    """Cost in nats of the cheapest single path: an upper bound of the loss. By enumeration of nothing: Viterbi."""
    T = len(scores)
    states = [blank]
    for label in target:
        states += [label, blank]
    S = len(states)
    if T == 0:
        return 0.0 if S == 1 else math.inf
    best = [scores[0, states[s]] if s < 2 else -math.inf for s in range(S)]
    for t in range(1, T):
        before = best
        best = []
        for s in range(S):
            sources = [before[s]] + ([before[s - 1]] if s >= 1 else [])
            if s >= 2 and states[s] != blank and states[s] != states[s - 2]:
                sources.append(before[s - 2])
            best.append(max(sources) + scores[t, states[s]])
    return -float(max(best[-2:]))


def normalised(frames: Tensor) -> Tensor:
    """log_softmax of each row, which stays -inf where all of it is: such a frame lets no path through."""
    return frames.log_softmax(-1).masked_fill(frames == -math.inf, -math.inf)


def expected(
    scores: Tensor,
    targets: Sequence[Sequence[int]],
    input_lengths: Sequence[int],
    blank: int = 0,
    *,
    with_logits: bool,
    oracle: Oracle = recursion,
) -> tuple[Tensor, Tensor]:
    """Losses (N,) and the gradient (T, N, C) of their sum, in float64, of `ctc_loss` or of `ctc_loss_with_logits`."""
    N = scores.shape[1]
    losses = torch.zeros(N, dtype=torch.float64)
    gradient = torch.zeros(scores.shape, dtype=torch.float64)
    for n in range(N):
        frames = scores[: input_lengths[n], n].detach().to(torch.float64)
        if with_logits:
            frames = normalised(frames)
        answer = oracle(frames.numpy(), targets[n], blank)
        losses[n] = answer.loss
        if math.isfinite(answer.loss):
            softmax = frames.exp() if with_logits else torch.zeros_like(frames)
            gradient[: input_lengths[n], n] = softmax - torch.from_numpy(answer.posteriors)
    return losses, gradient

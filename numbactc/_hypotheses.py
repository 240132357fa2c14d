"""What beam search returns: texts with their tokens, times and scores."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbactc import _devices
from numbactc._dispatch_beam import Found
from numbactc._validation_decoding import Utterances


class Hypothesis(NamedTuple):
    """One of an utterance's likely texts.

    Attributes:
        tokens: (L,) int64, on the CPU.
        times: (L,) int64: the frame in which each token begins, on the best path that the beam has kept.
        score: what texts are ranked by: the log-probability that the beam has found, in nats, or `log_prob` if they
            were rescored, plus what a language model and other extras add.
        log_prob: the exact log-probability of the tokens, all alignments, whatever the beam has lost; without extras.
        lm_score: log-probability that the language model gives the tokens, in nats, unweighted; 0.0 without one.
    """

    tokens: Tensor
    times: Tensor
    score: float
    log_prob: float
    lm_score: float


def of(
    found: list[Found], utterances: Utterances, n_best: int, rescore: bool, exact: bool = True
) -> list[list[Hypothesis]]:
    """The n_best of what was found, with exact log-probabilities, or NaN in their place."""
    found = [_at_least_one(some) for some in found]
    log_probs = _log_probs(found, utterances) if exact else [np.full(some.scores.size, math.nan) for some in found]
    hypotheses = [_hypotheses_of(some, exact, rescore) for some, exact in zip(found, log_probs, strict=True)]
    if rescore:
        hypotheses = [sorted(some, key=lambda hypothesis: -hypothesis.score) for some in hypotheses]
    return [some[:n_best] for some in hypotheses]


def _at_least_one(found: Found) -> Found:
    """The empty text, if there is none with a probability."""
    if found.scores.size:
        return found
    score = -math.inf if found.is_number else math.nan
    return found._replace(
        scores=np.array([score]), lm_scores=np.zeros(1), log_probs=np.array([score]), lengths=np.zeros(1, np.int64)
    )


def _log_probs(found: list[Found], utterances: Utterances) -> list[np.ndarray]:
    """The exact log-probability of each text: one loss for the batch, or one for each utterance that has several."""
    scores, lengths, blank = utterances
    if all(some.scores.size == 1 for some in found):
        tokens = np.concatenate([np.zeros(0, np.int64), *(some.tokens for some in found)])
        counts = [int(some.lengths[0]) for some in found]
        return list(np.split(_log_prob(scores, tokens, lengths.tolist(), counts, blank), len(found))) if found else []
    results = []
    for n, some in enumerate(found):
        # the same scores for every text: a stride of 0, no copy
        repeated = scores[:, n : n + 1].expand(-1, some.scores.size, -1)
        frames = [int(lengths[n])] * some.scores.size
        results.append(_log_prob(repeated, some.tokens, frames, some.lengths.tolist(), blank))
    return results


def _log_prob(scores: Tensor, tokens: np.ndarray, frames: list[int], counts: list[int], blank: int) -> np.ndarray:
    """Nats, in float64, for utterances (T, N, C) and as many texts, which are concatenated."""
    problem = _devices.prepare(scores, torch.from_numpy(tokens), frames, counts, blank, False, False, True)
    losses, _ = _devices.forward(scores, problem, keep=False)
    return 0.0 - losses.numpy()


def _hypotheses_of(found: Found, log_probs: np.ndarray, rescore: bool) -> list[Hypothesis]:
    lost = np.zeros_like(log_probs)
    if rescore:
        np.subtract(log_probs, found.log_probs, out=lost, where=np.isfinite(found.log_probs))
    ends = np.cumsum(found.lengths)[:-1]
    texts = zip(np.split(found.tokens, ends), np.split(found.times, ends), strict=True)
    return [
        Hypothesis(torch.from_numpy(tokens), torch.from_numpy(times), float(score), float(exact), float(lm_score))
        for (tokens, times), score, exact, lm_score in zip(
            texts, found.scores + lost, log_probs, found.lm_scores, strict=True
        )
    ]

"""A case is called, and whatever comes of it is held against what the documentation says."""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import numbactc
from batches import same_bits
from fuzz import truth
from fuzz.cases import LOSSES, Case, paths_of
from oracles import collapse
from paths import viterbi

REFUSALS = (TypeError, ValueError, NotImplementedError)


def check(case: Case) -> str:
    """What came of it: 'right' or 'refused'. Anything else is an exception."""
    before = [(tensor, _copied(tensor)) for tensor in case.arguments.values() if _has_numbers(tensor)]
    try:
        result = case.call()
    except REFUSALS as error:
        assert case.wrong, f"{case.function} refused what it must take: {error}"
        told = re.match(rf"({'|'.join(sorted(case.wrong))})\b", str(error))
        assert told, f"{error!r} names none of {sorted(case.wrong)}"
        return "refused"
    assert not case.wrong, f"{case.function} took {sorted(case.wrong)} and gave {result}"
    CHECKS[case.function](case, result)
    for tensor, copy in before:
        assert same_bits(_copied(tensor), copy), "an argument was changed"
    return "right"


def _has_numbers(argument: object) -> bool:
    return isinstance(argument, Tensor) and argument.layout == torch.strided and argument.device.type == "cpu"


def _copied(tensor: Tensor) -> Tensor:
    """Its numbers in memory of their own, one after the other."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


def _frames_first(case: Case, tensor: Tensor) -> Tensor:
    """(T, N, ...) of what has the dimensions of the first argument."""
    if case.layout == "unbatched":
        return tensor.unsqueeze(1)
    return tensor.transpose(0, 1) if case.layout == "batch_first" else tensor


def _assert_near(found: Tensor, expected: Tensor, relative: float, absolute: float) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=relative, atol=absolute, equal_nan=True)


def _precision(dtype: torch.dtype) -> tuple[float, float]:
    """Of gradients: relative and absolute; half precision rounds what is right in float32."""
    if dtype == torch.float64:
        return 0.0, 1e-12
    return (0.0, 3e-6) if dtype == torch.float32 else (torch.finfo(dtype).eps, 4e-6)


def check_loss(case: Case, result: Tensor) -> None:
    """Value and gradient, the same in a second call, and the bits of an utterance alone."""
    with_logits = case.function == "ctc_loss_with_logits"
    reduction = case.arguments.get("reduction", "mean")
    losses = truth.losses(case.scores, case.labels, case.lengths, case.blank, with_logits)
    expected = truth.reduced(losses.values, case.labels, reduction, case.arguments.get("zero_infinity", False))
    _assert_value(case, result, expected.result, losses.error)
    leaf, again = _with_gradient(case)
    assert same_bits(_copied(result), _copied(again))
    (gradient,) = torch.autograd.grad(again.sum(), leaf)
    found = _frames_first(case, gradient)
    slope = torch.where(expected.slopes[:, None] == 0, 0.0, losses.gradient * expected.slopes[:, None])
    relative, bound = _precision(leaf.dtype)
    _assert_near(found, slope, relative, bound + losses.error)
    assert not found[(slope == 0) & (case.scores.isneginf() | _beyond(case))].any(), "not exactly 0"
    if case.layout == "frames_first" and reduction == "none":
        for n in range(len(case.lengths)):
            _assert_same_alone(case, n, result, found)


def _with_gradient(case: Case) -> tuple[Tensor, Tensor]:
    leaf = case.arguments[case.first].detach().requires_grad_()
    return leaf, case.call(**{case.first: leaf})


def _assert_value(case: Case, result: Tensor, expected: Tensor, error: float) -> None:
    real = torch.float64 if case.scores.dtype == torch.float64 else torch.float32
    assert result.dtype == real
    if case.layout == "unbatched":
        expected = expected.reshape(())
    relative, floor = (1e-12, 1e-12) if real == torch.float64 else (1e-7, 1e-6)
    _assert_near(result, expected.to(real).double(), relative, floor + len(case.lengths) * error)


def _beyond(case: Case) -> Tensor:
    """(T, N, 1)"""
    frames = torch.arange(len(case.scores))[:, None, None]
    return frames >= torch.tensor(case.lengths, dtype=torch.int64)[None, :, None]


def _assert_same_alone(case: Case, n: int, result: Tensor, gradient: Tensor) -> None:
    leaf = case.scores[: case.lengths[n], n : n + 1].clone().requires_grad_()
    targets = torch.tensor([case.labels[n]], dtype=torch.int64)
    options = {name: case.arguments[name] for name in ("zero_infinity",) if name in case.arguments}
    alone = getattr(numbactc, case.function)(
        leaf, targets, [case.lengths[n]], [len(case.labels[n])], case.blank, "none", **options
    )
    assert same_bits(_copied(alone), _copied(result[n : n + 1]))
    (slope,) = torch.autograd.grad(alone.sum(), leaf)
    assert same_bits(_copied(slope[:, 0]), _copied(gradient[: case.lengths[n], n]))


def check_linear(case: Case, result: Tensor) -> None:
    """Values of the logits' loss; gradients in float32 and float64, for a product in half precision has few digits."""
    hidden, weight, bias = case.scores, case.arguments["weight"], case.arguments["bias"]
    logits = torch.nn.functional.linear(hidden.double(), weight.double(), None if bias is None else bias.double())
    losses = truth.losses(logits, case.labels, case.lengths, case.blank, True)
    reduction = case.arguments.get("reduction", "mean")
    expected = truth.reduced(losses.values, case.labels, reduction, case.arguments.get("zero_infinity", False))
    assert torch.equal(result.double().reshape(-1).isnan(), expected.result.reshape(-1).isnan())
    if hidden.dtype in (torch.bfloat16, torch.float16):
        return
    relative = 1e-10 if hidden.dtype == torch.float64 else 1e-5
    _assert_near(result.reshape(-1), expected.result.reshape(-1), relative, 10 * relative)
    given, again = _with_gradient(case)
    (found,) = torch.autograd.grad(again.sum(), given)
    slope = torch.where(expected.slopes[:, None] == 0, 0.0, losses.gradient * expected.slopes[:, None])
    truly = torch.einsum("tnc,ch->tnh", slope, weight.double())
    truly = truly.masked_fill(~_beyond(case) & losses.values.isnan()[:, None], math.nan)
    _assert_near(_frames_first(case, found), truly.masked_fill(_beyond(case), 0.0), relative, 10 * relative)


def check_alignment(case: Case, result: list[numbactc.Alignment]) -> None:
    assert len(result) == len(case.lengths)
    wildcard, cost = case.arguments.get("wildcard"), float(case.arguments.get("wildcard_cost", 0.001))
    for n, (alignment, labels, length) in enumerate(zip(result, case.labels, case.lengths, strict=True)):
        scores = case.scores[:length, n].double().numpy()
        numbers = scores if wildcard in labels else scores[:, sorted({case.blank, *labels})]
        C = case.scores.shape[2]
        extended = np.concatenate([scores, scores.max(1, initial=-math.inf)[:, None] - cost], 1)
        target = [C if label == wildcard else label for label in labels]
        if np.isnan(numbers).any() or (numbers == math.inf).any():
            assert math.isnan(alignment.score) and not len(alignment.path) and not alignment.spans
            continue
        best = viterbi(extended, target, case.blank)
        assert alignment.score == best.score, (alignment.score, best.score)
        if best.score == -math.inf:
            assert not len(alignment.path) and not alignment.spans
            continue
        path = [wildcard if c == C else c for c in best.path]
        assert alignment.path.tolist() == path
        _assert_spans(case, alignment, path, labels)


def _assert_spans(case: Case, alignment: numbactc.Alignment, path: list[Any], labels: list[int]) -> None:
    duration = case.arguments.get("frame_duration")
    runs = [(label, len(list(run))) for label, run in itertools.groupby(path)]
    ends = list(itertools.accumulate(count for _, count in runs))
    expected = [(c, end - count, end) for (c, count), end in zip(runs, ends, strict=True) if c != case.blank]
    assert [(span.token, span.start, span.end) for span in alignment.spans] == expected
    assert [span.token for span in alignment.spans] == labels
    for span in alignment.spans:
        times = (None, None) if duration is None else (span.start * float(duration), span.end * float(duration))
        assert (span.start_time, span.end_time) == times
        assert span.confidence >= 0.0


def check_posteriors(case: Case, result: numbactc.Posteriors) -> None:
    losses = truth.losses(case.scores, case.labels, case.lengths, case.blank, False)
    bound = losses.error + (1e-12 if case.scores.dtype == torch.float64 else 3e-6)
    states, classes = (_frames_first(case, found) for found in result)
    _assert_near(classes, -losses.gradient, 0.0, bound)
    summed = torch.zeros_like(losses.gradient)
    for n, labels in enumerate(case.labels):
        column = [case.blank, *(c for label in labels for c in (label, case.blank))]
        unused = states[: case.lengths[n], n, len(column) :]
        assert not unused.any() or losses.values[n].isnan()
        summed[:, n].index_add_(1, torch.tensor(column), states[:, n, : len(column)].double())
    nan = losses.gradient.isnan()
    _assert_near(summed.masked_fill(nan, math.nan), -losses.gradient, 0.0, bound)
    assert states[~nan.any(-1)].isfinite().all()


def check_greedy(case: Case, result: list[numbactc.BestPath]) -> None:
    assert len(result) == len(case.lengths)
    for n, (found, length) in enumerate(zip(result, case.lengths, strict=True)):
        scores = case.scores[:length, n].double().numpy()
        best = [int(row.argmax()) for row in scores]
        not_numbers = np.isnan(scores).any() or (scores == math.inf).any()
        score = math.nan if not_numbers else math.fsum(row[c] for row, c in zip(scores, best, strict=True))
        if not math.isfinite(score):
            best = []
        assert found.score == score or math.isclose(found.score, score, rel_tol=1e-12) or (
            math.isnan(found.score) and math.isnan(score)
        )
        assert found.tokens.tolist() == collapse(best, case.blank)
        begins = [t for t, c in enumerate(best) if c != case.blank and (t == 0 or best[t - 1] != c)]
        assert found.times.tolist() == begins


def check_beams(case: Case, result: list[list[numbactc.Hypothesis]]) -> None:
    """Sound hypotheses in order; exact log-probabilities where scores are within what a search tells apart."""
    assert len(result) == len(case.lengths)
    rescored = case.arguments.get("rescore", True)
    for n, (hypotheses, length) in enumerate(zip(result, case.lengths, strict=True)):
        scores = case.scores[:length, n].double()
        assert 1 <= len(hypotheses) <= case.arguments.get("n_best", 1)
        numbers = bool((scores.isnan() | (scores == math.inf)).any())
        assert numbers == math.isnan(hypotheses[0].score)
        _assert_sound(case, hypotheses, length)
        finite = scores[scores.isfinite()]
        if numbers or (finite.numel() and finite.max() - finite.min() > 100.0):
            continue
        for hypothesis in hypotheses:
            exact = -truth.loss(scores, hypothesis.tokens.tolist(), case.blank, with_logits=False).value
            assert hypothesis.log_prob == exact or math.isclose(
                hypothesis.log_prob, exact, rel_tol=1e-9, abs_tol=1e-9 * (1 + finite.abs().sum().item())
            ), (hypothesis, exact, rescored)


def _assert_sound(case: Case, hypotheses: Sequence[numbactc.Hypothesis], length: int) -> None:
    scores = [hypothesis.score for hypothesis in hypotheses]
    assert scores == sorted(scores, reverse=True) or len(scores) == 1
    texts = [tuple(hypothesis.tokens.tolist()) for hypothesis in hypotheses]
    assert len(set(texts)) == len(texts)
    for hypothesis, text in zip(hypotheses, texts, strict=True):
        times = hypothesis.times.tolist()
        assert len(times) == len(text) <= length
        assert all(a < b for a, b in itertools.pairwise([-1, *times, length]))
        assert all(0 <= token < case.scores.shape[2] and token != case.blank for token in text)


def check_enumeration(case: Case, result: list[Any]) -> None:
    (labels,) = case.labels
    paths = [path.classes for path in result]
    assert len(set(paths)) == len(paths)
    assert all(collapse(path, case.blank) == labels and len(path) == len(case.scores) for path in paths)
    assert len(paths) == paths_of(case)
    assert all(a.log_prob >= b.log_prob for a, b in itertools.pairwise(result))


CHECKS: dict[str, Callable[[Case, Any], None]] = {
    **dict.fromkeys(LOSSES, check_loss),
    "linear_ctc_loss": check_linear,
    "forced_align": check_alignment,
    "posteriors": check_posteriors,
    "greedy_decode": check_greedy,
    "beam_search_decode": check_beams,
    "enumerate_alignments": check_enumeration,
}

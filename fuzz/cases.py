"""One call of one public function, drawn from bytes, and what its documentation says of its arguments.

T frames, N utterances, C classes, L labels, H features.
"""

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import numbactc
from fuzz import arguments, tensors
from fuzz.draws import Draws

LOSSES = ("ctc_loss_with_logits", "ctc_loss", "linear_ctc_loss")
FUNCTIONS = (*LOSSES, "forced_align", "posteriors", "greedy_decode", "beam_search_decode", "enumerate_alignments")
WITHOUT_TARGETS = ("greedy_decode", "beam_search_decode")
FIRST = {"ctc_loss_with_logits": "logits", "linear_ctc_loss": "hidden"}
"""What a function's first argument is called where it is not log_probs."""


@dataclass
class Case:
    function: str
    arguments: dict[str, Any]
    scores: Tensor
    """(T, N, C), or hidden states (T, N, H): the numbers of the first argument, contiguous."""
    blank: int
    lengths: list[int]
    labels: list[list[int]]
    """Of each utterance; as it stands in targets, where those are right."""
    wrong: set[str] = field(default_factory=set)
    """Names of the arguments that the documentation rules out: one of them must be told."""

    @property
    def layout(self) -> str:
        """How the first argument has its dimensions."""
        dims = self.arguments[self.first].dim()
        return "unbatched" if dims == 2 else "batch_first" if self.arguments.get("batch_first") else "frames_first"

    @property
    def first(self) -> str:
        return FIRST.get(self.function, "log_probs")

    def call(self, **changes: Any) -> Any:
        return getattr(numbactc, self.function)(**{**self.arguments, **changes})


def draw(data: bytes) -> Case:
    draws = Draws(data)
    function = draws.choice(FUNCTIONS)
    T, N, C, longest = draws.integer(0, 9), draws.integer(0, 3), draws.integer(0, 6), 6
    if draws.chance(20):
        T, C, longest = draws.integer(0, 90), draws.integer(1, 150), 40
    unbatched = function == "enumerate_alignments" or draws.chance(8)
    N = 1 if unbatched else N
    width, special = (draws.integer(0, 5), tensors.TAME) if function == "linear_ctc_loss" else (C, tensors.SPECIAL)
    case = Case(function, {}, tensors.values(draws, (T, N, width), special), 0, [], [])
    _put_scores(draws, case, unbatched)
    if function == "linear_ctc_loss":
        _put_projection(draws, case, C)
    _put_blank(draws, case, C)
    _put_lengths(draws, case, unbatched)
    given, wrong = arguments.options(draws, function)
    case.arguments |= given
    case.wrong |= wrong
    _put_pairs(draws, case, C)
    if function not in WITHOUT_TARGETS:
        _put_targets(draws, case, C, longest, unbatched)
    return case


def _put_scores(draws: Draws, case: Case, unbatched: bool) -> None:
    plain = case.scores
    if unbatched:
        plain = plain[:, 0]
    elif draws.chance(3):
        case.arguments["batch_first"] = True
        plain = plain.transpose(0, 1).contiguous()
    given: Any = tensors.laid_out(draws, plain)
    # where it is expanded, the numbers are others
    case.scores = plain.unsqueeze(1) if unbatched else plain
    if "batch_first" in case.arguments:
        case.scores = plain.transpose(0, 1).contiguous()
    if draws.chance(100):
        given = draws.choice(tensors.NO_SCORES)(plain)
        case.wrong.add(case.first)
    case.arguments[case.first] = given


def _put_projection(draws: Draws, case: Case, C: int) -> None:
    H, dtype, generator = case.scores.shape[2], case.scores.dtype, draws.generator()
    weight: Any = torch.randn(C, H, generator=generator).to(dtype)
    bias: Any = torch.randn(C, generator=generator).to(dtype) if draws.chance(2) else None
    if bias is not None and len(bias) and draws.chance(8):
        bias[draws.integer(0, len(bias) - 1)] = draws.choice(tensors.TAME)
    if draws.chance(60):
        wider = torch.cat([weight, weight.new_zeros(C, 1)], 1)
        weight = draws.choice((None, weight.tolist(), wider, weight.long(), weight.to_sparse(), weight.sum()))
        case.wrong.add("weight")
    if draws.chance(60):
        bias = draws.choice((0.0, torch.randn(C + 1).to(dtype), torch.randn(1, C).to(dtype), torch.zeros(C).long()))
        case.wrong.add("bias")
    case.arguments |= {"weight": weight, "bias": bias}


def _put_blank(draws: Draws, case: Case, C: int) -> None:
    if draws.chance(60) or not C:
        case.blank = draws.choice((-1, C, 2**40, -(2**70)))
        case.wrong.add("blank")
    else:
        case.blank = draws.integer(0, C - 1)
    case.arguments["blank"] = torch.tensor(case.blank) if "blank" not in case.wrong and draws.chance(4) else case.blank
    if draws.chance(150):
        case.arguments["blank"] = draws.choice((None, "0", 0.0, [0]))
        case.wrong.add("blank")


def _put_lengths(draws: Draws, case: Case, unbatched: bool) -> None:
    T, N = case.scores.shape[:2]
    case.lengths = [T if draws.chance(2) else draws.integer(0, T) for _ in range(N)]
    if case.function == "enumerate_alignments":
        return
    name = "lengths" if case.function in WITHOUT_TARGETS else "input_lengths"
    if name == "lengths" and draws.chance(4):
        case.lengths, case.arguments[name] = [T] * N, None
        return
    _put_numbers(draws, case, name, case.lengths, (T + 1, *arguments.NO_LENGTHS))


def _put_numbers(draws: Draws, case: Case, name: str, numbers: list[int], others: tuple[int, ...]) -> None:
    """Lengths in some form, once in a while with some of the others among them."""
    given = list(numbers)
    while given and draws.chance(50):
        given[draws.integer(0, len(given) - 1)] = draws.choice(others)
        case.wrong.add(name)
    case.arguments[name], right = arguments.lengths_as(draws, given)
    if not right:
        case.wrong.add(name)


def _put_pairs(draws: Draws, case: Case, C: int) -> None:
    """Options that are right or wrong only together with other arguments."""
    if case.function == "forced_align" and draws.chance(3):
        case.arguments["wildcard"] = draws.choice((-1, C, 10**6, -(2**63), 2**63 - 1))
        if draws.chance(30):
            case.arguments["wildcard"] = draws.choice((0, 2**63, 0.5, "*"))
            case.wrong |= {"wildcard"} if C or case.arguments["wildcard"] != 0 else set()
    if case.function == "beam_search_decode" and draws.chance(2):
        size = case.arguments.get("beam_size", 100)
        case.arguments["n_best"] = draws.choice((1, 2, 5, 0, 101, None))
        if not (case.arguments["n_best"] and isinstance(size, int) and case.arguments["n_best"] <= size):
            case.wrong.add("n_best")


def _has_bad_scores(case: Case) -> bool:
    return bool((case.scores.isnan() | (case.scores == torch.inf)).any())


def paths_of(case: Case) -> int:
    """How many alignments a case of one utterance has."""
    (labels,) = case.labels
    repeats = sum(a == b for a, b in itertools.pairwise(labels))
    return math.comb(len(case.scores) + len(labels) - repeats, 2 * len(labels))


def _put_targets(draws: Draws, case: Case, C: int, longest: int, unbatched: bool) -> None:
    classes = [c for c in range(C) if c != case.blank] or [0]
    wildcard = case.arguments.get("wildcard")
    for frames in case.lengths:
        count = draws.integer(0, min(frames + 2, longest)) if classes != [0] or C > 1 else 0
        case.labels.append([draws.choice(classes) for _ in range(count)])
        if wildcard is not None and "wildcard" not in case.wrong and draws.chance(2):
            case.labels[-1].insert(draws.integer(0, count), wildcard)
        if case.labels[-1] and draws.chance(50):
            case.labels[-1][0] = draws.choice((C, case.blank, *arguments.NO_LABELS))
            if case.labels[-1][0] != wildcard:
                case.wrong.add("target" if case.function == "enumerate_alignments" else "targets")
    if not all(-(2**63) <= label < 2**63 for labels in case.labels for label in labels):
        case.labels = [[] for _ in case.labels]  # such a blank is wrong by itself
    if case.function == "enumerate_alignments":
        (labels,) = case.labels
        if draws.chance(3):
            case.arguments["target"] = draws.choice((list, tuple))(labels)
        else:
            given, right = arguments.targets_as(draws, torch.tensor(labels, dtype=torch.int64))
            case.arguments["target"] = given
            case.wrong |= set() if right or isinstance(given, (list, np.ndarray)) else {"target"}
        if _has_bad_scores(case) or (not case.wrong and paths_of(case) > case.arguments["limit"]):
            case.wrong.add("log_probs")
        return
    counts = [len(labels) for labels in case.labels]
    if draws.chance(3) or (unbatched and draws.chance(2)):
        targets = torch.tensor([label for labels in case.labels for label in labels], dtype=torch.int64)
    else:
        shape = len(counts), max(counts, default=0) + draws.integer(0, 2)
        targets = torch.full(shape, draws.choice((-1, 0, 10**9, -(2**63))))
        for row, labels in zip(targets, case.labels, strict=True):
            row[: len(labels)] = torch.tensor(labels, dtype=torch.int64)
    case.arguments["targets"], right = arguments.targets_as(draws, targets)
    case.wrong |= set() if right else {"targets"}
    _put_numbers(draws, case, "target_lengths", counts, (1000, *arguments.NO_LENGTHS))
    if "target_lengths" in case.wrong:
        case.wrong.add("targets")  # those are too few, or others

"""Calls that nobody means well by: some of those that `make fuzz` draws, and what it has found."""

import collections
import math
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import numbactc
from batches import Loss, same_bits
from fuzz import cases
from fuzz.checks import check

CASES = 1000
BYTES = 160


def test_drawn_calls_give_what_they_must_or_are_refused_by_name() -> None:
    """Each function is called rightly and wrongly, many times; a failure names the seed of its bytes."""
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    for seed in range(CASES):
        case = cases.draw(random.Random(seed).randbytes(BYTES))
        try:
            outcomes[case.function, check(case)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {case}") from error
    for function in cases.FUNCTIONS:
        assert outcomes[function, "right"] > 40
        assert outcomes[function, "refused"] > 10


TARGETS = torch.tensor([[1, 2], [2, 1]])
TARGETED = {
    name: getattr(numbactc, name) for name in ("ctc_loss", "ctc_loss_with_logits", "forced_align", "posteriors")
}


@pytest.fixture(params=list(TARGETED.values()), ids=list(TARGETED))
def targeted(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Each function that takes scores, targets and lengths."""
    function: Callable[..., Any] = request.param
    return function


@pytest.mark.parametrize("name", ["input_lengths", "target_lengths"])
def test_lengths_beyond_64_bits(targeted: Callable[..., Any], name: str) -> None:
    arguments: dict[str, Any] = {"input_lengths": [4, 4], "target_lengths": [2, 2], name: [2, 2**70]}
    with pytest.raises(ValueError, match=f"^{name} must hold integers that fit into 64 bits, got {2**70}$"):
        targeted(torch.zeros(4, 2, 3), TARGETS, **arguments)


@pytest.mark.parametrize("lengths", [[2**62] * 4, [2**63 - 1, 2**63 - 1, 2, 0]], ids=["equal", "unequal"])
def test_lengths_whose_sum_is_zero_in_64_bits(targeted: Callable[..., Any], lengths: list[int]) -> None:
    """They would agree with targets that hold no label at all, and be indices far out of bounds."""
    message = f"targets, concatenated, must have sum(target_lengths) = {2**64} labels, got 0"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        targeted(torch.zeros(4, 4, 3), torch.zeros(0, dtype=torch.int64), [4] * 4, lengths)


def test_targets_and_lengths_that_are_negative_on_read(entry: Loss) -> None:
    scores = torch.randn(5, 2, 3)
    lengths = torch.tensor([5, 4]), torch.tensor([2, 1])
    plain = entry(scores, TARGETS, *lengths, reduction="none")
    negative = [torch._neg_view(-tensor) for tensor in (TARGETS, *lengths)]
    assert all(tensor.is_neg() for tensor in negative)
    assert same_bits(entry(scores, *negative, reduction="none"), plain)


NOT_DENSE: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse": Tensor.to_sparse,
    "csr": lambda tensor: tensor.reshape(tensor.shape[0], -1).to_sparse_csr(),
    "nested": lambda tensor: torch.nested.nested_tensor(list(tensor), layout=torch.jagged),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("form", NOT_DENSE.values(), ids=NOT_DENSE.keys())
def test_tensors_that_are_not_dense(targeted: Callable[..., Any], form: Callable[[Tensor], Tensor]) -> None:
    scores = torch.zeros(4, 2, 3)
    with pytest.raises(TypeError, match=r"^(log_probs|logits) must be a dense tensor"):
        targeted(form(scores), TARGETS, [4, 4], [2, 2])
    with pytest.raises(TypeError, match=r"^targets must be a dense tensor"):
        targeted(scores, form(TARGETS), [4, 4], [2, 2])


def test_lengths_that_are_not_dense_or_have_no_values(targeted: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"^input_lengths must be a dense tensor"):
        targeted(torch.zeros(4, 2, 3), TARGETS, torch.tensor([4, 4]).to_sparse(), [2, 2])
    with pytest.raises(ValueError, match=r"^target_lengths must have values, got a tensor on meta"):
        targeted(torch.zeros(4, 2, 3), TARGETS, [4, 4], torch.zeros(2, dtype=torch.int64, device="meta"))


def test_a_sparse_projection() -> None:
    with pytest.raises(TypeError, match=r"^weight must be a dense tensor"):
        numbactc.linear_ctc_loss(torch.zeros(4, 2, 5), torch.zeros(3, 5).to_sparse(), None, TARGETS, [4, 4], [2, 2])


@pytest.mark.parametrize("decode", [numbactc.greedy_decode, numbactc.beam_search_decode])
def test_sparse_scores_to_decode(decode: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"^log_probs must be a dense tensor"):
        decode(torch.zeros(4, 2, 3).to_sparse())


def test_numbers_beyond_float64() -> None:
    scores = torch.zeros(4, 2, 3)
    with pytest.raises(ValueError, match=r"^frame_duration must be finite and positive, got inf"):
        numbactc.forced_align(scores, TARGETS, [4, 4], [2, 2], frame_duration=10**400)
    with pytest.raises(ValueError, match=r"^token_bonus must be finite, got inf"):
        numbactc.beam_search_decode(scores, token_bonus=-(10**400))


@pytest.mark.parametrize("beam_size", [2**40, 2**62, 2**63, 2**70])
def test_a_beam_beyond_all_memory(beam_size: int) -> None:
    with pytest.raises(MemoryError, match="2 GiB"):
        numbactc.beam_search_decode(torch.zeros(4, 2, 3), beam_size=beam_size)


def test_confidence_of_scores_far_above_zero() -> None:
    """They are no log-probabilities, and a confidence of inf says so; NumPy's warning did not."""
    [alignment] = numbactc.forced_align(torch.full((3, 2), 1e4), torch.tensor([1]), [3], [1])
    assert alignment.score == 3e4
    assert alignment.spans[0].confidence == math.inf


def test_enumeration_names_its_own_arguments() -> None:
    scores = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"^target must be from 0 to C - 1"):
        numbactc.enumerate_alignments(scores, [3])
    with pytest.raises(ValueError, match=r"^target must hold integers that fit into 64 bits"):
        numbactc.enumerate_alignments(scores, [2**70])
    with pytest.raises(ValueError, match=r"^target must have values"):
        numbactc.enumerate_alignments(scores, torch.zeros(1, dtype=torch.int64, device="meta"))
    with pytest.raises(TypeError, match=r"^limit must be an integer, got 'many'"):
        numbactc.enumerate_alignments(scores, [1], limit="many")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^limit must be at least 0, got -1"):
        numbactc.enumerate_alignments(scores, [1], limit=-1)

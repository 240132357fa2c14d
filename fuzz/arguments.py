"""Targets, lengths and options: right ones in every form, and wrong ones."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fuzz.draws import Draws
from fuzz.tensors import INTEGERS, LAYOUTS

NO_LENGTHS = (-1, -(2**63), 2**31, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**70)
NO_LABELS = (-1, 2**31, 2**32 + 1, 2**62, -(2**63), 2**63 - 1)

Form = Callable[[list[int]], Any]
LENGTHS: tuple[Form, ...] = (
    list,
    tuple,
    torch.tensor,
    lambda lengths: torch.tensor(lengths, dtype=torch.int64),
    lambda lengths: torch.tensor(lengths, dtype=torch.int32),
    lambda lengths: torch.tensor([lengths, lengths], dtype=torch.int64).t().contiguous()[:, 0],
    lambda lengths: torch._neg_view(-torch.tensor(lengths, dtype=torch.int64)),
    lambda lengths: list(np.array(lengths, np.int64)),
    lambda lengths: [torch.tensor(length) for length in lengths],
)
NOT_LENGTHS: tuple[Form, ...] = (
    lambda lengths: 3,
    lambda lengths: "".join(map(str, lengths)),
    lambda lengths: np.array(lengths),
    lambda lengths: [*lengths, 0],
    lambda lengths: [*lengths, 0.5],
    lambda lengths: ["1"] * (len(lengths) + 1),
    lambda lengths: torch.tensor([lengths]),
    lambda lengths: torch.tensor(lengths, dtype=torch.float32),
    lambda lengths: torch.tensor(lengths, dtype=torch.int16),
    lambda lengths: torch.tensor(lengths, dtype=torch.int64).to_sparse(),
    lambda lengths: torch.tensor(lengths, dtype=torch.int64, device="meta"),
)


def lengths_as(draws: Draws, lengths: list[int]) -> tuple[Any, bool]:
    """In some form, and whether it is one that they may have."""
    small = all(-(2**31) <= length < 2**31 for length in lengths)
    if not small:
        return draws.choice((list, tuple))(lengths), True
    if draws.chance(100):
        return draws.choice(NOT_LENGTHS)(lengths), False
    # of no numbers PyTorch makes a float tensor
    return draws.choice(LENGTHS if lengths else LENGTHS[:2])(lengths), True


TargetForm = Callable[[Tensor], Any]
NO_TARGETS: tuple[TargetForm, ...] = (
    lambda targets: None,
    lambda targets: targets.tolist(),
    lambda targets: targets.numpy(),
    lambda targets: targets.double(),
    lambda targets: targets.short(),
    lambda targets: targets.sum(),
    lambda targets: targets.reshape(1, 1, -1),
    lambda targets: torch.cat([targets.reshape(1, -1)] * 5),
    lambda targets: targets.to_sparse(),
    lambda targets: targets.to("meta"),
)


def targets_as(draws: Draws, targets: Tensor) -> tuple[Any, bool]:
    """Likewise."""
    if draws.chance(100):
        return draws.choice(NO_TARGETS)(targets), False
    limits = torch.iinfo(torch.int32)
    dtype = draws.choice(INTEGERS)
    if not targets.numel() or (limits.min <= targets.min() and targets.max() <= limits.max):
        targets = targets.to(dtype)
    return draws.choice(LAYOUTS)(targets), True


NOT_FINITE = (math.nan, math.inf, -math.inf, 10**400)
Choices = tuple[Sequence[Any], Sequence[Any]]
"""Values that an option may have, and values that it may not."""

BOOLEANS: Choices = ((False, True), ())
LOSS: dict[str, Choices] = {
    "reduction": (("none", "mean", "sum"), ("average", None, "", ["mean"], 3)),
    "zero_infinity": BOOLEANS,
}
OPTIONS: dict[str, dict[str, Choices]] = {
    "ctc_loss": {**LOSS, "check": BOOLEANS},
    "ctc_loss_with_logits": {**LOSS, "check": BOOLEANS},
    "linear_ctc_loss": {**LOSS, "chunk_bytes": ((1 << 26, 1, 100, 2**70), (0, -1, 0.5, None, "1"))},
    "forced_align": {
        "frame_duration": ((None, 0.02, 1, Fraction(1, 50)), (0, -1.0, "1", True, *NOT_FINITE)),
        "wildcard_cost": ((0.001, 0, 0.5, 1e6), (-0.1, "1", None, *NOT_FINITE)),
    },
    "posteriors": {},
    "greedy_decode": {},
    "beam_search_decode": {
        "beam_size": ((4, 1, 2, 30, 500), (0, -1, 0.5, None, "4")),
        "rescore": ((True, False), ()),
        "token_bonus": ((0.0, -1.0, 2, 10.0), ("1", None, *NOT_FINITE)),
        "beam_threshold": ((None, 0.0, 3.0, 1e300), (-1.0, "1", *NOT_FINITE)),
        "token_threshold": ((None, -5.0, 0.0, -1e300, 1e300), ("1", *NOT_FINITE)),
    },
    "enumerate_alignments": {"limit": ((300, 0, 1, 2000), (-1, 0.5, None, "1"))},
}


def options(draws: Draws, function: str) -> tuple[dict[str, Any], set[str]]:
    """Some options, and the names of those that are wrong."""
    chosen, wrong = {}, set()
    for name, (right, not_right) in OPTIONS[function].items():
        if not_right and draws.chance(150):
            chosen[name] = draws.choice(not_right)
            wrong.add(name)
        elif name == "limit" or draws.chance(2):  # as many alignments as there may be take their time
            chosen[name] = draws.choice(right)
    return chosen, wrong

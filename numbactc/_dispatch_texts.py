"""From scores on the CPU, and texts that were found in them, to the kernel of exact log-probabilities.

Numba is imported by the first call.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from numbactc._views import flat_view

if TYPE_CHECKING:
    from numbactc.kernels.cpu.texts import Tree

LACKING = 1e-15
"""Of a probability, the most that may be left out."""


def log_probs(
    scores: Tensor, utterance: int, frames: int, blank: int, tokens: np.ndarray, lengths: np.ndarray, least: float
) -> np.ndarray | None:
    """The log-probabilities of texts of one utterance of scores (T, N, C) on the CPU, without NaN and +inf.

    Args:
        tokens, lengths: int64, the texts, one after the other, and how long they are.
        least: nats that each text is known to have.

    Returns:
        float64 nats; None if so much lies between texts, or between them and what is less likely on the way, that plain
        numbers do not reach that far.
    """
    from numbactc.kernels.cpu import texts
    from numbactc.kernels.packed import Packed

    storage, strides = flat_view(scores)
    tree, found = _tree(lengths, scores.shape[2]), np.empty(lengths.size)
    slack = math.log(LACKING / 100 / (frames + 1))
    problem = storage, strides, utterance, frames, blank, tokens, lengths
    outputs = Packed(tree), tree.emissions, found
    lacking, divided = texts.log_probs(*problem, least + slack, *outputs)
    if lacking > LACKING and divided > 0:  # scores that are no log-probabilities
        lacking, _ = texts.log_probs(*problem, least - divided + slack, *outputs)
    return found if lacking <= LACKING else None


def _tree(lengths: np.ndarray, classes: int) -> "Tree":
    from numbactc.kernels.cpu.hashing import capacity
    from numbactc.kernels.cpu.linear import VECTOR
    from numbactc.kernels.cpu.texts import Tree

    nodes = 1 + int(lengths.sum())
    return Tree(
        parent=np.empty(nodes, np.int32),
        column=np.empty(nodes, np.int32),
        first=np.empty(int(lengths.max()) + 2, np.int32),
        ends=np.empty(lengths.size, np.int32),
        classes=np.empty(classes, np.int32),
        column_of=np.empty(classes, np.int32),
        keys=np.empty(capacity(nodes), np.int64),
        nodes=np.empty(capacity(nodes), np.int32),
        emissions=np.empty(classes + VECTOR),
        blank=np.empty(nodes),
        label=np.empty(nodes),
    )

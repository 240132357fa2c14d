"""From torch tensors on a GPU to the kernels of alignments: targets go there in one copy, results come back in one.

All memory comes from `torch.empty` on the current stream: one piece for results, one for what kernels leave each other.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from numbactc import _views_cuda as views
from numbactc._validation import Targets
from numbactc._views_cuda import DTYPE_NAMES, on_its_device, readable
from numbactc.kernels.cuda.alignment_plan import AlignmentCall, alignment_plan
from numbactc.kernels.cuda.plan import MOST_PAIRS

plan_of = lru_cache(1024)(alignment_plan)

EXACT = 1
"""The form of concatenated targets, as the kernels number them."""


@on_its_device
def align(
    scores: Tensor, targets: Targets, wildcard_cost: float, path_scores: np.ndarray, spans: np.ndarray,
    log_means: np.ndarray,
) -> None:  # fmt: skip
    """The best path of each utterance for scores (T, N, C); waits for the GPU, once, at the end.

    Args:
        targets: checked; a label of C is the wildcard.
        wildcard_cost: nats by which its score in a frame is less than the best class's.
        path_scores, spans, log_means: outputs, as in `kernels.cpu.align`.
    """
    scores, lengths = readable(scores), targets.target_lengths
    # places of the utterances' labels, one utterance after the other, among all that were given
    sources = np.repeat(targets.starts - _begins(lengths), lengths) + np.arange(lengths.sum())
    labels = targets.labels[sources]
    if (labels == scores.shape[2]).any():
        scores = _with_wildcard(scores, wildcard_cost)
    path_scores[:], found_spans, found_means = _best_paths(scores, labels, targets)
    places = np.repeat(_begins(-(-lengths // MOST_PAIRS) * MOST_PAIRS) - _begins(lengths), lengths)
    places += np.arange(labels.size)
    spans[sources], log_means[sources] = found_spans[places], found_means[places]


def _begins(lengths: np.ndarray) -> np.ndarray:
    """Where each of them begins, one behind the other."""
    begins: np.ndarray = np.cumsum(lengths) - lengths
    return begins


def _with_wildcard(scores: Tensor, cost: float) -> Tensor:
    """One class more, in float64, in which a difference of float32 has room."""
    wide = scores.new_empty(*scores.shape[:2], scores.shape[2] + 1, dtype=torch.float64)
    wide[:, :, :-1] = scores
    wide[:, :, -1] = wide[:, :, :-1].amax(-1) - cost
    return wide


def _best_paths(scores: Tensor, labels: np.ndarray, targets: Targets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(path scores (N,), spans (places, 2), mean scores (places,)), utterances at multiples of four places.

    Args:
        labels: of all utterances, one behind the other.
    """
    T, N, C = scores.shape
    lengths = targets.target_lengths
    views.check_sizes(C, labels.size)
    its_plan = plan_of(AlignmentCall(T, N, labels.size, max(lengths.tolist(), default=0), DTYPE_NAMES[scores.dtype]))
    results = scores.new_empty(its_plan.results_bytes, dtype=torch.uint8)
    scratch = scores.new_empty(its_plan.scratch_bytes, dtype=torch.uint8)
    at = views.addresses(results, its_plan.results) | views.addresses(scratch, its_plan.scratch)
    given = np.concatenate([labels, targets.input_lengths, lengths])
    uploaded = torch.from_numpy(given).to(scores.device).split([labels.size, N, N])
    prepared = at["facts"], at["starts"], at["labels"]
    where = views.address(scores), *scores.stride()
    arguments = {
        "prepare": (
            *views.integers(uploaded[0], 2), *views.integers(uploaded[1], 1), *views.integers(uploaded[2], 1),
            T, N, C, labels.size, targets.blank, EXACT, *prepared,
        ),
        "viterbi": (
            *where, T, targets.blank, *prepared, at["checkpoints"], at["origins"], at["rows"], at["row_origins"],
            at["ends"], at["path_scores"],
        ),
        "traceback": (
            *where, T, targets.blank, *prepared, at["checkpoints"], at["ends"], at["path_scores"], at["spans"],
        ),
        "span_means": (*where, *prepared, at["path_scores"], at["spans"], at["log_means"]),
    }  # fmt: skip
    views.queue(scores.device, its_plan.launches, arguments)
    on_host = results.cpu().numpy()
    parts = {name: on_host[part.offset : part.offset + part.size] for name, part in its_plan.results.items()}
    return (
        parts["path_scores"].view(np.float64),
        parts["spans"].view(np.int32).reshape(-1, 2),
        parts["log_means"].view(np.float64),
    )

"""Who aligns. An aligner turns scores (N, T, C) and targets (N, L) into a call that gives a path for each utterance.

All start at the same log-probabilities, in the dtype and the layout they want; what brings them there is not timed. A
peer that takes one utterance a call is called once for each.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decode.posteriors import BLANK, EASY, draw
from benchmarks.peers import Installable

Paths = list[NDArray[np.int64]]


@dataclass(frozen=True)
class Recordings:
    """Scores (N, T, C), float32, or rounded to half precision and back, and targets (N, L) int64."""

    scores: NDArray[np.float32]
    targets: NDArray[np.int64]


Align = Callable[[], Paths]


@dataclass(frozen=True)
class Aligner(Installable):
    """A name, what it needs, and how it is bound to recordings; `exact` is false of one that gives no CTC paths."""

    name: str
    modules: tuple[str, ...]
    exact: bool
    load: Callable[[Recordings], Align]


def recordings(T: int, N: int, L: int, C: int = 29, seed: int = 0) -> Recordings:
    """Texts of any classes, and what a model that hears well makes of them."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(1, C, (N, L))
    scores = np.stack([draw(targets[n].tolist(), T, C, EASY, seed + n) for n in range(N)])
    return Recordings(scores, targets)


def load_numbactc(given: Recordings) -> Align:
    """`numbactc.forced_align`, the whole batch at once."""
    torch, numbactc = importlib.import_module("torch"), importlib.import_module("numbactc")
    scores, targets = torch.from_numpy(given.scores), torch.from_numpy(given.targets)
    frames, labels = [given.scores.shape[1]] * len(targets), [given.targets.shape[1]] * len(targets)

    def align() -> Paths:
        found = numbactc.forced_align(scores, targets, frames, labels, BLANK, batch_first=True)
        return [alignment.path.numpy() for alignment in found]

    return align


def load_torchaudio(given: Recordings) -> Align:
    """`torchaudio.functional.forced_align`, which takes one utterance a call."""
    functional = importlib.import_module("torchaudio.functional")
    torch = importlib.import_module("torch")
    pairs = [
        (torch.from_numpy(given.scores[n : n + 1]), torch.from_numpy(given.targets[n : n + 1].astype(np.int32)))
        for n in range(len(given.scores))
    ]
    return lambda: [functional.forced_align(scores, targets, blank=BLANK)[0][0].numpy() for scores, targets in pairs]


def load_hirschberg(given: Recordings) -> Align:
    """`hirschberg_viterbi.hirschberg_viterbi`, not pruned, one utterance a call."""
    module, torch = importlib.import_module("hirschberg_viterbi"), importlib.import_module("torch")
    pairs = [
        (torch.from_numpy(given.scores[n : n + 1]), torch.from_numpy(given.targets[n : n + 1].astype(np.int32)))
        for n in range(len(given.scores))
    ]
    return lambda: [module.hirschberg_viterbi(*pair, blank=BLANK)[0][0].numpy() for pair in pairs]


def load_ctc_forced_aligner(given: Recordings) -> Align:
    """The library of ctc-forced-aligner, called as its `align_sequences` does: the package itself wants a model."""
    spec = importlib.util.find_spec("ctc_forced_aligner")
    folders = spec.submodule_search_locations if spec is not None else None
    [library] = [path for folder in folders or [] for path in Path(folder).glob("align_ops*")]
    function = ctypes.CDLL(str(library)).align_sequences
    floats, longs = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int64)
    function.argtypes = [floats, longs, longs, floats, *[ctypes.c_int] * 4, ctypes.c_int64]
    count, frames, classes = given.scores.shape

    def one(n: int) -> NDArray[np.int64]:
        path, scores = np.zeros(frames, np.int64), np.zeros(frames, np.float32)
        function(
            given.scores[n].ctypes.data_as(floats), given.targets[n].ctypes.data_as(longs), path.ctypes.data_as(longs),
            scores.ctypes.data_as(floats), 1, frames, classes, given.targets.shape[1], BLANK,
        )  # fmt: skip
        return path

    return lambda: [one(n) for n in range(count)]


def load_ctc_segmentation(given: Recordings) -> Align:
    """`ctc_segmentation.ctc_segmentation`: when each label begins, by a model of its own; there is no path in it."""
    module: Any = importlib.import_module("ctc_segmentation")
    logging.getLogger("ctc_segmentation").setLevel(logging.ERROR)
    config = module.CtcSegmentationParameters(char_list=[chr(97 + c) for c in range(given.scores.shape[2])])
    config.blank, config.index_duration = BLANK, 1.0

    def align() -> Paths:
        for scores, targets in zip(given.scores, given.targets, strict=True):
            ground_truth, _ = module.prepare_token_list(config, [targets])
            module.ctc_segmentation(config, scores, ground_truth)
        return []

    return align


ALIGNERS: dict[str, Aligner] = {
    aligner.name: aligner
    for aligner in (
        Aligner("numbactc", ("numbactc", "numba", "torch"), True, load_numbactc),
        Aligner("torchaudio", ("torchaudio",), True, load_torchaudio),
        Aligner("ctc-forced-aligner", ("ctc_forced_aligner",), True, load_ctc_forced_aligner),
        Aligner("hirschberg-viterbi", ("hirschberg_viterbi",), True, load_hirschberg),
        Aligner("ctc-segmentation", ("ctc_segmentation",), False, load_ctc_segmentation),
    )
}


def collapses_to(path: NDArray[np.int64], target: NDArray[np.int64]) -> bool:
    """Whether a path, repeats and blanks taken out, is the target."""
    kept = path[np.concatenate([[True], path[1:] != path[:-1]])] if len(path) else path
    return np.array_equal(kept[kept != BLANK], target)


def score_of(path: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
    """The sum of the scores on a path, in float64."""
    return float(scores[np.arange(len(path)), path].astype(np.float64).sum())

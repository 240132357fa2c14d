"""numbactc: the CTC loss for PyTorch, fast, exact, deterministic, with Numba kernels.

``numbactc.ctc_loss`` and ``numbactc.CTCLoss`` are drop-ins for PyTorch's. ``numbactc.ctc_loss_with_logits`` and
``numbactc.CTCLossWithLogits`` take raw scores and keep no normalised copy of them. ``numbactc.linear_ctc_loss`` and
``numbactc.LinearCTCLoss`` take what a last layer makes scores of, and never hold all scores. ``numbactc.greedy_decode``
and ``numbactc.beam_search_decode`` turn scores into text. Importing compiles nothing.
"""

from numbactc.alignment import Alignment, forced_align
from numbactc.decoding import BestPath, Hypothesis, beam_search_decode, greedy_decode
from numbactc.enumeration import enumerate_alignments
from numbactc.head import LinearCTCLoss, linear_ctc_loss
from numbactc.integrations import patch_torch
from numbactc.language_model import NgramLM
from numbactc.lexicon import Lexicon
from numbactc.loss import CTCLoss, CTCLossWithLogits, ctc_loss, ctc_loss_with_logits
from numbactc.occupancy import Posteriors, posteriors
from numbactc.plotting import plot_alignment, plot_lattice, plot_posteriors
from numbactc.spans import TokenSpan, WordSpan, group_words
from numbactc.streaming import BeamSearch, BeamState

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "BeamSearch",
    "BeamState",
    "BestPath",
    "CTCLoss",
    "CTCLossWithLogits",
    "Hypothesis",
    "Lexicon",
    "LinearCTCLoss",
    "NgramLM",
    "Posteriors",
    "TokenSpan",
    "WordSpan",
    "beam_search_decode",
    "ctc_loss",
    "ctc_loss_with_logits",
    "enumerate_alignments",
    "forced_align",
    "greedy_decode",
    "group_words",
    "linear_ctc_loss",
    "patch_torch",
    "plot_alignment",
    "plot_lattice",
    "plot_posteriors",
    "posteriors",
]

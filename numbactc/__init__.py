"""numbactc: the CTC loss for PyTorch, fast, exact, deterministic, with Numba kernels.

``numbactc.ctc_loss`` and ``numbactc.CTCLoss`` are drop-ins for PyTorch's. ``numbactc.ctc_loss_with_logits`` and
``numbactc.CTCLossWithLogits`` take raw scores and keep no normalised copy of them. Importing compiles nothing.
"""

from numbactc.alignment import Alignment, forced_align
from numbactc.loss import CTCLoss, CTCLossWithLogits, ctc_loss, ctc_loss_with_logits
from numbactc.spans import TokenSpan, WordSpan, group_words

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "CTCLoss",
    "CTCLossWithLogits",
    "TokenSpan",
    "WordSpan",
    "ctc_loss",
    "ctc_loss_with_logits",
    "forced_align",
    "group_words",
]

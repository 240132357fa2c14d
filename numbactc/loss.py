"""The CTC losses that users call: one for log-probabilities, PyTorch's drop-in, and one for raw scores."""

import torch
from torch import Tensor, nn

from numbactc import _autograd, _devices, _ops, _transforms, _validation
from numbactc._validation import Lengths


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    *,
    batch_first: bool = False,
    check: bool = False,
) -> Tensor:
    r"""CTC loss of log-probabilities: a drop-in for `torch.nn.functional.ctc_loss`, but for its gradient.

    The gradient is the true one of the formula below, minus a posterior, so that `gradcheck` holds and scores need not
    be normalised. PyTorch's takes a `log_softmax` to be in front; through one, both are equal.

    For one utterance with scores s (T, C) and a target y of L labels, the loss is

        -log  sum over paths  prod over t of  exp(s[t, path[t]])

    where paths are the sequences of T classes that become y once equal neighbours are merged and blanks removed.
    Its derivative by s[t, c] is minus the posterior of class c in frame t: the part of that sum, between 0 and 1,
    that runs through c at t.

    Args:
        log_probs: (T, N, C), or (T, C) for a single utterance, float32, float64, bfloat16 or float16, on the CPU or an
            NVIDIA GPU, with any strides: logarithms to base e, as from `log_softmax` over C. T frames, N utterances, C
            classes. Any value from -inf up, except NaN and +inf, which make that utterance's loss NaN.
        targets: (N, S) padded on the right with anything, or (sum(target_lengths),) concatenated, or (S,) for a single
            utterance; int32 or int64, on the device of the scores or the CPU. Labels from 0 to C - 1 without the blank.
        input_lengths: (N,) frames of each utterance, from 0 to T: a list, tuple or tensor (int32, int64), on the device
            of the scores or the CPU. For a single utterance () will do as well.
        target_lengths: (N,) labels of each utterance, from 0 to S, in the same forms.
        blank: the class that stands for no label, from 0 to C - 1.
        reduction: 'none' gives (N,) losses, 'sum' their sum, 'mean' the mean over N of loss / max(target length, 1).
        zero_infinity: count a loss of inf, where no path fits, as 0. Its gradient is 0 in any case.
        batch_first: log_probs is (N, T, C). Nothing is copied for it.
        check: on a GPU, wait for it and raise where a label or length on it is out of range. Without it nothing waits,
            and such an utterance has a loss of NaN and a gradient of 0. On a CPU everything is always checked.

    Returns:
        Nats: () or, with reduction 'none', (N,), and () for a single utterance. float64 for float64, float32 otherwise,
        reduced in float64 and rounded once.

    Raises:
        TypeError: an argument of another type or dtype.
        ValueError: an argument of another shape or out of range; the message names the utterance.
        NotImplementedError: scores on another device than a CPU or an NVIDIA GPU, or with a forward-mode tangent.
        ModuleNotFoundError: scores on a GPU, and numba-cuda is not installed; the message says what to install.
        RuntimeError: from autograd, when a second derivative is asked for: there is none, and none is made up.

    Edge cases, each by utterance; neighbours never feel them:

        =============================================  ================================  =======================
        case                                           loss                              gradient
        =============================================  ================================  =======================
        empty target                                   minus the sum of the blank's      -1 at the blank
                                                       scores (0 for no frames)
        labels, and more of them than fit: L + equal   inf                               exactly 0
        neighbours in the target > T
        no path has a probability, as where a frame    inf                               exactly 0
        is -inf throughout
        a score of -inf, or 2**24 bits (1.2e7 nats)    the class cannot occur there      exactly 0 there
        below the target's best score in its frame
        a score of NaN or +inf                         NaN                               NaN up to the length
        on a GPU, a label or length out of range       NaN; with check=True, an error    exactly 0
        frames beyond the length                       not read                          exactly 0
        N = 0                                          empty; sum 0, mean NaN            empty
        probability of the target below 2**-1022       finite and exact                  exact
        =============================================  ================================  =======================

        So a mask of -1e9 or `torch.finfo(dtype).min` counts as -inf, but not one of -1e4, nor that of float16, which is
        -65504. On a GPU a target less likely than 2**-(5.2e8), a loss of 3.6e8 nats, has no path either.
        Scores whose exponentials sum to more than 1 may give a negative loss; it is not clamped.

    Notes:
        On a CPU the recursion is in float64, whatever the dtype, so length costs no digits. Until backward has run,
        T * N * K posteriors are kept, in float32, or float64 for float64; K is the next multiple of 16 above
        1 + min(longest target, C - 1). The forward half takes as much while it runs, under `no_grad` too, where then
        nothing is kept. The last gradient's memory serves for the next one once nobody refers to it.

        The same input gives the same bits on every run, with any number of threads and in any batch. Utterances are
        shared among `torch.get_num_threads()` threads, and any number of Python threads may call at once.

        On a GPU nothing waits: work is queued on the current stream. A call can be captured by `torch.cuda.graph` if
        targets and lengths are on the GPU and the loss has been called on tensors of the same shapes and dtypes before.
        Lengths and targets on the CPU are copied, and may be refilled when the call returns. The recursion is in
        float32 with exponents apart, float64 for float64. Kept are T * N * S posteriors, S the width of targets (for
        concatenated ones, T * their number), about three times as much while forward runs.

    References:
        Graves, Fernandez, Gomez, Schmidhuber: Connectionist Temporal Classification. ICML 2006, sections 3 and 4.

    Example:
        Two frames, three classes, all equally likely. Three of nine paths become [1]: (1, 1), (0, 1), (1, 0).

        >>> import torch, numbactc
        >>> log_probs = torch.zeros(2, 1, 3).log_softmax(-1).requires_grad_()
        >>> loss = numbactc.ctc_loss(log_probs, torch.tensor([[1]]), [2], [1])
        >>> print(f"{loss.item():.4f}")  # log 3
        1.0986
        >>> loss.backward()
        >>> print(log_probs.grad[0, 0])  # two of the three begin with 1
        tensor([-0.3333, -0.6667,  0.0000])
    """
    return _loss(
        "log_probs", log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity, batch_first,
        check,
    )  # fmt: skip


def ctc_loss_with_logits(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    *,
    batch_first: bool = False,
    check: bool = False,
) -> Tensor:
    r"""CTC loss of raw scores: `numbactc.ctc_loss` with the softmax inside, and no normalised copy of T * N * C kept.

    For one utterance with logits x (T, C) the loss is `numbactc.ctc_loss` of log_softmax(x) over C, and

        d loss / d x[t, c]  =  softmax(x[t])[c]  -  posterior of class c in frame t

    whose rows sum to 0. The scores are read once forward; backward reads them once more and writes the gradient.

    Args:
        logits: (T, N, C), or (T, C) for a single utterance, float32, float64, bfloat16 or float16, on the CPU or an
            NVIDIA GPU, with any strides: scores before a softmax over C, in nats. A number added to all of a frame
            changes nothing.
        targets: (N, S) padded on the right with anything, or (sum(target_lengths),) concatenated, or (S,) for a single
            utterance; int32 or int64, on the device of the scores or the CPU. Labels from 0 to C - 1 without the blank.
        input_lengths: (N,) frames of each utterance, from 0 to T: a list, tuple or tensor (int32, int64), on the device
            of the scores or the CPU. For a single utterance () will do as well.
        target_lengths: (N,) labels of each utterance, from 0 to S, in the same forms.
        blank: the class that stands for no label, from 0 to C - 1.
        reduction: 'none' gives (N,) losses, 'sum' their sum, 'mean' the mean over N of loss / max(target length, 1).
        zero_infinity: count a loss of inf, where no path fits, as 0. Its gradient is 0 in any case.
        batch_first: logits is (N, T, C). Nothing is copied for it.
        check: on a GPU, wait for it and raise where a label or length on it is out of range. Without it nothing waits,
            and such an utterance has a loss of NaN and a gradient of 0. On a CPU everything is always checked.

    Returns:
        Nats, never negative: () or, with reduction 'none', (N,), and () for a single utterance. float64 for float64,
        float32 otherwise, reduced in float64 and rounded once.

    Raises:
        As `numbactc.ctc_loss`, among them RuntimeError from autograd when a second derivative is asked for.

    Edge cases, memory, determinism and threads are those of `numbactc.ctc_loss`, with these differences:

        - An empty target's gradient is softmax minus 1 at the blank. A frame that is all -inf makes the loss inf.
        - With a single class, the blank, the loss of an empty target is 0.
        - A class counts as -inf from 2**24 bits (1.2e7 nats) below what normalises its frame: a mask of -1e9 or
          `torch.finfo(dtype).min` does, in all dtypes but float16.
        - Where a score is -inf the gradient is exactly 0. Kept until backward are also two numbers a frame.

    References:
        Graves, Fernandez, Gomez, Schmidhuber: Connectionist Temporal Classification. ICML 2006, section 4, equation 16.

    Example:
        Two frames, three classes, all equally likely. Three of nine paths become [1]: (1, 1), (0, 1), (1, 0).

        >>> import torch, numbactc
        >>> logits = torch.zeros(2, 1, 3, requires_grad=True)
        >>> loss = numbactc.ctc_loss_with_logits(logits, torch.tensor([[1]]), [2], [1])
        >>> print(f"{loss.item():.4f}")  # log 3
        1.0986
        >>> loss.backward()
        >>> print(logits.grad[0, 0] + 0.0)  # 1/3 - 1/3, 1/3 - 2/3, 1/3 - 0
        tensor([ 0.0000, -0.3333,  0.3333])
    """
    return _loss(
        "logits", logits, targets, input_lengths, target_lengths, blank, reduction, zero_infinity, batch_first,
        check,
    )  # fmt: skip


def _loss(
    name: str,
    scores: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int,
    reduction: str,
    zero_infinity: bool,
    batch_first: bool,
    check: bool,
) -> Tensor:
    _validation.check_reduction(reduction)
    batch = _validation.as_batch(name, scores, batch_first)
    unbatched = scores.dim() == 2
    rest = targets, input_lengths, target_lengths, blank, name == "logits", unbatched, check
    if torch.compiler.is_compiling() or _ops.is_watched(scores):
        losses, label_counts = _ops.ctc(batch, *rest)
    elif _transforms.are_active():
        losses, label_counts = _transforms.ctc(batch, *rest)
    else:
        problem = _devices.prepare(batch, *rest)
        losses, label_counts = _autograd.ctc(batch, problem), problem.label_counts
    # reduced in float64 and rounded once
    if zero_infinity:
        losses = losses.masked_fill(losses == torch.inf, 0.0)
    if reduction == "mean":
        losses = (losses / label_counts()).mean()
    elif reduction == "sum":
        losses = losses.sum()
    elif unbatched:
        losses = losses.squeeze(0)
    return losses.to(torch.float64 if scores.dtype == torch.float64 else torch.float32)


class CTCLoss(nn.Module):
    """`numbactc.ctc_loss` as a module, with the arguments of `torch.nn.CTCLoss`.

    Args:
        blank, reduction, zero_infinity, batch_first, check: as there; the rest goes to each call.

    Example:
        >>> import torch, numbactc
        >>> criterion = numbactc.CTCLoss(blank=2, reduction="sum")
        >>> log_probs = torch.zeros(2, 2, 3).log_softmax(-1)
        >>> print(f"{criterion(log_probs, torch.tensor([[1], [0]]), [2, 2], [1, 1]).item():.4f}")  # 2 log 3
        2.1972
    """

    def __init__(
        self,
        blank: int = 0,
        reduction: str = "mean",
        zero_infinity: bool = False,
        *,
        batch_first: bool = False,
        check: bool = False,
    ) -> None:
        super().__init__()
        _validation.check_reduction(reduction)
        self.blank = blank
        self.reduction = reduction
        self.zero_infinity = zero_infinity
        self.batch_first = batch_first
        self.check = check

    def extra_repr(self) -> str:
        return (
            f"blank={self.blank}, reduction={self.reduction!r}, zero_infinity={self.zero_infinity}, "
            f"batch_first={self.batch_first}, check={self.check}"
        )

    def forward(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths
    ) -> Tensor:
        """See `numbactc.ctc_loss`."""
        return ctc_loss(
            log_probs, targets, input_lengths, target_lengths,
            self.blank, self.reduction, self.zero_infinity, batch_first=self.batch_first, check=self.check,
        )  # fmt: skip


class CTCLossWithLogits(CTCLoss):
    """`numbactc.ctc_loss_with_logits` as a module, with the arguments of `torch.nn.CTCLoss`.

    Args:
        blank, reduction, zero_infinity, batch_first, check: as there; the rest goes to each call.

    Example:
        >>> import torch, numbactc
        >>> criterion = numbactc.CTCLossWithLogits(batch_first=True)
        >>> logits = torch.zeros(1, 2, 3)  # (N, T, C)
        >>> print(f"{criterion(logits, torch.tensor([[1]]), [2], [1]).item():.4f}")  # log 3
        1.0986
    """

    def forward(self, logits: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths) -> Tensor:
        """See `numbactc.ctc_loss_with_logits`."""
        return ctc_loss_with_logits(
            logits, targets, input_lengths, target_lengths,
            self.blank, self.reduction, self.zero_infinity, batch_first=self.batch_first, check=self.check,
        )  # fmt: skip

"""A projection and its CTC loss in one, so that the logits of all frames and classes are never in memory together."""

from typing import Any

import torch
from torch import Tensor, nn

from numbactc import _autograd_head, _head, _ops_head, _validation
from numbactc._validation import Lengths

CHUNK_BYTES = 96 << 20


def linear_ctc_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    *,
    batch_first: bool = False,
    chunk_bytes: int = CHUNK_BYTES,
) -> Tensor:
    r"""CTC loss of a linear layer's output: `linear`, then `numbactc.ctc_loss_with_logits`, without T * N * C logits.

    For one utterance with hidden states h (T, H) the loss is `numbactc.ctc_loss_with_logits` of the logits

        x[t, c]  =  sum over k of  weight[c, k] h[t, k]  +  bias[c]

    and with G[t, c] = softmax(x[t])[c] - posterior of class c in frame t, the gradients are

        d loss / d hidden  =  G weight      d loss / d weight  =  G^T hidden      d loss / d bias  =  sum of G's rows

    Logits are made in chunks of frames and used up at once: for the recursion the classes of the target are kept, and
    the softmax of all others goes into the three gradients while the loss is computed. When the posteriors are known
    the target's classes, at most L + 1 a frame, are added. No product is done twice; but see reduction.

    Args:
        hidden: (T, N, H), or (T, H) for a single utterance, float32, float64, bfloat16 or float16, on the CPU or an
            NVIDIA GPU, with any strides: what the layer before a model's last one gives. T frames, N utterances, H
            features.
        weight: (C, H) in the dtype of hidden, as of `torch.nn.Linear`. C classes with the blank.
        bias: (C,) likewise, or None.
        targets: (N, S) padded on the right with anything, or (sum(target_lengths),) concatenated, or (S,) for a single
            utterance; int32 or int64. Labels from 0 to C - 1 without the blank.
        input_lengths: (N,) frames of each utterance, from 0 to T: a list, tuple or tensor (int32, int64). For a
            single utterance () will do as well.
        target_lengths: (N,) labels of each utterance, from 0 to S, in the same forms.
        blank: the class that stands for no label, from 0 to C - 1.
        reduction: 'none' gives (N,) losses, 'sum' their sum, 'mean' the mean over N of loss / max(target length, 1).
            With 'none' backward computes the logits a second time, for only then are the losses' weights known.
        zero_infinity: count a loss of inf, where no path fits, as 0. Its gradient is 0 in any case.
        batch_first: hidden is (N, T, H). Nothing is copied for it.
        chunk_bytes: at least 1: how much memory the logits of a chunk may take; it has one frame at least, and frames
            of many utterances. Small chunks make slow products, for all of weight and of its gradient is read for each.

    Returns:
        Nats, never negative: () or, with reduction 'none', (N,), and () for a single utterance. float64 for float64,
        float32 otherwise, reduced in float64 and rounded once.

    Raises:
        As `numbactc.ctc_loss`, among them RuntimeError from autograd when a second derivative is asked for.

    Edge cases are those of `numbactc.ctc_loss_with_logits`, of these logits; each utterance by itself as there, but for
    what all share, the gradients of weight and bias:

        =============================================  ===============================================
        case                                           gradient
        =============================================  ===============================================
        loss inf: no path fits, or none has a          of its hidden states exactly 0; no part in that
        probability                                    of weight and bias
        loss NaN: a logit is NaN or +inf               NaN for its hidden states up to the length, and
                                                       for all of weight and bias, as without fusing
        frames beyond the length                       not read, no work; of hidden exactly 0
        an input that requires no gradient             not computed
        =============================================  ===============================================

        Where scores and not lengths leave no path, as with a bias of -inf for a label, forward sweeps over the logits
        a second time, without such utterances.

    Notes:
        Under `torch.autocast` products are in its dtype, as those of `linear`; so they are where hidden is in half
        precision. Softmax, recursion, and the sums of weight's and bias's gradients over chunks, are in float32
        (float64 for float64) and rounded once to the dtype of their tensor. So is a target's part of the gradients.

        Memory beside the gradients, in float32 until they are done: a chunk; while forward runs T * N * K numbers
        twice, and once until backward; K is the next multiple of 16 above 1 + min(longest target, C - 1). What forward
        has of the gradients becomes the result of the first backward; a second one, with retain_graph, computes them
        again, to the same bits. Without a gradient, as under `no_grad`, there is a chunk, and T * N * K numbers. A
        chunk's memory is kept for the next call.

        `torch.compile(fullgraph=True)` takes it into a graph; there the gradients are copied once more. Under
        `torch.func.grad` all logits are made twice; `vmap` and `is_grads_batched` have no rule for it.

        On a GPU rows go through PyTorch's operations, those beyond a length too, and K is S + 1. Where a gradient is
        asked for forward waits once, to learn whether scores have left an utterance without a path, and for
        concatenated targets once for the longest; while a graph is captured all logits are made twice instead. Bad
        lengths and labels that lie there give that utterance a loss of NaN and a gradient of 0.

        Products are PyTorch's, by MKL, cuBLAS or another BLAS, and their bits are its affair: as a rule the same on
        every run with the same shapes, chunk_bytes and number of threads, while another batch or chunk rounds
        otherwise. Whatever else is done is the same for any number of threads.

    References:
        Graves, Fernandez, Gomez, Schmidhuber: Connectionist Temporal Classification. ICML 2006, section 4, equation 16.

    Example:
        Two frames, three classes, all equally likely. Three of nine paths become [1]: (1, 1), (0, 1), (1, 0).

        >>> import torch, numbactc
        >>> hidden, weight = torch.ones(2, 1, 1), torch.zeros(3, 1, requires_grad=True)
        >>> loss = numbactc.linear_ctc_loss(hidden, weight, None, torch.tensor([[1]]), [2], [1])
        >>> print(f"{loss.item():.4f}")  # log 3
        1.0986
        >>> loss.backward()
        >>> print(weight.grad[:, 0] + 0.0)  # 2/3 - 2/3, 2/3 - 4/3, 2/3 - 0
        tensor([ 0.0000, -0.6667,  0.6667])
    """
    _validation.check_reduction(reduction)
    batch = _validation.as_batch("hidden", hidden, batch_first, "H")
    dtype = _validation.check_projection(batch, weight, bias)
    chunk_bytes = _validation.check_positive("chunk_bytes", chunk_bytes)
    unbatched = hidden.dim() == 2
    rest = targets, input_lengths, target_lengths, blank, unbatched, reduction, zero_infinity, dtype, chunk_bytes
    if torch.compiler.is_compiling():
        result = _ops_head.linear_ctc(batch, weight, bias, *rest)
    else:
        result = _autograd_head.linear_ctc(batch, weight, bias, _head.prepare(batch, weight, *rest))
    return result.squeeze(0) if unbatched and reduction == "none" else result


class LinearCTCLoss(nn.Linear):
    """A model's last layer and its loss: `numbactc.linear_ctc_loss` with the parameters of `torch.nn.Linear`.

    In the place of a `torch.nn.Linear` and a loss; a state dict of that layer fits. Decoding asks for `logits`.

    Args:
        in_features: H.
        num_classes: C, with the blank.
        bias: whether there is one.
        blank, reduction, zero_infinity, batch_first, chunk_bytes: as there.
        device, dtype: of the parameters.

    Attributes:
        weight, bias: parameters (C, H) and (C,), initialised as those of `torch.nn.Linear`.

    Example:
        >>> import torch, numbactc
        >>> head = numbactc.LinearCTCLoss(4, 3, batch_first=True)
        >>> hidden = torch.randn(1, 2, 4)  # (N, T, H)
        >>> loss = head(hidden, torch.tensor([[1]]), [2], [1])
        >>> loss.backward()
        >>> print(head.weight.grad.shape, head.logits(hidden).shape)
        torch.Size([3, 4]) torch.Size([1, 2, 3])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        bias: bool = True,
        blank: int = 0,
        reduction: str = "mean",
        zero_infinity: bool = False,
        *,
        batch_first: bool = False,
            chunk_bytes: int = CHUNK_BYTES,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes, bias, device, dtype)
        _validation.check_reduction(reduction)
        self.blank = blank
        self.reduction = reduction
        self.zero_infinity = zero_infinity
        self.batch_first = batch_first
        self.chunk_bytes = _validation.check_positive("chunk_bytes", chunk_bytes)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, num_classes={self.out_features}, bias={self.bias is not None}, "
            f"blank={self.blank}, reduction={self.reduction!r}, zero_infinity={self.zero_infinity}, "
            f"batch_first={self.batch_first}, chunk_bytes={self.chunk_bytes}"
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """What a decoder takes: (..., C) for hidden states (..., H)."""
        return super().forward(hidden)

    def forward(  # type: ignore[override]
        self, hidden: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths
    ) -> Tensor:
        """See `numbactc.linear_ctc_loss`."""
        return linear_ctc_loss(
            hidden, self.weight, self.bias, targets, input_lengths, target_lengths, self.blank, self.reduction,
            self.zero_infinity, batch_first=self.batch_first, chunk_bytes=self.chunk_bytes,
        )  # fmt: skip

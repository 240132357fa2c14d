"""Models that exist already: `patch_torch` puts numbactc's loss in the place of PyTorch's, and takes it out again."""

import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from numbactc import _ops, loss
from numbactc._validation import REDUCTIONS, Lengths, NoClass

_lock = threading.Lock()
_patches = 0
"""How many have not been undone."""
_torchs: Callable[..., Tensor] = torch.ctc_loss
"""What was there before the first of them."""
_reasons: set[str] = set()
"""For which PyTorch's own loss ran, with a warning."""
_NUMBERS = dict(enumerate(REDUCTIONS))


class TorchPatch:
    """What `patch_torch` returns. As a context manager it is undone at the end."""

    def __init__(self) -> None:
        global _patches, _torchs
        with _lock:
            if _patches == 0:
                _torchs, torch.ctc_loss = torch.ctc_loss, _replacement()
            _patches += 1
        self._undone = False

    def undo(self) -> None:
        """End this patch; when none is left PyTorch's loss is what it was. A second call does nothing.

        Raises:
            RuntimeError: `torch.ctc_loss` is somebody else's by now, who has to go first; the patch stays.
        """
        global _patches
        with _lock:
            if self._undone:
                return
            if _patches == 1:
                if torch.ctc_loss is not _replacement():
                    raise RuntimeError(f"torch.ctc_loss has been replaced since patch_torch(), by {torch.ctc_loss!r}")
                torch.ctc_loss = _torchs
            _patches -= 1
            self._undone = True

    def __enter__(self) -> "TorchPatch":
        if self._undone:
            raise RuntimeError("this patch has been undone: call patch_torch() for another")
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


def patch_torch() -> TorchPatch:
    """Let models that call PyTorch's CTC loss use numbactc's, with no change of their code.

    From here on `torch.nn.functional.ctc_loss`, however it was imported, `torch.nn.CTCLoss`, modules that exist already
    included, and `torch.ctc_loss` run `numbactc.ctc_loss`. The last is what is replaced, for the others call it.

    The patch holds in the whole process, in all its threads, until `undo` or the end of a `with` block; without either,
    to the end of the process. Patches may be nested and undone in any order: the last one undone restores PyTorch's.
    Each process of a distributed training needs its own.

    Arguments, reductions and the loss's dtype are PyTorch's, and so is the gradient of whatever makes the
    log-probabilities, if they are normalised, as after `log_softmax`. Different are, on purpose:

        =======================================  =================================  ==================================
        case                                     PyTorch                            patched
        =======================================  =================================  ==================================
        gradient of log_probs themselves         softmax minus posterior            minus posterior
        scores that are not normalised           trained as if they were            the true derivative of the loss
        no path fits                             inf, gradient NaN                  inf, gradient 0
        bfloat16, float16; an empty batch        NotImplementedError, RuntimeError  as `numbactc.ctc_loss`
        a label that is no class, on a CPU       memory out of bounds is read       RuntimeError
        labels or lengths out of range, or the   unchecked, or RuntimeError         loss NaN, gradient 0
        blank as a label, on a GPU
        deterministic algorithms, on a GPU       RuntimeError                       as always, the same bits
        =======================================  =================================  ==================================

    Other calls that numbactc refuses are PyTorch's, which raises its own errors, or runs: then one warning for each
    reason says so. It runs for scores on other devices, labels equal to the blank, integers of 8 or 16 bits, and for
    what is traced, by `torch.jit.trace` or `make_fx`. Under `torch.compile` there is a break of the graph at this loss,
    as there is without the patch, and between graphs it is numbactc that runs; `numbactc.ctc_loss` itself has none.
    Scripts of `torch.jit.script` and C++ have PyTorch's loss.

    Returns:
        A patch: call its `undo`, or use it in a `with` statement.

    Example:
        >>> import torch, numbactc
        >>> criterion = torch.nn.CTCLoss(reduction="sum")
        >>> log_probs = torch.zeros(2, 1, 3).log_softmax(-1).requires_grad_()
        >>> with numbactc.patch_torch():
        ...     loss = criterion(log_probs, torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1]))
        >>> print(f"{loss.item():.4f}")  # log 3, by numbactc
        1.0986
    """
    return TorchPatch()


@cache
def _replacement() -> Callable[..., Tensor]:
    """What `torch.ctc_loss` becomes.

    torch.compile must not look into it, as it does not look into PyTorch's own once a graph has ended there; for
    torch.jit.script it is a name of PyTorch's operator.
    """
    function: Callable[..., Tensor] = torch.compiler.disable(_ctc_loss)
    torch.jit._builtins._register_builtin(function, "aten::ctc_loss")
    return function


def _ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: int = 1,
    zero_infinity: bool = False,
) -> Tensor:
    """As `torch.ctc_loss`, whose reduction is a number."""
    tensors = log_probs, targets, input_lengths, target_lengths
    options = blank, reduction, zero_infinity
    if has_torch_function_variadic(*tensors):
        result: Tensor = handle_torch_function(_replacement(), tensors, *tensors, *options)
        return result
    if torch._C._is_tracing() or (isinstance(log_probs, Tensor) and _ops.is_watched(log_probs)):
        return _torchs_own("a trace can hold PyTorch's operators only", *tensors, *options)
    try:
        return loss.ctc_loss(*tensors, blank, _NUMBERS.get(reduction, str(reduction)), zero_infinity)
    except NoClass as error:
        raise RuntimeError(str(error)) from error  # to PyTorch it would be an index
    except (TypeError, ValueError, NotImplementedError, ModuleNotFoundError) as error:
        return _torchs_own(str(error), *tensors, *options)


def _torchs_own(reason: str, *arguments: Any) -> Tensor:
    result = _torchs(*arguments)
    kind = reason.partition(", got ")[0]  # without the value, which may be another one each time
    with _lock:
        is_new = kind not in _reasons
        _reasons.add(kind)
    if is_new:
        warnings.warn(f"PyTorch's CTC loss runs in place of numbactc's: {reason}", stacklevel=2)
    return result

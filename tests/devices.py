"""The same tests on another device: what goes into a loss or an alignment moves there, what comes out moves back.

    pytest                              on the CPU; small ones also on a GPU that is simulated: see simulated.py
    pytest --devices cpu,cuda           tests that use the fixture `device` run once on each

A test need not know. It passes tensors on the CPU and gets its losses and gradients there; between the two everything,
lengths and targets included, is on the device, with the strides that the test chose.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from threading import Thread
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

DEVICES = ("cpu", "simulated", "cuda")

GPU = "cuda"

CAN_SIMULATE = all(find_spec(module) for module in ("numba_cuda", "greenlet"))


class Move(Function):
    """To a device and, for the gradient, back again; strides stay as they are, gaps and all."""

    @staticmethod
    def forward(tensor: Tensor, device: str) -> Tensor:
        return move(tensor, device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].cpu(), None


def move(tensor: Tensor, device: str) -> Tensor:
    # in a graph that is being made no one can be asked for a pending negation
    if torch.compiler.is_compiling() or tensor.is_neg() or tensor.is_conj():
        return tensor.to(device)
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    flat = tensor.as_strided((extent if tensor.numel() else 0,), (1,))
    return flat.to(device).as_strided(tensor.shape, tensor.stride())


def integers_on_cuda(*integers: Any) -> list[Any]:
    return [
        move(each, GPU) if isinstance(each, Tensor) and each.device.type == "cpu" else each for each in integers
    ]


def on_cuda(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`numbactc.loss._loss` with everything that is on the CPU moved to the GPU for it, and its result back."""

    def moved(name: str, scores: Any, targets: Any, input_lengths: Any, target_lengths: Any, *options: Any) -> Tensor:
        integers = integers_on_cuda(targets, input_lengths, target_lengths)
        if isinstance(scores, Tensor) and scores.device.type == "cpu" and scores.is_floating_point():
            # Dynamo makes an instance of an autograd function, of which PyTorch warns
            to_cuda: Any = move if torch.compiler.is_compiling() else Move.apply
            scores = to_cuda(scores, GPU)
        return loss(name, scores, *integers, *options).cpu()

    return moved


def linear_on_cuda(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`numbactc.linear_ctc_loss` likewise."""

    def moved(hidden: Any, weight: Any, bias: Any, *rest: Any, **options: Any) -> Tensor:
        to_cuda: Any = Move.apply
        given = hidden, weight, bias
        tensors = [to_cuda(x, GPU) if isinstance(x, Tensor) and x.device.type == "cpu" else x for x in given]
        return loss(*tensors, *integers_on_cuda(*rest[:3]), *rest[3:], **options).cpu()

    return moved


def align_on_cuda(scores: Tensor, *rest: Any) -> None:
    """`numbactc._dispatch_alignment_cuda.align` with scores on the CPU moved to the GPU for it."""
    dispatch: Any = import_module("numbactc._dispatch_alignment_cuda")
    dispatch.align(move(scores, "cuda") if scores.device.type == "cpu" else scores, *rest)


def posteriors_on_cuda(posteriors: Callable[..., Any]) -> Callable[..., Any]:
    """`numbactc.posteriors` with everything that is on the CPU moved to the GPU for it, and its results back."""

    def moved(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *options: Any, **more: Any) -> Any:
        integers = integers_on_cuda(targets, input_lengths, target_lengths)
        scores = move(log_probs, "cuda") if isinstance(log_probs, Tensor) else log_probs
        found = posteriors(scores, *integers, *options, **more)
        return type(found)(*(tensor.cpu() for tensor in found))

    return moved


def in_two_threads(work: Callable[[], None]) -> None:
    """The same in two threads at once, to their end."""
    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

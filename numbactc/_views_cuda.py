"""Tensors on a GPU as kernels take them, addresses through DLPack, and how kernels are queued on the current stream.

Imported with the first tensor on a GPU, and imports Numba only where a kernel must be compiled.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from numbactc.kernels.cuda import launch
from numbactc.kernels.cuda.plan import Buffer, Launch

launch.require()  # before anything is imported that it would ask for

from cuda.core.utils import StridedMemoryView  # noqa: E402

DTYPE_NAMES = {getattr(torch, name): name for name in ("float32", "float64", "bfloat16", "float16")}


LARGEST = 1 << 30
"""Of the sizes that kernels count in 32 bits."""


def check_sizes(classes: int, labels: int) -> None:
    if max(classes, labels) > LARGEST:
        raise ValueError(f"on a GPU there must be at most 2**30 classes and as many labels, got {classes} and {labels}")


def on_its_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch exports, allocates and records on its current device; the scores, which come first, may be elsewhere."""

    @wraps(function)
    def there(scores: Tensor, *arguments: Any, **keywords: Any) -> Any:
        with torch.cuda.device(scores.device) if scores.is_cuda else nullcontext():
            return function(scores, *arguments, **keywords)

    return there


def queue(device: torch.device, launches: tuple[Launch, ...], arguments: dict[str, tuple[int, ...]]) -> None:
    """Launches in their order, on the device's current stream."""
    index = device.index
    # what torch.cuda.current_stream(device).cuda_stream gives, without making an object of it
    where = launch.Where(index, torch._C._cuda_getCurrentRawStream(index))
    for each in launches:
        launch.start(each, where, *arguments[each.kernel.name])


def readable(tensor: Tensor) -> Tensor:
    """DLPack would drop a pending negation, and refuses tensors that are part of a graph."""
    return tensor.detach().resolve_neg()


def address(tensor: Tensor) -> int:
    """Of the first element; of a tensor without elements, any."""
    place: int = StridedMemoryView.from_dlpack(tensor, stream_ptr=-1).ptr
    if place == 0 and tensor.numel():
        raise RuntimeError(f"numbactc found no memory behind a tensor on {tensor.device}: it is a fake one")
    return place


def addresses(workspace: Tensor, buffers: dict[str, Buffer]) -> dict[str, int]:
    start = address(workspace)
    return {name: start + buffer.offset for name, buffer in buffers.items()}


def integers(tensor: Tensor, dimensions: int) -> tuple[int, ...]:
    """The arguments for integers: address, whether they are int64, strides, that of rows 0 if there are none."""
    strides = tensor.stride()
    return address(tensor), int(tensor.dtype == torch.int64), *(0,) * (dimensions - len(strides)), *strides

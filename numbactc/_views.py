"""The memory of tensors on the CPU as the NumPy arrays that kernels take: no copies, any strides."""

import numpy as np
import torch
from torch import Tensor

from numbactc import _memory

# NumPy has no bfloat16 and Numba's CPU target no float16: kernels see their bits, as unsigned and signed integers
STORED_AS = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}


def as_array(tensor: Tensor) -> np.ndarray:
    # DLPack would drop a pending negation, and refuses tensors that are part of a graph
    return _shared(tensor.detach().resolve_neg())


def flat_view(scores: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The memory from the first score on as one flat array, and strides in elements: kernels take any layout."""
    scores = scores.detach()
    if scores.is_neg():
        scores = scores.resolve_neg()
    flat = scores.view(-1) if scores.is_contiguous() else scores.as_strided((_extent(scores),), (1,))
    stored = STORED_AS.get(scores.dtype)
    return _shared(flat if stored is None else flat.view(stored)), np.array(scores.stride(), np.int64)


def _shared(tensor: Tensor) -> np.ndarray:
    array = np.from_dlpack(tensor)
    if not array.flags.writeable:
        # NumPy before 2.1 takes everything that comes by DLPack for memory that must not be written
        array = tensor.numpy()
    return array


def _extent(scores: Tensor) -> int:
    """Elements from the first score to the last."""
    if scores.numel() == 0:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(scores.shape, scores.stride(), strict=True))


def recycled(purpose: str, size: int, dtype: torch.dtype) -> Tensor:
    """As `_memory.empty`: (size,), not initialised."""
    stored = STORED_AS.get(dtype, dtype)
    return torch.from_numpy(_memory.empty(purpose, (size,), str(stored).removeprefix("torch."))).view(dtype)

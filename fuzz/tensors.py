"""Tensors to be hostile with: extreme numbers, and every way in which their memory may lie."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fuzz.draws import Draws

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SPECIAL = (
    -math.inf, -math.inf, math.nan, math.inf, 0.0, -0.0, 1e-40, -5e-324, 1e-8, -88.0, -104.0, -745.0, 88.0, 710.0,
    1e4, -1e4, -65504.0, 1e6, -1e6, 1e9, -1e9, 1e30, -1e30, -3.4028234663852886e38,
)  # fmt: skip
"""Masks, numbers that are none, subnormals, ends of exp's range in float32 and float64, ends of dtypes."""

TAME = (-math.inf, math.nan, math.inf, 0.0, -0.0, 1e-40)
"""Those that products cannot make overflow."""


def values(draws: Draws, shape: tuple[int, ...], special: tuple[float, ...] = SPECIAL) -> Tensor:
    """Contiguous scores: normal ones of some spread, of which a few, or a whole frame, are special."""
    dtype = draws.choice(DTYPES)
    spread = draws.choice((1.0, 0.0, 0.1, 5.0, 30.0, 200.0, 1e4)) if special is SPECIAL else 1.0
    generator = draws.generator()
    drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) * spread).to(dtype)
    if draws.chance(4):
        drawn = drawn.log_softmax(-1) if drawn.numel() else drawn
    if drawn.numel() and draws.chance(2):
        for _ in range(draws.integer(1, 4)):
            _put(drawn.view(-1), draws, special)
    if len(drawn) and draws.chance(16):
        _put(drawn, draws, special)
    return drawn


def _put(drawn: Tensor, draws: Draws, special: tuple[float, ...]) -> None:
    """A special value somewhere; by way of a tensor, for some versions refuse numbers beyond half precision."""
    value = torch.tensor(draws.choice(special), dtype=torch.float64).to(drawn.dtype)
    drawn[draws.integer(0, len(drawn) - 1)] = value


def _expanded(plain: Tensor, dim: int) -> Tensor:
    """The first along a dimension in place of all; `plain` is made to agree."""
    if plain.shape[dim]:
        plain.copy_(plain.narrow(dim, 0, 1).expand_as(plain).clone())
        return plain.narrow(dim, 0, 1).clone().expand_as(plain)
    return plain


def _inside(plain: Tensor) -> Tensor:
    """A piece of something larger, with NaN around it."""
    around = plain.new_full([size + 3 for size in plain.shape], -1 if plain.dtype in INTEGERS else math.nan)
    piece = around[tuple(slice(1, 1 + size) for size in plain.shape)]
    return piece.copy_(plain)


def _every_third(plain: Tensor) -> Tensor:
    wide = plain.new_full((*plain.shape[:-1], 3 * plain.shape[-1]), -1 if plain.dtype in INTEGERS else math.nan)
    return wide[..., ::3].copy_(plain)


def _one_further(plain: Tensor) -> Tensor:
    """Not on a boundary of vectors, nor of lines of the cache."""
    return plain.new_zeros(plain.numel() + 1)[1:].view(plain.shape).copy_(plain)


def _read_only(plain: Tensor) -> Tensor:
    if plain.dtype == torch.bfloat16:
        return plain
    array = plain.numpy().copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)


def _reversed_memory(plain: Tensor) -> Tensor:
    dims = tuple(reversed(range(plain.dim())))
    return plain.permute(dims).contiguous().permute(dims)


def _negative_on_read(plain: Tensor) -> Tensor:
    """PyTorch's answer to a minus sign, as of the imaginary part of a conjugate: a bit, and memory of other numbers."""
    return torch._neg_view(-plain)


INTEGERS = (torch.int32, torch.int64)
Layout = Callable[[Tensor], Tensor]
LAYOUTS: tuple[Layout, ...] = (
    lambda plain: plain,
    lambda plain: plain.clone(),
    _reversed_memory,
    lambda plain: plain.transpose(0, -1).contiguous().transpose(0, -1),
    _inside,
    _every_third,
    _one_further,
    _read_only,
    _negative_on_read,
)
"""Each takes a contiguous tensor of at least one dimension and gives one of equal values."""


def laid_out(draws: Draws, plain: Tensor) -> Tensor:
    """Scores in some layout; an expanded one has other numbers, and `plain` has them then, too."""
    if draws.chance(10):
        return _expanded(plain, draws.integer(0, plain.dim() - 1))
    return draws.choice(LAYOUTS)(plain)


NO_SCORES: tuple[Callable[[Tensor], object], ...] = (
    lambda plain: None,
    lambda plain: plain.tolist(),
    lambda plain: np.zeros(plain.shape),
    lambda plain: "scores",
    lambda plain: plain.long(),
    lambda plain: plain > 0,
    lambda plain: torch.complex(plain.float(), plain.float()).conj(),
    lambda plain: plain.to(torch.float8_e5m2),
    lambda plain: plain.unsqueeze(0).unsqueeze(0),
    lambda plain: plain.reshape(-1),
    lambda plain: plain.sum(),
    lambda plain: plain.to_sparse(),
    lambda plain: plain.float().contiguous().to_mkldnn() if plain.numel() else None,
    lambda plain: plain.to("meta"),
    lambda plain: torch.nested.nested_tensor(list(plain), layout=torch.jagged) if len(plain) else None,
)
"""Each makes something of a tensor of scores that is not to be taken for scores."""

"""How the weights are moved: the learning rate, the averaged weights, the precision of the products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common.config import OptimConfig


def check(config: OptimConfig) -> None:
    """ValueError names a setting that cannot be."""
    if not 0 <= config.warmup < 1:
        raise ValueError(f"optim.warmup must be from 0 to less than 1, got {config.warmup}")
    if not config.clip >= 0:
        raise ValueError(f"optim.clip must not be negative, got {config.clip}")
    if not 0 <= config.average <= 1:
        raise ValueError(f"optim.average must be from 0 to 1, got {config.average}")


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to 0; ``progress`` is the share of the budget that is used, 0 to 1."""
    if progress < warmup:
        return peak * max(progress, 0.01 * warmup) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average whose memory grows with the run: it forgets the random start, then reaches ``decay``."""

    def update(averaged: list[Tensor], current: list[Tensor], steps: Tensor) -> None:
        weight = 1 - min(decay, (1 + steps.item()) / (10 + steps.item()))
        for a, b in zip(averaged, current, strict=True):
            a.lerp_(b, weight)

    return update


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to multiply in bfloat16; "auto" does where AMX tiles, or a GPU's cores, make it faster than float32."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"train.precision must be auto, float32 or bfloat16, got {precision!r}")
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))

"""The same checks for scores on a GPU, as far as they can be made without waiting for it.

Types, dtypes, shapes and devices are always known, and so are the values of what lies on the CPU. Labels and lengths
that lie on the GPU are checked by the first kernel: a bad one's utterance has a loss of NaN and a gradient of 0.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from numbactc import _validation


class DeviceTargets(NamedTuple):
    """What a batch asks for, on the device of the scores: int32 or int64, with any strides."""

    labels: Tensor
    """(N, S) padded or (M,) concatenated."""
    input_lengths: Tensor
    target_lengths: Tensor
    blank: int


def check_targets(
    scores: Tensor, targets: Any, input_lengths: Any, target_lengths: Any, blank: Any, unbatched: bool, check: bool
) -> DeviceTargets:
    """Targets and lengths for scores (T, N, C); with `check`, waits for the GPU and looks at every value."""
    frames, batch, classes = scores.shape
    given = {"targets": targets, "input_lengths": input_lengths, "target_lengths": target_lengths}
    on_gpu = {name for name, value in given.items() if _is_on_gpu(name, value, scores)}
    if check and _is_capturing(scores.device):
        raise RuntimeError("check=True waits for the GPU, which cannot be done while a graph is captured")
    if check or not on_gpu:
        _validation.check_targets(scores, targets, input_lengths, target_lengths, blank, unbatched, elsewhere=True)
    blank = _validation.check_blank(blank, classes)
    for name in ("input_lengths", "target_lengths"):
        given[name] = (_gpu_lengths if name in on_gpu else _validation.check_lengths)(
            name, given[name], batch, unbatched
        )
    labels = _validation.check_targets_type(targets)
    longest = _validation.width_of(labels, batch, unbatched)
    if "input_lengths" not in on_gpu:
        _validation.check_range("input_lengths", given["input_lengths"], frames, "T")
    if "target_lengths" not in on_gpu:
        _validation.check_range("target_lengths", given["target_lengths"], longest, "S, the width of targets")
        if longest is None:
            _validation.check_total(labels, given["target_lengths"], unbatched)
    given["targets"] = labels.reshape(1, -1) if unbatched else labels
    if len(on_gpu) < len(given):
        _upload(given, on_gpu, scores.device)
    return DeviceTargets(given["targets"], given["input_lengths"], given["target_lengths"], blank)


def _is_on_gpu(name: str, value: Any, scores: Tensor) -> bool:
    if not isinstance(value, Tensor) or value.device.type == "cpu":
        return False
    if value.device != scores.device:
        raise ValueError(f"{name} must be on {scores.device}, as the scores are, or on cpu, got {value.device}")
    return True


def _gpu_lengths(name: str, lengths: Tensor, batch: int, unbatched: bool) -> Tensor:
    lengths = _validation.check_integers(name, lengths)
    if unbatched and lengths.dim() == 0:
        lengths = lengths.reshape(1)
    _validation.check_lengths_shape(name, lengths.shape, batch)
    return lengths


def _is_capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _upload(given: dict[str, Any], on_gpu: set[str], device: torch.device) -> None:
    """Bring what lies on the CPU to the device in one copy, from pinned memory, which nothing has to wait for.

    The copy has left the caller's tensors before it is queued, so they may be refilled at once.
    """
    if _is_capturing(device):
        names = " and ".join(name for name in given if name not in on_gpu)
        raise RuntimeError(
            f"{names} must be on {device} while a graph is captured: a graph would replay the copy from the CPU, "
            "not the values"
        )
    values = {name: torch.as_tensor(value) for name, value in given.items() if name not in on_gpu}
    sizes = [value.numel() for value in values.values()]
    pinned = torch.empty(sum(sizes), dtype=torch.int64, pin_memory=device.type == "cuda")
    for part, value in zip(pinned.split(sizes), values.values(), strict=True):
        part.copy_(value.reshape(-1))
    uploaded = pinned.to(device, non_blocking=True).split(sizes)
    for (name, value), part in zip(values.items(), uploaded, strict=True):
        given[name] = part.reshape(value.shape)

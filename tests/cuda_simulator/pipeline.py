"""The whole loss through the CUDA kernels of a plan, on simulated memory: what the host side does on a GPU."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cuda_simulator.machine import launch
from cuda_simulator.memory import Buffer, Pointer, poison
from numbactc.kernels.cuda import build, plan

STORED_AS = {torch.bfloat16: torch.uint16, torch.float16: torch.uint16}
ITEM_TYPES = {
    "facts": np.int32, "outcomes": np.int32, "starts": np.int64, "order": np.int32, "classes": np.int32,
    "begins": np.int32, "class_counts": np.int32, "labels": np.int32, "sums": np.float64, "exponents": np.int32,
}  # fmt: skip
"""The others are of the type of the arithmetic."""


class Result(NamedTuple):
    losses: Tensor
    """(N,) float64"""
    outcomes: list[int]
    gradient: Tensor | None
    """(T, N, C), of the sum of losses times grad_losses, in the dtype of the scores."""


def flat(tensor: Tensor) -> np.ndarray:
    """The memory from a tensor's first element on, in a dtype that NumPy has."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    memory = tensor.as_strided((extent if tensor.numel() else 0,), (1,))
    return memory.view(STORED_AS.get(tensor.dtype, tensor.dtype)).numpy().copy()


def integers(tensor: Tensor, name: str) -> tuple[Buffer, int]:
    """Memory as int32, and whether each integer is two of them."""
    array = flat(tensor)
    return Buffer(array.view(np.int32), name, written=True), int(array.dtype == np.int64)


def ctc(
    scores: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    *,
    normalise: bool,
    form: int | None = None,
    grad_losses: Tensor | None = None,
    seed: int = 0,
    lattice: tuple[int, int, int] | None = None,
) -> Result:
    """Losses, and a gradient if grad_losses (N,), float64, are given.

    Args:
        scores: (T, N, C), any strides.
        form: of targets, as `prepare` has it; by their number of dimensions if None.
        lattice: (pairs a lane, tiled, warps) other than the plan's own.
    """
    T, N, C = scores.shape
    dtype = str(scores.dtype).removeprefix("torch.")
    form = form if form is not None else 0 if targets.dim() == 2 else 1
    width = targets.shape[-1]
    call = plan.Call(T, N, C, width, form > 0, dtype, normalise, grad_losses is not None)
    what = _with_lattice(plan.plan(call), lattice)
    real = np.dtype(plan.real_of(dtype))
    memory = {
        name: Buffer(np.empty(buffer.size, np.uint8).view(ITEM_TYPES.get(name, real)), name)
        for name, buffer in [*what.saved.items(), *what.scratch.items()]
    }
    stored = Buffer(flat(scores), "scores", written=True)
    strides = scores.stride()
    row_arguments = [
        stored, *strides, int(plan.is_aligned(0, (strides[0], strides[1], strides[2]), dtype)),
        int(strides[0] < strides[1]), T, N, C, blank, int(normalise),
    ]  # fmt: skip
    memory["losses"] = Buffer(np.empty(N), "losses")
    label_buffer, labels_wide = integers(targets, "targets")
    frames_buffer, frames_wide = integers(input_lengths, "input_lengths")
    counts_buffer, counts_wide = integers(target_lengths, "target_lengths")
    stride_n, stride_s = targets.stride() if targets.dim() == 2 else (0, targets.stride(0))
    lattice_arguments = [
        T, C, blank, int(normalise), int(what.table), int(call.keep),
        *(memory[name] for name in (
            "facts", "starts", "labels", "row_stats", "emissions", "states", "sums", "posteriors", "exponents",
            "blanks", "order", "classes", "begins", "class_counts", "outcomes", "losses",
        )),
    ]  # fmt: skip
    arguments: dict[str, list[Any]] = {
        "prepare": [
            label_buffer, labels_wide, stride_n, stride_s,
            frames_buffer, frames_wide, input_lengths.stride(0), counts_buffer, counts_wide, target_lengths.stride(0),
            T, N, C, width, blank, form, memory["facts"], memory["starts"], memory["labels"],
        ],
        "rows_forward": [
            *row_arguments, int(what.table),
            *(memory[name] for name in ("facts", "starts", "labels", "row_stats", "emissions")),
        ],
        "lattice_outer": lattice_arguments,
        "lattice_inner": lattice_arguments,
    }  # fmt: skip
    for k, step in enumerate(what.forward):
        _launch(step, arguments[step.kernel.name], seed + k)
    for name in what.scratch:
        poison(memory[name].array)
    losses, outcomes = torch.from_numpy(memory["losses"].array), memory["outcomes"].array.tolist()
    if grad_losses is None:
        return Result(losses, outcomes, None)
    gradient = Buffer(np.empty(T * N * C, stored.array.dtype), "gradient")
    for step in what.backward:
        grad_buffer = Buffer(flat(grad_losses), "grad_losses", written=True)
        saved = (
            "facts", "starts", "row_stats", "posteriors", "order", "classes", "begins", "class_counts", "outcomes",
        )  # fmt: skip
        backward = [
            *row_arguments, *(memory[name] for name in saved), grad_buffer, grad_losses.stride(0), gradient, N * C, C,
        ]  # fmt: skip
        _launch(step, backward, seed + 10)
    assert all(gradient.written), "part of the gradient was left unwritten"
    return Result(losses, outcomes, torch.from_numpy(gradient.array).view(scores.dtype).view(T, N, C))


def _with_lattice(what: plan.Plan, lattice: tuple[int, int, int] | None) -> plan.Plan:
    if lattice is None:
        return what
    pairs, tiled, warps = lattice
    forward = tuple(
        step
        if not step.kernel.name.startswith("lattice")
        else plan.Launch(
            plan.Kernel(step.kernel.name, (step.kernel.options[0], pairs, tiled)), step.grid, warps * plan.WARP
        )
        for step in what.forward
    )
    scratch = dict(what.scratch)
    scratch["states"] = plan.Buffer(0, 3 * scratch["states"].size)
    return what._replace(forward=forward, scratch=scratch)


def _launch(step: plan.Launch, arguments: list[Any], seed: int) -> None:
    function, argument_types = build.build(step.kernel)
    whole = [Pointer(argument) if isinstance(argument, Buffer) else argument for argument in arguments]
    launch(function, argument_types, step.grid, step.block, whole, seed)

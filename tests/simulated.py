"""A GPU that is not there: the host's own code for one, with the CUDA kernels' own source run by `cuda_simulator`.

    pytest --devices simulated tests/test_edge_cases.py

Tensors stay on the CPU and are taken for tensors on a GPU, lengths and targets too. What is replaced: the choice of the
device, what lies where, and the launch. Allocation, arguments, addresses, plans, autograd and reductions are the real
ones.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numba.types import CPointer
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from cuda_simulator import Buffer, Pointer, launch
from numbactc import (
    _devices,
    _dispatch_alignment,
    _dispatch_alignment_cuda,
    _dispatch_cuda,
    _validation_cuda,
    _views_cuda,
)
from numbactc.kernels.cuda import build, plan

cached_build = cache(build.build)


class Memory:
    """What lies at the addresses that the host gives to kernels."""

    def __init__(self) -> None:
        self.tensors: dict[int, Tensor] = {}
        """Scores, targets, lengths, results, until the launches are done."""
        self.workspaces: dict[int, tuple[Tensor, plan.Buffer]] = {}
        """Parts of workspaces, until the launches are done."""
        self.parts: Any = WeakTensorKeyDictionary()
        """For each workspace that still exists, what was written to each of its parts."""
        self.is_forward = True
        self.seed = 0
        """Of the order in which threads run."""

    def address(self, tensor: Tensor) -> int:
        address = tensor.data_ptr()
        if tensor.numel():
            self.tensors[address] = tensor
        return address

    def addresses(self, workspace: Tensor, buffers: dict[str, plan.Buffer]) -> dict[str, int]:
        """Empty parts lie nowhere, and not where the next one begins, lest someone write to them unseen."""
        start, found = workspace.data_ptr(), {}
        for name, buffer in buffers.items():
            found[name] = start + buffer.offset if buffer.size else 0
            if buffer.size:
                self.workspaces[found[name]] = workspace, buffer
        return found

    def queue(self, device: object, launches: tuple[plan.Launch, ...], arguments: dict[str, tuple[int, ...]]) -> None:
        self.is_forward = any(step.kernel.name == "prepare" for step in launches)
        for seed, step in enumerate(launches, self.seed):
            function, argument_types = cached_build(step.kernel)
            given = arguments[step.kernel.name]
            assert len(given) == len(argument_types)
            whole = [
                Pointer(self.buffer(argument, kind)) if isinstance(kind, CPointer) else argument
                for argument, kind in zip(given, argument_types, strict=True)
            ]
            launch(function, argument_types, step.grid, step.block, whole, seed)
        self.tensors.clear()
        self.workspaces.clear()

    def buffer(self, address: int, kind: Any) -> Buffer:
        """The memory at an address, as elements of the pointer's type."""
        dtype = np.dtype(str(kind.dtype))
        if address in self.workspaces:
            workspace, part = self.workspaces[address]
            written = self.parts.setdefault(workspace, {})
            if part.offset not in written:
                memory = workspace.numpy()[part.offset : part.offset + part.size].view(dtype)
                # a workspace that backward has not seen is a copy of one that forward has written
                written[part.offset] = Buffer(memory, f"workspace at {part.offset}", written=not self.is_forward)
            known: Buffer = written[part.offset]
            assert known.array.dtype == dtype
            return known
        if address in self.tensors:
            tensor = self.tensors[address].detach()
            extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            memory = tensor.as_strided((extent,), (1,)).view(torch.uint8).numpy().view(dtype)
            return Buffer(memory, f"tensor of {tensor.dtype}", written=True)
        return Buffer(np.empty(0, dtype), "no memory")


def install(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Send every loss and alignment of CPU tensors there; returns the memory that kernels find."""
    memory, really_on_gpu = Memory(), _validation_cuda._is_on_gpu

    def is_on_gpu(name: str, value: Any, scores: Tensor) -> bool:
        if isinstance(value, Tensor) and value.device.type == "cpu":
            return True
        return really_on_gpu(name, value, scores)

    monkeypatch.setattr(_devices, "of", lambda scores: _dispatch_cuda)
    monkeypatch.setattr(_dispatch_alignment, "_aligner", lambda scores: _dispatch_alignment_cuda.align)
    monkeypatch.setattr(_validation_cuda, "_is_on_gpu", is_on_gpu)
    monkeypatch.setattr(_views_cuda, "address", memory.address)
    monkeypatch.setattr(_views_cuda, "addresses", memory.addresses)
    monkeypatch.setattr(_views_cuda, "queue", memory.queue)
    return memory

"""The processes of a run: one, or those that torchrun started on one machine or many, and what they tell each other.

Gradients are added up here, once a step, and not by DistributedDataParallel: it averages over processes where a step
needs the mean over utterances, and waits for all of them in every batch, where the last step of an epoch has some
without one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

WAIT = timedelta(minutes=30)  # for a process that neither answers nor ends; the first one scores the dev set meanwhile


class Lost(RuntimeError):
    """Another process of the run has ended."""


class Processes:
    """This process among ``count``; ``rank`` 0 is the first, which alone writes files."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.first = self.rank == 0

    def device(self, wanted: str) -> torch.device:
        """The device of ``train.device``; of several GPUs, each process of a machine takes its own."""
        found = torch.cuda.is_available()
        name = ("cuda" if found else "cpu") if wanted == "auto" else wanted
        if name == "cuda" and self.count > 1:
            name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        kind, _, number = name.partition(":")
        valid = name == "cpu" or (kind == "cuda" and found and int(number or 0) < torch.cuda.device_count())
        if not valid:
            there = ", ".join(["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))])
            raise ValueError(f"train.device must be auto, cuda or one of {there}, got {wanted!r}")
        return torch.device(name)

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Inside, the processes can talk. One that ends early makes the others raise Lost."""
        self.place = device
        if self.count > 1:
            if device.type == "cuda":
                torch.cuda.set_device(device)
            with self._talking():
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=WAIT)
        yield
        if self.count > 1:
            dist.destroy_process_group()

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            told = f"process {self.rank} of {self.count} cannot reach the others; has one of them ended? {error}"
            raise Lost(told) from error

    def total(self, *numbers: float) -> list[float]:
        """The sum of each number over all processes, in float64."""
        if self.count == 1:
            return list(numbers)
        with self._talking():
            values = torch.tensor(numbers, dtype=torch.float64, device=self.place)
            dist.all_reduce(values)
            result: list[float] = values.tolist()
        return result

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Every ``.grad`` becomes its sum over all processes; a process without one counts as zero."""
        if self.count == 1:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        with self._talking():
            dist.all_reduce(flat)
            parts = flat.split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def from_first(self, thing: Any) -> Any:
        """What the first process calls this with."""
        if self.count == 1:
            return thing
        things = [thing]
        with self._talking():
            dist.broadcast_object_list(things, device=self.place)
        return things[0]

    def everyone(self, thing: Any) -> list[Any]:
        """What each process calls this with, by rank."""
        things = [thing] * self.count
        if self.count > 1:
            with self._talking():
                dist.all_gather_object(things, thing)
        return things

"""Decisions out of a row of bytes, so that a fuzzer that changes bytes changes decisions."""

from collections.abc import Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")


class Draws:
    """Decisions from the first byte on; behind the last byte each is the first of its choices."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        size = 1 if high - low < 1 << 8 else 2
        taken = self._data[self._place : self._place + size]
        self._place += size
        return low + int.from_bytes(taken, "little") % (high - low + 1)

    def choice(self, items: Sequence[Item]) -> Item:
        return items[self.integer(0, len(items) - 1)]

    def chance(self, one_in: int) -> bool:
        return self.integer(0, one_in - 1) == one_in - 1

    def generator(self) -> torch.Generator:
        """Of random numbers, for what is too large to be drawn number by number."""
        return torch.Generator().manual_seed(self.integer(0, (1 << 16) - 1))

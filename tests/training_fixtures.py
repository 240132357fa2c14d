"""Fixtures of every recipe's tests: its conftest imports them, and they are in force for each test below it."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def poison_unwritten_memory() -> None:
    """Not here: filling every allocation of a training run with garbage takes minutes and tests nothing of it."""


@pytest.fixture(autouse=True)
def keep_the_number_of_threads() -> Iterator[None]:
    """``train.threads`` sets that of the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)

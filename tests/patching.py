"""What tests of `patch_torch` share: PyTorch's own loss, and fixtures that its files import."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from batches import Batch, random_batch
from numbactc import integrations, loss

TORCHS = torch.ctc_loss


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other tests were warned of is new again, and PyTorch's loss is its own in the end."""
    monkeypatch.setattr(integrations, "_reasons", set())
    yield
    assert torch.ctc_loss is TORCHS


@pytest.fixture(name="calls")
def calls_of_ours(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each call of numbactc's loss."""
    made: list[str] = []
    ours = loss.ctc_loss

    def counted(*arguments: Any, **keywords: Any) -> Tensor:
        made.append("ctc_loss")
        return ours(*arguments, **keywords)

    monkeypatch.setattr(loss, "ctc_loss", counted)
    return made


@pytest.fixture(name="batch")
def small_batch() -> Batch:
    return random_batch(12, 3, 6, 4)


def functional(*arguments: Any, **options: Any) -> Tensor:
    return nn.functional.ctc_loss(*arguments, **options)

"""What tests of `patch_torch` share: PyTorch's own loss, calls of ours counted, and nothing left patched."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from numbactc import integrations, loss

TORCHS = torch.ctc_loss


def leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a fixture: what other tests were warned of is new again, and PyTorch's loss is its own in the end."""
    monkeypatch.setattr(integrations, "_reasons", set())
    yield
    assert torch.ctc_loss is TORCHS


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each call of numbactc's loss."""
    made: list[str] = []
    ours = loss.ctc_loss

    def counted(*arguments: Any, **keywords: Any) -> Tensor:
        made.append("ctc_loss")
        return ours(*arguments, **keywords)

    monkeypatch.setattr(loss, "ctc_loss", counted)
    return made


def functional(*arguments: Any, **options: Any) -> Tensor:
    return nn.functional.ctc_loss(*arguments, **options)

"""The recipe's modules are scripts in a folder: its tests put that folder on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "ocr"))

import settings
from common.config import overridden
from settings import Config
from training_fixtures import keep_the_number_of_threads, poison_unwritten_memory  # noqa: F401


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Makes the settings of a run of seconds; data/ and exp/ go under the test's own folder."""
    monkeypatch.setattr(settings, "RECIPE", tmp_path)

    def make(*overrides: str) -> Config:
        words = [
            "name=tiny", "images.height=16", "model.channels=8,16", "model.rows=2,2", "model.columns=2,1",
            "model.layers=1", "model.hidden=24", "train.batch_columns=1500", "train.precision=float32",
            "train.threads=1", "decode.methods=greedy",
        ]  # fmt: skip
        return overridden(Config(), [*words, *overrides])

    return make

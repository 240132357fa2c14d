"""The recipe's modules are scripts in a folder: its tests put that folder on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "librispeech"))

import config as configs
from common.config import overridden
from tones import TEXTS, write_corpus
from training_fixtures import keep_the_number_of_threads, poison_unwritten_memory  # noqa: F401


@pytest.fixture
def recipe_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/ and exp/ go under the test's own folder."""
    monkeypatch.setattr(configs, "RECIPE", tmp_path)
    return tmp_path


@pytest.fixture
def tiny(recipe_home: Path) -> Callable[..., configs.Config]:
    """Makes the settings of a run of seconds, with a corpus of tones for train, dev and test."""

    def make(*overrides: str) -> configs.Config:
        root = recipe_home / "corpus"
        if not root.exists():
            for subset in ("train", "dev", "test"):
                write_corpus(root, subset, TEXTS)
        words = [
            "name=tiny", f"data.root={root}", "model.hidden=24", "model.channels=24", "model.layers=1", "optim.lr=1e-2",
            "features.n_mels=20", "features.freq_width=2", "features.time_width=2", "optim.average=0.8",
            "train.batch_seconds=4", "train.precision=float32", "model.dropout=0.1", "decode.methods=greedy",
        ]  # fmt: skip
        return overridden(configs.Config(), [*words, *overrides])

    return make

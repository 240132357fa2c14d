"""A checkpoint of random weights: enough for all that does not depend on what a model has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import loading
from common import checkpoint
from config import Config
from prepare import prepare_subset
from vocabulary import read_tokens


def untrained(config: Config, seed: int = 0) -> Path:
    """Manifests of every set, and best.pt of a model whose scores are far from flat."""
    for subset in dict.fromkeys(config.data.train + config.data.dev + config.data.test):
        prepare_subset(subset, config)
    torch.manual_seed(seed)
    tokens = read_tokens(config)
    model = loading.build_model(config, tokens)
    with torch.no_grad():
        model.head.weight *= 5
        model.head.bias[tokens.encode(" ")[0]] += 3.0  # or there would hardly be words
    config.exp.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"config": config.to_dict(), "tokens": tokens.state(), "model": model.state_dict()}
    if config.features.normalise == "global":
        content["statistics"] = torch.rand(2, config.features.n_mels) + 1
    checkpoint.save(config.exp / "best.pt", content | {"step": 1, "epoch": 1, "seconds": 1.0})
    return config.exp / "best.pt"

"""A checkpoint of random weights: enough for all that does not depend on what a model has learnt."""

from __future__ import annotations

from pathlib import Path

import torch

import checkpoint
from config import Config
from prepare import prepare_subset
from tokens import read_tokens


def untrained(config: Config, seed: int = 0) -> Path:
    """Manifests of every set, and best.pt of a model whose scores are far from flat."""
    for subset in dict.fromkeys(config.data.train + config.data.dev + config.data.test):
        prepare_subset(subset, config)
    torch.manual_seed(seed)
    tokens = read_tokens(config)
    model = checkpoint.build_model(config, tokens)
    with torch.no_grad():
        model.head.weight *= 5
    config.exp.mkdir(parents=True, exist_ok=True)
    content = {"config": config.to_dict(), "tokens": tokens.state(), "model": model.state_dict()}
    checkpoint.save(config.exp / "best.pt", content | {"step": 1, "epoch": 1, "seconds": 1.0})
    return config.exp / "best.pt"

"""Checkpoints: tensors and plain types only, for ``torch.load(weights_only=True)``; written atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

import config as configs
from config import Config
from features import LogMel
from model import AcousticModel
from tokens import Tokens, restored


def save(path: Path, content: dict[str, Any]) -> None:
    """Write beside ``path``, then rename: a process killed at any moment leaves the old file or the new one, whole."""
    partial = path.with_name(path.name + ".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load(path: str | Path) -> dict[str, Any]:
    """The dictionary that ``save`` wrote."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def build_model(config: Config, tokens: Tokens) -> AcousticModel:
    return AcousticModel(config.features, config.model, len(tokens))


def tokens_of(content: dict[str, Any]) -> Tokens:
    """What the classes of a checkpoint's model write."""
    return restored(content.get("tokens") or {"alphabet": content["config"]["data"]["alphabet"]})


def log_mel_of(content: dict[str, Any]) -> LogMel:
    """The features that a checkpoint's model was trained on."""
    return LogMel(configs.from_dict(content["config"]).features, content.get("statistics"))


def load_model(path: str | Path) -> tuple[AcousticModel, Config, dict[str, Any]]:
    """The model with its averaged weights, ready to score; the settings it was trained with; the whole checkpoint."""
    content = load(path)
    config = configs.from_dict(content["config"])
    model = build_model(config, tokens_of(content))
    model.load_state_dict(content["model"])
    return model.eval(), config, content


def must_match(saved: dict[str, Any], config: Config, path: Path) -> None:
    """Raise unless ``saved`` settings are those of ``config``; budgets, decoding, the data's place may differ."""
    free = {"data.root", "data.note", "data.in_memory", "data.memory_gb", "data.workers"}
    free |= {
        f"train.{name}"
        for name in ["minutes", "epochs", "steps", "patience", "save_minutes", "accumulate", "threads", "device"]
    }
    now = config.to_dict()
    for section, values in saved.items():
        pairs = values.items() if isinstance(values, dict) else [(None, values)]
        for key, old in pairs:
            name = f"{section}.{key}" if key else section
            new = now[section][key] if key else now[section]
            if section != "decode" and name not in free and old != new:
                raise ValueError(f"{path} has {name}={old!r}, got {new!r}: remove it or choose another name=")

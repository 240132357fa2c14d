"""What a checkpoint holds of a recogniser: its model and its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import config as configs
from common import checkpoint
from common.tokens import Tokens
from config import Config
from features import LogMel
from model import AcousticModel


def build_model(config: Config, tokens: Tokens) -> AcousticModel:
    return AcousticModel(config.features, config.model, len(tokens))


def log_mel_of(content: dict[str, Any]) -> LogMel:
    """The features that a checkpoint's model was trained on."""
    return LogMel(configs.from_dict(content["config"]).features, content.get("statistics"))


def load_model(path: str | Path) -> tuple[AcousticModel, Config, dict[str, Any]]:
    """The model with its averaged weights, ready to score; the settings it was trained with; the whole checkpoint."""
    content = checkpoint.load(path)
    config = configs.from_dict(content["config"])
    model = build_model(config, checkpoint.tokens_of(content))
    model.load_state_dict(content["model"])
    return model.eval(), config, content

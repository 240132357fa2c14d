"""Beginning with the weights of another run: ``train.init``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import checkpoint
from common.config import Settings
from common.tokens import Tokens


def begun_with(config: Settings) -> str:
    """``train.init`` of a run: what it did begin with, whatever is asked now, or what it is to begin with."""
    path = config.exp / "last.pt"
    if not path.exists():
        return config.train.init
    asked: str = checkpoint.load(path)["config"]["train"].get("init", "")
    return asked


def read(tokens: Tokens, config: Settings, meaning: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The checkpoint that ``train.init`` names, and what a report says of it.

    ValueError unless its weights would mean in this run what they meant in theirs: the same tokens, and the same in
    each setting of ``meaning``, such as "features.hop_length", which no shape of a weight shows.
    """
    path = config.train.init
    try:
        content, digest = checkpoint.load(path), hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise ValueError(f"train.init must be a checkpoint: {error}") from None
    if missing := [key for key in ("config", "model", "epoch", "step", "seconds") if key not in content]:
        raise ValueError(f"train.init must be a checkpoint of this recipe, got {path!r} without {missing[0]!r}")
    theirs, ours = checkpoint.settings_of(content["config"], config, path), config.to_dict()
    for section, key in (name.split(".") for name in meaning):
        if (old := theirs[section][key]) != (new := ours[section][key]):
            raise ValueError(f"train.init must be a checkpoint with {section}.{key}={new!r}, got {old!r} in {path!r}")
    if checkpoint.tokens_of(content).state() != tokens.state():
        raise ValueError(f"train.init must be a checkpoint with the tokens of this run, got others in {path!r}")
    epochs, minutes = content["epoch"], content["seconds"] / 60
    return content, f"{path}, epoch {epochs}, step {content['step']}, {minutes:.1f} minutes, SHA-256 {digest[:12]}"

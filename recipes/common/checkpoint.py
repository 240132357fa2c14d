"""Checkpoints: tensors and plain types only, for ``torch.load(weights_only=True)``; written atomically."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from common.batches import Example
from common.config import Settings
from common.tokens import Tokens, restored


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename: there is the old file or the new one, whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write beside ``path``, then rename: a process killed at any moment leaves the old file or the new one, whole."""
    partial = path.with_name(path.name + ".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load(path: str | Path) -> dict[str, Any]:
    """The dictionary that ``save`` wrote."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def tokens_of(content: dict[str, Any]) -> Tokens:
    """What the classes of a checkpoint's model write."""
    return restored(content.get("tokens") or {"alphabet": content["config"]["data"]["alphabet"]})


def fingerprint(utterances: Sequence[Example]) -> str:
    """The same for the same utterances and texts, wherever their files lie."""
    return hashlib.sha256("\n".join(f"{u.id} {u.text}" for u in utterances).encode()).hexdigest()


def must_match(saved: dict[str, Any], config: Settings, path: Path) -> None:
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

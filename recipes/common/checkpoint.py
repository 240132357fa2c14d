"""Checkpoints: tensors and plain types only, for ``torch.load(weights_only=True)``; files that are never half written.

What one stage writes and another reads goes through here: a process that is killed at any moment, or finds the disk
full, leaves the old file whole.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from common.batches import Example
from common.config import Settings, filled
from common.tokens import Tokens, restored


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside ``path`` to write to, renamed at the end; OSError names ``path``, which then is what it was."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)  # half a file, on a disk that may be full
        error.filename = str(path)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write all of it, text in UTF-8, or leave ``path`` as it is."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint, or leave ``path`` as it is."""
    with replacing(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # of a disk that is full PyTorch says at which byte it stands, and what it comes from is the reason
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load(path: str | Path) -> dict[str, Any]:
    """The dictionary that ``save`` wrote. Nothing in the file is run, whoever wrote it; ValueError if it is no such."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0] or "it is empty"
        raise ValueError(f"{path} must be a checkpoint of tensors and plain types, whole: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a checkpoint, which is a dictionary, got {type(content).__name__}")
    return content


def tokens_of(content: dict[str, Any]) -> Tokens:
    """What the classes of a checkpoint's model write."""
    return restored(content.get("tokens") or {"alphabet": content["config"]["data"]["alphabet"]})


def fingerprint(utterances: Sequence[Example]) -> str:
    """The same for the same utterances and texts, wherever their files lie."""
    return hashlib.sha256("\n".join(f"{u.id} {u.text}" for u in utterances).encode()).hexdigest()


def settings_of(saved: dict[str, Any], config: Settings, path: str | Path) -> dict[str, Any]:
    """``saved`` settings, with the defaults of those that are newer than they are; ``config`` says which there are."""
    try:
        return filled(type(config)(), saved).to_dict()
    except ValueError as error:
        raise ValueError(f"{path} must have settings of this version: {error}") from None


def legs_of(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Where, by what command and at which commit a run has been trained, and from which step on."""
    legs: list[dict[str, Any]] = state.get("legs") or [{"step": 0, **state["environment"]}]  # of older checkpoints
    return legs


def must_match(saved: dict[str, Any], config: Settings, path: Path) -> None:
    """Raise unless ``saved`` settings are those of ``config``; budgets, decoding, the data's place may differ."""
    free = {"data.root", "data.note", "data.in_memory", "data.memory_gb", "data.workers"}
    free |= {
        f"train.{name}"
        for name in ["minutes", "epochs", "steps", "patience", "save_minutes", "accumulate", "threads", "device"]
    }
    free.add("train.init")  # it was read when the run began
    now = config.to_dict()
    for section, values in settings_of(saved, config, path).items():
        pairs = values.items() if isinstance(values, dict) else [(None, values)]
        for key, old in pairs:
            name = f"{section}.{key}" if key else section
            new = now[section][key] if key else now[section]
            if section != "decode" and name not in free and old != new:
                raise ValueError(f"{path} has {name}={old!r}, got {new!r}: remove it or choose another name=")

"""Models on disk as arrays, once their ARPA files have been read.

A file is named by a hash of the ARPA file's bytes and of the code that made arrays of them, so that it is never out of
date. It is written under another name and moved into place, so that any number of processes may start at once.
"""

import contextlib
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np

from numbactc import _dispatch_language
from numbactc._arpa import Model

FORMAT = "1"
"""Raised whenever the same bytes would give other arrays."""


def folder() -> Path | None:
    """Where models are kept: below XDG_CACHE_HOME, LOCALAPPDATA or ~/.cache; None for a user without a home."""
    with contextlib.suppress(RuntimeError):
        user = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
        return Path(user) / "numbactc" / "language-models"
    return None


def name_of(content: bytes) -> str:
    """The name under which the model of an ARPA file's bytes is kept."""
    digest = hashlib.blake2b(f"{FORMAT} {_dispatch_language.source_of_kernels()} ".encode(), digest_size=20)
    digest.update(content)
    return f"{digest.hexdigest()}.npz"


def read(name: str) -> Model | None:
    """What was kept under a name; None if nothing was, or if the file is damaged."""
    where = folder()
    if where is None:
        return None
    try:
        with open(where / name, "rb") as file, np.load(file, allow_pickle=False) as kept:
            words = tuple(kept["words"].tobytes().decode().split("\n"))
            return Model(words, tuple(kept["counts"].tolist()), _dispatch_language.restored(kept))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write(name: str, model: Model) -> None:
    """Keep a model; where that is not possible, it is read from its ARPA file the next time, and no more is lost."""
    where = folder()
    if where is None:
        return
    arrays = {"counts": np.array(model.counts), **model.automaton._asdict()}
    words = np.frombuffer("\n".join(model.words).encode(), np.uint8)
    _dispatch_language.write_file(where, name, lambda file: np.savez(file, words=words, **arrays))

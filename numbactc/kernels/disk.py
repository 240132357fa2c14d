"""Files that any number of processes may write and read at once; imports nothing that takes time."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write(folder: Path, name: str, fill: Callable[[IO[bytes]], Any], mode: int = 0o600) -> bool:
    """Fill a file under another name and move it into place; False where that is not possible, which leaves nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(suffix=".tmp", prefix=name, dir=folder)
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        os.chmod(unfinished, mode)  # mkstemp's files are for their owner alone
        os.replace(unfinished, folder / name)
        return True
    except OSError:  # a full disk, or a file that another process holds open on Windows
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        return False

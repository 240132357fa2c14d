"""Files that any number of processes may write and read at once; imports nothing that takes time."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

DIGEST_BYTES = 32


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


def write_code(folder: Path, name: str, code: bytes) -> bool:
    """`write`, of what is only ever run as a whole: it stands behind a hash of itself."""
    return write(folder, name, lambda file: file.write(hashlib.sha256(code).digest() + code), 0o644)


def read_code(path: Path) -> bytes | None:
    """What `write_code` wrote; None if there is nothing, or if it is no longer what was written."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        digest, code = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(code).digest() == digest:
            return code
    return None

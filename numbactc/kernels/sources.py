"""What compiled kernels depend on, for the caches of both devices. Imports nothing that takes time."""

import hashlib
from functools import cache
from pathlib import Path

DEVICES = ("cpu", "cuda")


@cache
def source_hash(device: str) -> str:
    """Hash of every source file below kernels/ but other devices': what compiled code depends on, wherever it lies."""
    folder = Path(__file__).parent
    others = [folder / other for other in DEVICES if other != device]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if not any(path.is_relative_to(other) for other in others):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()

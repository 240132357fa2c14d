"""What compiled kernels depend on, for the caches of both devices. Imports nothing that takes time."""

import hashlib
from functools import cache
from pathlib import Path


@cache
def source_hash() -> str:
    """Hash of every source file below kernels/: what compiled code depends on, wherever it was written."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()

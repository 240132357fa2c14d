"""Compiled kernels on disk, for all processes: found without importing Numba, and never stale, torn or in the way.

A file is named by a hash of everything that its machine code depends on, and begins with a hash of its contents. It is
written under another name and moved into place, so that any number of processes may start at once.
"""

import contextlib
import hashlib
import importlib.metadata
import os
from functools import cache
from pathlib import Path

from numbactc.kernels import disk
from numbactc.kernels.sources import source_hash

COMPILERS = (
    "numba", "llvmlite", "numba-cuda", "cuda-core",
    "nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12",
)  # fmt: skip
"""The distributions that make machine code of source: CUDA 13's, and CUDA 12's."""


@cache
def versions() -> tuple[str | None, ...]:
    """The installed version of each of COMPILERS."""
    found: list[str | None] = []
    for name in COMPILERS:
        try:
            found.append(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            found.append(None)
    return tuple(found)


def folders() -> list[Path]:
    """Where files may lie, as with Numba's own: the folder it was told, the package's, the user's."""
    if told := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(told) / "numbactc-cuda"]
    beside = Path(__file__).parent / "__pycache__"
    with contextlib.suppress(RuntimeError):  # a user without a home
        user = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
        return [beside, Path(user) / "numbactc-cuda"]
    return [beside]


def file_name(kernel: str, capability: tuple[int, int]) -> str:
    """Of a kernel for one kind of GPU."""
    key = hashlib.sha256(repr((kernel, capability, source_hash("cuda"), versions())).encode()).hexdigest()
    return f"{kernel}-sm_{capability[0]}{capability[1]}-{key[:32]}.cubin"


def read(name: str) -> bytes | None:
    """What was written under this name; None if nothing was, or if it is no longer what was written."""
    found = (disk.read_code(folder / name) for folder in folders())
    return next((cubin for cubin in found if cubin is not None), None)


def write(name: str, cubin: bytes) -> None:
    """Keep it in the first folder that takes it; where none does, the process has it in memory and no more is lost."""
    for folder in folders():
        if disk.write_code(folder, name, cubin):
            return

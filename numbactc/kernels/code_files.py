"""Numba's disk cache of machine code, made fit for several processes, damaged files, full disks and upgrades."""

import hashlib
import pickle
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

from numbactc.kernels import disk
from numbactc.kernels.sources import source_hash


class CodeFiles:
    """What Numba's caches ask of an IndexDataCacheFile: one file for each signature of a function, without an index.

    Numba numbers its files and keeps an index of them. Two processes that compile two signatures at once both take the
    next number: the index then leads one signature to the other's machine code, which is run without a word.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem

    def load(self, key: Hashable) -> Any:
        """What was saved for this signature on this kind of processor; None if that is not to be had."""
        content = disk.read_code(self.folder / self._name(key))
        if content is None:
            return None
        its_key, code = pickle.loads(content)
        return code if its_key == key else None

    def save(self, key: Hashable, code: Any) -> None:
        """Where that is not possible, another process compiles again, and no more is lost."""
        disk.write_code(self.folder, self._name(key), dumps((key, code)))

    def flush(self) -> None:
        """Forget all signatures."""
        for path in self.folder.glob(f"{self.stem}.*.nbc"):
            path.unlink(missing_ok=True)

    def _name(self, key: Hashable) -> str:
        return f"{self.stem}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"


class KernelCache(FunctionCache):
    """A function's cache, in files that are named by a hash of all kernel sources and the version of Numba.

    Numba itself looks at the time stamp and size of a function's own file. An upgrade that changes only a callee in
    another file, or one installed with the same time stamps, would run the old machine code without a word; one that
    removes a class could not even read the old index.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        version = source_hash("cpu")
        stem = f"{self._impl.filename_base}.{version[:16]}.{numba.__version__}"
        self._cache_file = CodeFiles(Path(self._cache_path), stem)

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Numba's, but a folder that can no longer be written is no error."""
        with suppress(OSError):
            super().save_overload(signature, compiled)

"""How every CPU kernel is compiled: one set of options and fast-math flags, a cache that no upgrade can fool."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

from numbactc.kernels.code_files import KernelCache

# Reordering and fused multiply-add are allowed, assuming NaN and infinity away is not: -inf marks a masked class.
FAST_MATH = {"nsz", "arcp", "contract", "afn", "reassoc"}


class LinkedLibrary(JITCodeLibrary):
    """Code that comes to nothing but a module to link into others."""

    def _optimize_final_module(self) -> None:
        """Left to the others."""

    def _finalize_final_module(self) -> None:
        """No machine code."""
        self._finalized = True

    @property
    def codegen(self) -> "LinkedLibrary":
        """What would tell machine code its environment."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """There is none to tell, and kernels have nothing in theirs."""


class LinkedCompiler(Compiler):
    """Numba's, with such a library."""

    def __init__(self, typing: Any, target: Any, _: Any, *others: Any) -> None:
        super().__init__(typing, target, LinkedLibrary(target.codegen(), "linked"), *others)


def entry(function: Callable[..., Any]) -> Any:
    """Compile on first call, without the GIL, cached on disk; uncached where no cache folder can be written."""
    return _cached(_jit(function))


def kernel(function: Callable[..., Any]) -> Any:
    """`entry` for what only kernels call: without ways in from Python and C, which take long to compile."""
    return _cached(_jit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True))


def inlined(function: Callable[..., Any]) -> Any:
    """`kernel` for what is called once for each frame: a call copies every field of every array."""
    return _cached(_jit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True))


def linked(function: Callable[..., Any]) -> Any:
    """`kernel` for a small part of something large: optimised, made machine code and cached in the entry alone.

    Numba does all that for every other kernel, together with whatever it calls: of many small kernels the same code is
    optimised again and again. An entry that is not in the cache compiles all of its parts.
    """
    return _jit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=LinkedCompiler)


def _jit(function: Callable[..., Any], **options: Any) -> Any:
    return njit(nogil=True, fastmath=FAST_MATH, error_model="numpy", **options)(function)


def _cached(dispatcher: Any) -> Any:
    # Numba raises when neither the package's folder nor the user's cache folder can be written
    with suppress(RuntimeError):
        dispatcher._cache = KernelCache(dispatcher.py_func)
    return dispatcher

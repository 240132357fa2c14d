"""Functions that kernels call: compiled by themselves, and made part of the kernel by the compiler behind Numba.

`cuda.jit(device=True)` would want a driver at compile time, or, with inline="always", copy the caller's code for each
call, which takes a good part of the time in which a kernel is compiled.
"""

import inspect
from collections.abc import Callable
from typing import Any

from numba import types
from numba.cuda.core.targetconfig import ConfigStack  # type: ignore[import-not-found, unused-ignore]
from numba.cuda.extending import intrinsic


def device(*returns: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator of a function that returns nothing, a value of the type given, or a tuple of the types given."""
    result = types.none if not returns else returns[0] if len(returns) == 1 else types.Tuple(returns)

    def decorate(function: Callable[..., Any]) -> Any:
        def make(arguments: tuple[Any, ...]) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                flags = ConfigStack().top().copy()  # the kernel's own
                flags.forceinline = True
                compiled = context.compile_subroutine(builder, function, signature, flags=flags)
                return context.call_internal(builder, compiled.fndesc, signature, args)

            return result(*map(types.unliteral, arguments)), generate

        names = ", ".join(inspect.signature(function).parameters)
        namespace = {"make": make}
        exec(f"def {function.__name__}(typingctx, {names}): return make(({names},))", namespace)
        compiled = intrinsic(namespace[function.__name__])
        compiled.py_func = function
        return compiled

    return decorate

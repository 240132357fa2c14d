"""From a kernel's Python source to machine code for one kind of GPU: needs Numba and the toolkit, but no GPU."""

import re
from collections.abc import Callable
from typing import Any

from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda

ENTRY = re.compile(r"\.visible \.entry (\w+)\(")


def cubin(function: Callable[..., Any], signature: Any, name: str, capability: tuple[int, int], **options: Any) -> bytes:
    """Machine code for the compute capability (major, minor), in which the kernel is called `name`.

    Args:
        function: a plain function, or what `@cuda.jit` made of one.
        signature: a Numba signature that returns nothing.
        options: of `numba.cuda.compile_ptx`.
    """
    function = getattr(function, "py_func", function)
    ptx, _ = cuda.compile_ptx(function, signature, cc=capability, **options)
    (mangled,) = ENTRY.findall(ptx)
    renamed = ptx.replace(mangled, name)
    major, minor = capability
    linker = Linker(ObjectCode.from_ptx(renamed.encode()), options=LinkerOptions(arch=f"sm_{major}{minor}"))
    return bytes(linker.link("cubin").code)

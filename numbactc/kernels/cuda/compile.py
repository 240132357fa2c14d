"""From a kernel's Python source to machine code for one kind of GPU: needs Numba and the toolkit, but no GPU."""

import re

from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda, types

from numbactc.kernels.cuda.build import build, launch_bounds
from numbactc.kernels.cuda.plan import Kernel

ENTRY = re.compile(r"\.visible \.entry (\w+)\(")

PTX_FOR = (7, 5)
"""The compute capability that PTX is made for. It uses nothing newer, every later one takes it, and what is tested
without a GPU is then what runs on each of them.
"""


def cubin(kernel: Kernel, name: str, capability: tuple[int, int]) -> bytes:
    """Machine code for the compute capability (major, minor), in which the kernel has this name."""
    function, argument_types = build(kernel)
    signature = types.void(*argument_types)
    ptx, _ = cuda.compile_ptx(
        function, signature, cc=min(capability, PTX_FOR), launch_bounds=launch_bounds(kernel)
    )
    (mangled,) = ENTRY.findall(ptx)
    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", fma=False)
    linker = Linker(ObjectCode.from_ptx(ptx.replace(mangled, name).encode()), options=options)
    return bytes(linker.link("cubin").code)

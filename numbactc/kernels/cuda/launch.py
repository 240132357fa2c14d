"""Starts kernels on a stream, by raw pointers: what the host does between one kernel and the next.

A kernel is compiled on its first use for each kind of GPU, or found on disk, where Numba is not imported at all. After
that a start costs the host a few dictionary look-ups and one call of the driver. Nothing here waits for a GPU.
"""

import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from numbactc.kernels.cuda import cache


class Kernel(NamedTuple):
    """A kernel by name, so that its module, and Numba with it, is imported only where it must be compiled."""

    module: str
    """Of numbactc.kernels.cuda."""
    builder: str
    """Its function which, called with `choices`, gives (kernel, Numba signature, options of compile_ptx)."""
    choices: tuple[str | int | bool, ...]

    @property
    def name(self) -> str:
        return "_".join([self.module, self.builder, *map(str, self.choices)]).lower()


class Where(NamedTuple):
    """A device by its number and a stream by its address."""

    device: int
    stream: int


MOST_CONFIGS = 4096
"""Grids that are remembered: a training loop with many lengths meets many."""

_lock = threading.Lock()
_thread = threading.local()
_cubins: dict[tuple[Kernel, tuple[int, int]], bytes] = {}
_loaded: dict[tuple[Kernel, int], tuple[Callable[..., None], Any]] = {}
_streams: dict[Where, Any] = {}
_configs: dict[tuple[int, int, int], Any] = {}


def start(kernel: Kernel, where: Where, grid: int, block: int, shared_bytes: int, *arguments: Any) -> None:
    """Put a kernel into the stream's queue.

    Args:
        grid, block: numbers of blocks, and of threads in each; none of them 0.
        shared_bytes: dynamic shared memory of a block.
        arguments: pointers and integers as int, other numbers as NumPy scalars of their type.

    Raises:
        RuntimeError: this is the kernel's first use on the device, and the stream is being captured into a graph.
        ModuleNotFoundError: naming what to install.
    """
    if not getattr(_thread, "has_context", False):
        _make_current(where.device)
    loaded = _loaded.get((kernel, where.device))
    if loaded is None:
        loaded = _load(kernel, where)
    stream = _streams.get(where) or _stream(where)
    config = _configs.get((grid, block, shared_bytes)) or _config(grid, block, shared_bytes)
    launch, function = loaded
    launch(stream, config, function, *arguments)


def require() -> None:
    """Say what to install where the GPU's half of the package cannot run."""
    missing = [name for name in ("numba_cuda", "cuda.core") if not _is_installed(name)]
    if missing:
        raise ModuleNotFoundError(
            f"numbactc needs numba-cuda for tensors on a GPU, and did not find {' and '.join(missing)}: "
            "pip install 'numbactc[cuda]', or 'numbactc[cuda12]' beside a PyTorch for CUDA 12"
        )


def cubin(kernel: Kernel, capability: tuple[int, int]) -> bytes:
    """Machine code: from memory, from disk, or compiled now, in this order."""
    known = _cubins.get((kernel, capability))
    if known is None:
        file_name = cache.file_name(repr(kernel), kernel.name, capability)
        known = cache.read(file_name)
        if known is None:
            known = _compile(kernel, capability)
            cache.write(file_name, known)
        _cubins[kernel, capability] = known
    return known


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False


def _compile(kernel: Kernel, capability: tuple[int, int]) -> bytes:
    from numbactc.kernels.cuda import compile

    module = import_module(f"numbactc.kernels.cuda.{kernel.module}")
    function, signature, options = getattr(module, kernel.builder)(*kernel.choices)
    return compile.cubin(function, signature, kernel.name, capability, **options)


def _make_current(device: int) -> None:
    """A thread that has not called the CUDA runtime has no context, and PyTorch makes one only where it must."""
    require()
    from cuda.core import Device

    Device(device).set_current()
    _thread.has_context = True


def _load(kernel: Kernel, where: Where) -> tuple[Callable[..., None], Any]:
    """(what launches, what is launched)"""
    from cuda.bindings import driver
    from cuda.core import Device, ObjectCode, launch

    if int(driver.cuStreamIsCapturing(driver.CUstream(where.stream))[1]) != 0:
        raise RuntimeError(
            f"numbactc's kernel {kernel.name} is used for the first time on device {where.device} while a graph is "
            "captured: call the loss once on tensors of the same shapes and dtypes before the capture"
        )
    with _lock:
        loaded = _loaded.get((kernel, where.device))
        if loaded is None:
            capability = tuple(Device(where.device).compute_capability)
            loaded = launch, ObjectCode.from_cubin(cubin(kernel, capability)).get_kernel(kernel.name)
            _loaded[kernel, where.device] = loaded
    return loaded


def _stream(where: Where) -> Any:
    """PyTorch's stream as an object of cuda.core, which does not own it."""
    from cuda.core import Stream

    stream = _streams[where] = Stream.from_handle(where.stream)
    return stream


def _config(grid: int, block: int, shared_bytes: int) -> Any:
    from cuda.core import LaunchConfig

    config = LaunchConfig(grid=grid, block=block, shmem_size=shared_bytes)
    if len(_configs) < MOST_CONFIGS:
        _configs[grid, block, shared_bytes] = config
    return config

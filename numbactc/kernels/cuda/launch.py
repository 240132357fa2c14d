"""Starts kernels on a stream, by raw pointers: what the host does between one kernel and the next.

A kernel is compiled on its first use for each kind of GPU, or found on disk, where Numba is not imported at all. After
that a start costs the host a few dictionary look-ups and one call of the driver. Nothing here waits for a GPU.
"""

import threading
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import Any, NamedTuple

from numbactc.kernels.cuda import cache
from numbactc.kernels.cuda.plan import Kernel, Launch


class Where(NamedTuple):
    """A device by its number and a stream by its address."""

    device: int
    stream: int


class Loaded(NamedTuple):
    """What launches, and what is launched."""

    launch: Callable[..., None]
    function: Any


MOST_CONFIGS = 4096
"""Grids that are remembered: a training loop with many lengths meets many."""

_lock = threading.Lock()
_thread = threading.local()
_cubins: dict[tuple[Kernel, tuple[int, int]], bytes] = {}
_loaded: dict[tuple[Kernel, int], Loaded] = {}
_streams: dict[Where, Any] = {}
_configs: dict[Launch, Any] = {}


def start(launch: Launch, where: Where, *arguments: int) -> None:
    """Put a kernel into the stream's queue.

    Args:
        launch: of a plan.
        arguments: as README.md lists them, without bools, which would fill one byte of an int32.

    Raises:
        RuntimeError: this is the kernel's first use on the device, and the stream is being captured into a graph, or
            the driver is older than CUDA's toolkit.
        ModuleNotFoundError: naming what to install.
    """
    if not getattr(_thread, "has_context", False):
        _make_current(where.device)
    loaded = _loaded.get((launch.kernel, where.device)) or _load(launch.kernel, where)
    stream = _streams.get(where) or _stream(where)
    config = _configs.get(launch) or _config(launch)
    loaded.launch(stream, config, loaded.function, *arguments)


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
        file_name = cache.file_name(symbol(kernel), capability)
        known = cache.read(file_name)
        if known is None:
            from numbactc.kernels.cuda import compile

            known = compile.cubin(kernel, symbol(kernel), capability)
            cache.write(file_name, known)
        _cubins[kernel, capability] = known
    return known


def symbol(kernel: Kernel) -> str:
    """What the kernel is called in its machine code, in profiles, and in the cache."""
    return "_".join(["numbactc", kernel.name, *map(str, kernel.options)])


def _require_driver(version: int) -> None:
    """Machine code of a newer major version of CUDA is refused by the driver, with a message that helps nobody."""
    toolkit = int(metadata.version("cuda-bindings").split(".")[0])
    if version // 1000 < toolkit:
        raise RuntimeError(
            f"numba-cuda is installed for CUDA {toolkit}, and the GPU's driver supports up to CUDA "
            f"{version // 1000}.{version % 1000 // 10}: pip install 'numbactc[cuda12]', or update the driver"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False


def _make_current(device: int) -> None:
    """A thread that has not called the CUDA runtime has no context, and PyTorch makes one only where it must."""
    require()
    with _lock:  # cuda.core cannot be imported by two threads at once
        from cuda.core import Device
    Device(device).set_current()
    _thread.has_context = True


def _load(kernel: Kernel, where: Where) -> Loaded:
    from cuda.bindings import driver
    from cuda.core import Device, ObjectCode, launch

    error, status = driver.cuStreamIsCapturing(driver.CUstream(where.stream))
    if error != driver.CUresult.CUDA_SUCCESS or status != driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE:
        raise RuntimeError(
            f"numbactc's kernel {symbol(kernel)} is used for the first time on device {where.device} while a graph is "
            "captured: call the loss once on tensors of the same shapes and dtypes before the capture"
        )
    with _lock:
        loaded = _loaded.get((kernel, where.device))
        if loaded is None:
            _require_driver(driver.cuDriverGetVersion()[1])
            capability = tuple(Device(where.device).compute_capability)
            loaded = Loaded(launch, ObjectCode.from_cubin(cubin(kernel, capability)).get_kernel(symbol(kernel)))
            _loaded[kernel, where.device] = loaded
    return loaded


def _stream(where: Where) -> Any:
    """PyTorch's stream as an object of cuda.core, which does not own it."""
    from cuda.core import Stream

    stream = _streams[where] = Stream.from_handle(where.stream)
    return stream


def _config(launch: Launch) -> Any:
    from cuda.core import LaunchConfig

    config = LaunchConfig(grid=launch.grid, block=launch.block)
    if len(_configs) < MOST_CONFIGS:
        _configs[launch] = config
    return config

"""Every test starts from its own seed, and numbactc never finds zeros in memory that it did not write.

Tests that use the fixture `device` run on each device that `--devices` names: see devices.py.
"""

import gc
import importlib
import os
import random
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".numba_cache" / "tests"))

import numpy as np
import pytest
import torch

import devices
import numbactc
from batches import Loss
from numbactc import _dispatch_alignment, _memory, loss

GARBAGE = 0x5A5A5A5A


def pytest_addoption(parser: pytest.Parser) -> None:
    text = f"of {', '.join(devices.DEVICES)}, separated by commas; cpu by default, and simulated for tests so marked"
    parser.addoption("--devices", help=text)
    parser.addoption("--seconds", type=float, default=1.0, help="for how long test_load.py keeps its threads busy")
    parser.addoption("--renew-images", action="store_true", help="write the reference images of test_plotting.py")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use the fixture `device` on each of the devices."""
    if "device" not in metafunc.fixturenames:
        return
    is_marked = metafunc.definition.get_closest_marker
    small = is_marked("simulated") and not is_marked("slow_to_simulate")
    chosen = metafunc.config.getoption("--devices") or ("cpu,simulated" if small else "cpu")
    if is_marked("cpu_only"):
        chosen = "cpu"
    if chosen != "cpu":
        metafunc.parametrize("device", chosen.split(","), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the CPU among the devices, what does not depend on a device is left out."""
    if "cpu" in (config.getoption("--devices") or "cpu").split(","):
        return

    def on_a_device(item: pytest.Item) -> bool:
        depends = "device" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("cpu_only")
        return depends or item.get_closest_marker("gpu") is not None

    config.hook.pytest_deselected(items=[item for item in items if not on_a_device(item)])
    items[:] = [item for item in items if on_a_device(item)]


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """For how long a test of load goes on."""
    answer: float = request.config.getoption("--seconds")
    return answer


@pytest.fixture(params=[False, True], ids=["log_probs", "logits"])
def normalise(request: pytest.FixtureRequest) -> bool:
    """Which loss a CUDA kernel is asked for."""
    answer: bool = request.param
    return answer


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the losses and alignments of this test are computed."""
    chosen: str = getattr(request, "param", "cpu")
    if chosen == "cuda":
        monkeypatch.setattr(loss, "_loss", devices.on_cuda(loss._loss))
        monkeypatch.setattr(_dispatch_alignment, "_aligner", lambda scores: devices.align_on_cuda)
        monkeypatch.setattr(numbactc, "linear_ctc_loss", devices.linear_on_cuda(numbactc.linear_ctc_loss))
        monkeypatch.setattr(numbactc, "posteriors", devices.posteriors_on_cuda(numbactc.posteriors))
    elif chosen == "simulated":
        if not devices.CAN_SIMULATE:
            pytest.skip("the simulator needs numba-cuda and greenlet")
        importlib.import_module("simulated").install(monkeypatch)
    else:
        assert chosen == "cpu", f"--devices knows {', '.join(devices.DEVICES)}"
    return chosen


@pytest.fixture(params=["ctc_loss", "ctc_loss_with_logits"])
def entry(request: pytest.FixtureRequest) -> Loss:
    """Each of the two losses in turn."""
    loss: Loss = getattr(numbactc, request.param)
    return loss


@pytest.fixture(autouse=True, scope="module")
def search_what_is_old_for_garbage_no_more() -> Iterator[None]:
    """Compilers keep millions of objects for good; to look through all of them took a collection 4 seconds."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed_every_test(request: pytest.FixtureRequest) -> None:
    name = request.node.nodeid.rpartition("/")[-1]
    for device in devices.DEVICES:  # the same numbers on each
        name = name.replace(f"[{device}]", "").replace(f"[{device}-", "[").replace(f"-{device}]", "]")
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def poison_unwritten_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that numbactc asks for is full of NaN or of large integers, so what it leaves unwritten shows.

    PyTorch's functions are replaced for everyone and poison when numbactc calls. NumPy's are replaced in numbactc's own
    modules, by name; not in the kernels, where Numba looks the true `numpy.empty` up. So is what recycles memory.
    """
    for owner, name in [
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
        (torch.Tensor, "new_empty_strided"),
    ]:
        monkeypatch.setattr(owner, name, _poison_for_numbactc(getattr(owner, name)))
    monkeypatch.setattr(_memory, "empty", _poisoned(_memory.empty))
    poisoned_numpy = _PoisonedNumpy("numpy")
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("numbactc") and ".kernels" not in module_name:
            for name, value in list(vars(module).items()):
                if value is np:
                    monkeypatch.setattr(module, name, poisoned_numpy)


def _poison_for_numbactc(empty: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*arguments: Any, **keywords: Any) -> torch.Tensor:
        tensor = empty(*arguments, **keywords)
        if str(sys._getframe(1).f_globals.get("__name__", "")).startswith("numbactc"):
            with torch.no_grad():
                if tensor.dtype == torch.uint8:  # bytes that kernels take for floats: NaN, and -1 for integers
                    tensor.fill_(0xFF)
                else:
                    tensor.fill_(torch.nan if tensor.is_floating_point() else GARBAGE % (1 << 8 * tensor.itemsize - 1))
        return tensor

    return poisoned


class _PoisonedNumpy(types.ModuleType):
    """NumPy, but for `empty` and `empty_like`."""

    def __getattribute__(self, name: str) -> Any:
        return _poisoned(getattr(np, name)) if name in ("empty", "empty_like") else getattr(np, name)


def _poisoned(empty: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def poisoned(*arguments: Any, **keywords: Any) -> np.ndarray:
        array = empty(*arguments, **keywords)
        array.fill(np.nan if array.dtype.kind == "f" else GARBAGE % (1 << 8 * array.itemsize - 1))
        return array

    return poisoned

"""From a plan to a driver, without a GPU: what is launched, what it costs the host, what is kept on disk.

A process of its own loads a driver that says yes to everything and writes down what it was told: see stub_driver.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import stub_driver
from processes import REPOSITORY, TIMEOUT_S, run_python

pytest.importorskip("numba_cuda")
from numbactc.kernels.cuda import cache, launch
from numbactc.kernels.cuda.plan import Kernel

PREPARE = (
    "import sys, json\n"
    "from stub_driver import StubDriver\n"
    "from numbactc.kernels.cuda import cache, launch, plan\n"
    "driver = StubDriver()\n"
    "prepare = plan.Launch(plan.Kernel('prepare', ()), (3, 1), 128)\n"
    "arguments = [2**40, 1, -5, *range(3, 18), 2**31 - 1]\n"
)
"""A process with the smallest kernel, and 19 arguments for it."""

COMPILED_AT_ONCE = (
    "import os, time, types\n"
    "def compile(kernel, name, capability):\n"
    "    print('compiled')\n"
    "    time.sleep(0.3)\n"
    "    return b'machine code ' + os.urandom(1 << 20)\n"
    "sys.modules['numbactc.kernels.cuda.compile'] = types.SimpleNamespace(cubin=compile)\n"
)
"""For what is about files: a compiler that takes no time, and gives other code each time."""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the driver and a numbactc whose kernels can be imported without the losses, and so without torch:
    processes start in a fraction of the time.
    """
    if stub_driver.COMPILER is None:
        pytest.skip("no C compiler for the stub driver")
    folder = tmp_path_factory.mktemp("driver")
    stub_driver.build(folder)
    shutil.copytree(REPOSITORY / "numbactc", folder / "numbactc", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "numbactc" / "__init__.py").write_text("")
    return folder


@pytest.fixture(scope="session")
def warm_cache(driver: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that has the kernel for compute capability 9.0; copy it, do not change it."""
    folder = tmp_path_factory.mktemp("cache")
    run(driver, "launch.cubin(prepare.kernel, (9, 0))\n", folder)
    return folder


def variables(driver: Path, cache_folder: Path) -> dict[str, str | None]:
    path = os.pathsep.join([str(driver), str(REPOSITORY / "tests")])
    return {"LD_LIBRARY_PATH": str(driver), "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(cache_folder)}


def run(driver: Path, script: str, cache_folder: Path, **environment: str | None) -> str:
    return run_python(PREPARE + script, driver, **(variables(driver, cache_folder) | environment))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_reaches_the_driver(driver: Path, warm_cache: Path) -> None:
    """Each argument where the kernel looks for it: pointers and int64 whole, an int32 in its lower half."""
    script = (
        "driver.copy_arguments(len(arguments))\n"
        "launch.start(prepare, launch.Where(0, 0x1230), *arguments)\n"
        "launch.start(prepare, launch.Where(1, 0), *arguments)\n"
        "print(json.dumps([driver.launch(i, len(arguments)) for i in range(driver.launch_count)]))\n"
    )
    launches = json.loads(run(driver, script, warm_cache))
    told = [2**40, 1, 2**64 - 5, *range(3, 18), 2**31 - 1]
    assert launches == [["numbactc_prepare", [3, 1, 1], [128, 1, 1], 0, stream, told] for stream in (0x1230, 0)]


def test_loaded_once_for_each_device_whatever_the_number_of_threads(driver: Path, warm_cache: Path) -> None:
    script = (
        "import threading\n"
        "def work():\n"
        "    for i in range(50):\n"
        "        launch.start(prepare, launch.Where(i % 2, 0x1230), *arguments)\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(json.dumps([driver.launch_count, driver.load_count]))\n"
    )
    assert json.loads(run(driver, script, warm_cache)) == [200, 2]


def test_first_use_in_a_capture_is_refused(driver: Path, warm_cache: Path) -> None:
    script = (
        "try:\n"
        "    launch.start(prepare, launch.Where(0, 0x1230), *arguments)\n"
        "except RuntimeError as error:\n"
        "    print(driver.load_count, driver.launch_count, error)\n"
    )
    told = run(driver, script, warm_cache, STUB_CAPTURING="1")
    assert told.startswith("0 0 ")
    assert "numbactc_prepare" in told
    assert "before the capture" in told


COUNT_CALLS = (
    "def calls_of(function):\n"
    "    seen = []\n"
    "    sys.setprofile(lambda frame, event, arg: seen.append(event) if event in ('call', 'c_call') else None)\n"
    "    function()\n"
    "    sys.setprofile(None)\n"
    "    return len(seen)\n"
)
"""What the host does, without a clock: functions of Python and of C that a call calls."""

QUEUE = (
    "def queue(device, launches, arguments):\n"
    "    where = launch.Where(0, 0x1230)\n"
    "    for each in launches:\n"
    "        launch.start(each, where, *arguments[each.kernel.name])\n"
)
"""`_views_cuda.queue` with a stream of its own, as PyTorch without a GPU has none."""


def test_a_driver_older_than_the_toolkit_is_named(driver: Path, warm_cache: Path) -> None:
    script = (
        "try:\n"
        "    launch.start(prepare, launch.Where(0, 0x1230), *arguments)\n"
        "except RuntimeError as error:\n"
        "    print(driver.load_count, error)\n"
    )
    told = run(driver, script, warm_cache, STUB_VERSION="12080")
    assert told.startswith("0 ")
    assert "CUDA 12.8" in told
    assert "numbactc[cuda12]" in told


def test_a_launch_costs_the_host_little(driver: Path, warm_cache: Path) -> None:
    """Nothing is looked up twice, built or parsed anew: a few look-ups, and cuda.core's launch."""
    script = COUNT_CALLS + (
        "where = launch.Where(0, 0x1230)\n"
        "call = lambda: launch.start(prepare, where, *arguments)\n"
        "call()\n"
        "print(calls_of(call))\n"
    )
    assert int(run(driver, script, warm_cache)) <= 12


def test_what_a_step_of_training_costs_the_host(driver: Path, tmp_path: Path) -> None:
    """Forward and backward with everything but the GPU: tensors on the CPU stand for tensors on it.

    Five launches, and no compilation, parse or search between them: some hundred and fifty functions, many of them
    PyTorch's.
    """
    script = COUNT_CALLS + QUEUE + (
        "import torch, numbactc\n"
        "from numbactc import _devices, _dispatch_cuda, _validation_cuda, _views_cuda\n"
        "_devices.of = lambda scores: _dispatch_cuda\n"
        "_validation_cuda._is_on_gpu = lambda name, value, scores: True\n"
        "_views_cuda.queue = queue\n"
        "scores = torch.randn(400, 16, 29, requires_grad=True)\n"
        "targets = torch.randint(1, 29, (16, 100))\n"
        "lengths = torch.full((16,), 400), torch.full((16,), 100)\n"
        "def step():\n"
        "    scores.grad = None\n"
        "    numbactc.ctc_loss_with_logits(scores, targets, *lengths).backward()\n"
        "step()\n"
        "count = driver.launch_count\n"
        "step()\n"
        "names = [driver.launch(i, 0).kernel for i in range(count, driver.launch_count)]\n"
        "print(json.dumps([names, calls_of(step)]))\n"
    )
    environment = variables(driver, tmp_path) | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), "tests"])}
    *_, told = run_python(PREPARE + COMPILED_AT_ONCE + script, REPOSITORY, **environment).splitlines()
    names, calls = json.loads(told)
    assert [name.split("_float")[0] for name in names] == [
        f"numbactc_{name}" for name in ("prepare", "rows_forward", "lattice_outer", "lattice_inner", "rows_backward")
    ]
    assert calls <= 400


def test_what_an_alignment_costs_the_host(driver: Path, tmp_path: Path) -> None:
    """Four launches for the whole batch, with grids that follow from the longest target, and little between them."""
    script = COUNT_CALLS + QUEUE + (
        "import numpy as np, torch\n"
        "from numbactc import _dispatch_alignment_cuda, _validation, _views_cuda\n"
        "_views_cuda.queue = queue\n"
        "scores = torch.randn(500, 3, 29)\n"
        "targets = torch.randint(1, 29, (3, 200))\n"
        "targets = _validation.check_targets(scores, targets, [500] * 3, [200, 7, 0], 0, False)\n"
        "out = np.empty(3), np.empty((600, 2), np.int64), np.empty(600)\n"
        "step = lambda: _dispatch_alignment_cuda.align(scores, targets, 0.0, *out)\n"
        "step()\n"
        "count = driver.launch_count\n"
        "step()\n"
        "launches = [driver.launch(i, 0) for i in range(count, driver.launch_count)]\n"
        "print(json.dumps([[[each.kernel, each.grid[:2], each.block[0]] for each in launches], calls_of(step)]))\n"
    )
    environment = variables(driver, tmp_path) | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), "tests"])}
    *_, told = run_python(PREPARE + COMPILED_AT_ONCE + script, REPOSITORY, **environment).splitlines()
    launches, calls = json.loads(told)
    assert launches == [
        ["numbactc_prepare", [3, 1], 128],
        ["numbactc_viterbi_float32_2_0", [3, 1], 128],
        ["numbactc_traceback_float32", [3, 3], 256],
        ["numbactc_span_means_float32", [3, 2], 128],
    ]
    assert calls <= 200


def test_warm_start_imports_no_compiler(driver: Path, warm_cache: Path) -> None:
    script = (
        "launch.start(prepare, launch.Where(0, 0x1230), *arguments)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('numba', 'numba_cuda', 'llvmlite')])\n"
    )
    assert run(driver, script, warm_cache).strip() == "[]"


CUBIN = (
    "import hashlib\n"
    "print(hashlib.sha256(launch.cubin(prepare.kernel, (9, 0))).hexdigest())\n"
)


def cubin(driver: Path, cache_folder: Path, script: str = "") -> tuple[bool, str]:
    """(whether it had to be compiled, a hash of it)"""
    *compiled, digest = run(driver, COMPILED_AT_ONCE + CUBIN + script, cache_folder).split()
    return compiled == ["compiled"], digest


def test_eight_processes_at_once(driver: Path, tmp_path: Path) -> None:
    """All find nothing on disk, and all write; what is left is one whole file."""
    environment = os.environ | {name: str(value) for name, value in variables(driver, tmp_path).items()}
    command = [sys.executable, "-c", PREPARE + COMPILED_AT_ONCE + CUBIN]
    processes = [
        subprocess.Popen(command, cwd=driver, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    outputs = [process.communicate(timeout=TIMEOUT_S)[0].split() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sum(output[0] == "compiled" for output in outputs) > 1, "they did not meet"
    (file,) = files_of(tmp_path)
    assert file.suffix == ".cubin"
    compiled, digest = cubin(driver, tmp_path)
    assert not compiled
    assert digest in {output[-1] for output in outputs}


@pytest.mark.parametrize("damage", ["cut short", "one bit", "empty"])
def test_a_damaged_file_is_compiled_anew(driver: Path, tmp_path: Path, damage: str) -> None:
    _, first = cubin(driver, tmp_path)
    assert cubin(driver, tmp_path) == (False, first)
    (file,) = files_of(tmp_path)
    whole = file.read_bytes()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    file.write_bytes({"cut short": whole[:-100], "empty": b"", "one bit": flipped}[damage])
    compiled, second = cubin(driver, tmp_path)
    assert compiled
    assert cubin(driver, tmp_path) == (False, second)
    assert files_of(tmp_path) == [file]


def test_works_where_nothing_can_be_written(driver: Path, tmp_path: Path) -> None:
    """A folder under a file cannot be made, not even by root, for whom no permission is missing."""
    (tmp_path / "a file").touch()
    again = "launch.cubin(prepare.kernel, (9, 0))\n"  # in memory: not compiled twice
    for _ in range(2):
        assert cubin(driver, tmp_path / "a file", again)[0]
    assert files_of(tmp_path) == [tmp_path / "a file"]


def test_an_upgrade_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [cache.file_name("k", (9, 0))]
    assert cache.file_name("k", (9, 0)) == names[0]
    names += [cache.file_name("k", (8, 9)), cache.file_name("another", (9, 0))]
    monkeypatch.setattr(cache, "source_hash", lambda device: "other sources")
    names.append(cache.file_name("k", (9, 0)))
    for i, old in enumerate(cache.versions()):
        changed = (*cache.versions()[:i], f"{old}.1", *cache.versions()[i + 1 :])
        with monkeypatch.context() as patch:
            patch.setattr(cache, "versions", lambda changed=changed: changed)
            names.append(cache.file_name("k", (9, 0)))
    assert len(set(names)) == len(names)
    assert None not in cache.versions()[:4]


def test_names_tell_kernels_apart() -> None:
    from numbactc.kernels.cuda import plan

    kernels = set()
    for dtype in plan.SCORE_BYTES:
        for C in (5, 29, 1024, 5000, 20000):
            for S in (5, 100, 250, 3000):
                its_plan = plan.plan(plan.Call(3000, 4, C, S, False, dtype, True, True))
                kernels |= {each.kernel for each in its_plan.forward + its_plan.backward}
    assert len({launch.symbol(kernel) for kernel in kernels}) == len(kernels) > 20


def test_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    launch.require()
    monkeypatch.setattr(launch, "find_spec", lambda name: None if name == "numba_cuda" else True)
    with pytest.raises(ModuleNotFoundError, match=r"(?s)numba_cuda.*pip install 'numbactc\[cuda\]'"):
        launch.require()

    def no_cuda_namespace(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(launch, "find_spec", no_cuda_namespace)
    with pytest.raises(ModuleNotFoundError, match=r"numba_cuda and cuda\.core"):
        launch.require()


def test_the_dispatch_says_what_to_install() -> None:
    """The message comes before anything is imported that is not there."""
    script = (
        "from numbactc.kernels.cuda import launch\n"
        "launch.find_spec = lambda name: None\n"
        "try:\n"
        "    import numbactc._dispatch_cuda\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert "pip install 'numbactc[cuda]'" in run_python(script)


def test_a_kernel_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="no such kernel"):
        launch.cubin(Kernel("no such kernel", ()), (9, 0))


@pytest.mark.parametrize("capability", [(7, 5), (9, 0), (12, 0)], ids=str)
def test_machine_code_for_each_kind_of_gpu(capability: tuple[int, int]) -> None:
    """An ELF file that has the kernel under its own name."""
    from numbactc.kernels.cuda import compile

    code = compile.cubin(Kernel("prepare", ()), "a_name_of_its_own", capability)
    assert code.startswith(b"\x7fELF")
    assert b".text.a_name_of_its_own" in code


def test_what_is_compiled_before_tests_and_benchmarks() -> None:
    """Everything that the benchmark's shapes and those of a GPU's own tests need, and each lattice and dtype at least
    once.
    """
    import test_gpu
    from benchmarks.shapes import GPU_DTYPES, GPU_SHAPES
    from compile_kernels import kernels
    from numbactc.kernels.cuda import plan

    compiled = set(kernels())
    for shape in GPU_SHAPES.values():
        for dtype in GPU_DTYPES:
            its_plan = plan.plan(plan.Call(shape.T, shape.N, shape.C, shape.L, False, dtype, True, True))
            assert {each.kernel for each in its_plan.forward + its_plan.backward} <= compiled
    for dtype in plan.SCORE_BYTES:
        for T, N, C, L in test_gpu.SHAPES:
            its_plan = plan.plan(plan.Call(T, N, C, L, False, dtype, True, True))
            assert {each.kernel for each in its_plan.forward + its_plan.backward} <= compiled
    assert {kernel.name for kernel in compiled} == {
        "prepare", "rows_forward", "rows_backward", "lattice_outer", "lattice_inner",
        "viterbi", "traceback", "span_means",
    }  # fmt: skip
    for name in ("rows_forward", "viterbi", "traceback", "span_means"):
        assert {kernel.options[0] for kernel in compiled if kernel.name == name} == set(plan.SCORE_BYTES)
    assert {kernel.options[0] for kernel in compiled if kernel.name == "lattice_inner"} == {"float32", "float64"}

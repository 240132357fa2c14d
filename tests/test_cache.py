"""Compiled code on disk: used again while the sources stay, never after one of them has changed, not needed at all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import REPOSITORY, TIMEOUT_S, run_python

CALLEE = "from numbactc.kernels.jit import kernel\n\n\n@kernel\ndef callee(x):\n    return x + 1\n"
CALLER = (
    "from numbactc.kernels.callee import callee\nfrom numbactc.kernels.jit import entry\n\n\n"
    "@entry\ndef caller(x):\n    return 10 * callee(x)\n"
)
RUN = (
    "import json\n"
    "from numbactc.kernels.caller import caller\n"
    "result = caller(1)\n"
    "print(json.dumps([result, sum(caller.stats.cache_hits.values()), sum(caller.stats.cache_misses.values())]))"
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of numbactc that has two kernels more, in a file each, small enough to compile at once.

    Its kernels are importable without the losses, and so without torch: processes start in half the time.
    """
    folder = tmp_path / "installed"
    shutil.copytree(REPOSITORY / "numbactc", folder / "numbactc", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "numbactc" / "__init__.py").write_text("")
    (folder / "numbactc" / "kernels" / "callee.py").write_text(CALLEE)
    (folder / "numbactc" / "kernels" / "caller.py").write_text(CALLER)
    return folder


def call(package: Path, **environment: str | None) -> tuple[int, int, int]:
    """(result, cache hits, cache misses) of one call in a process of its own."""
    result, hits, misses = json.loads(run_python(RUN, package, **environment))
    return result, hits, misses


def edit(path: Path, old: str, new: str) -> None:
    """Change a file as the worst upgrade might: same size, same time stamps."""
    before = path.stat()
    text = path.read_text()
    assert text.count(old) == 1 and len(old) == len(new)
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_second_process_finds_the_first_ones_code(package: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    assert call(package, NUMBA_CACHE_DIR=cache) == (20, 0, 1)
    assert call(package, NUMBA_CACHE_DIR=cache) == (20, 1, 0)


@pytest.mark.parametrize("edited", ["callee", "caller"])
def test_no_stale_code_after_an_upgrade(package: Path, tmp_path: Path, edited: str) -> None:
    cache = str(tmp_path / "cache")
    assert call(package, NUMBA_CACHE_DIR=cache)[0] == 20
    kernels = package / "numbactc" / "kernels"
    if edited == "callee":
        edit(kernels / "callee.py", "x + 1", "x + 2")
    else:
        edit(kernels / "caller.py", "10 * callee", "15 * callee")
    assert call(package, NUMBA_CACHE_DIR=cache) == (30, 0, 1), "compiled code of the old source was run"
    assert call(package, NUMBA_CACHE_DIR=cache) == (30, 1, 0)


def test_going_back_finds_the_old_code_again(package: Path, tmp_path: Path) -> None:
    cache, callee = str(tmp_path / "cache"), package / "numbactc" / "kernels" / "callee.py"
    call(package, NUMBA_CACHE_DIR=cache)
    edit(callee, "x + 1", "x + 2")
    call(package, NUMBA_CACHE_DIR=cache)
    edit(callee, "x + 2", "x + 1")
    assert call(package, NUMBA_CACHE_DIR=cache) == (20, 1, 0)


def test_a_new_file_counts_as_a_change(package: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    call(package, NUMBA_CACHE_DIR=cache)
    (package / "numbactc" / "kernels" / "cpu" / "another.py").write_text("")
    assert call(package, NUMBA_CACHE_DIR=cache) == (20, 0, 1)


def test_only_its_own_devices_files_count(package: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    call(package, NUMBA_CACHE_DIR=cache)
    (package / "numbactc" / "kernels" / "cuda" / "another.py").write_text("")
    assert call(package, NUMBA_CACHE_DIR=cache) == (20, 1, 0)


def test_a_linked_kernel_is_cached_with_its_caller_alone(package: Path, tmp_path: Path) -> None:
    callee, cache = package / "numbactc" / "kernels" / "callee.py", tmp_path / "cache"
    callee.write_text(CALLEE.replace("import kernel", "import linked").replace("@kernel", "@linked"))
    for expected in ((20, 0, 1), (20, 1, 0)):
        assert call(package, NUMBA_CACHE_DIR=str(cache)) == expected
        assert {path.name.split("-")[0] for path in cache.rglob("*.nb*")} == {"caller.caller"}
    edit(callee, "x + 1", "x + 2")
    assert call(package, NUMBA_CACHE_DIR=str(cache)) == (30, 0, 1)


def test_every_cpu_kernel_but_linked_ones_uses_this_cache() -> None:
    script = (
        "import importlib, pkgutil, numbactc.kernels as kernels\n"
        "from numba.core.dispatcher import Dispatcher\n"
        "from numbactc.kernels.code_files import KernelCache\n"
        "from numbactc.kernels.jit import LinkedCompiler\n"
        "seen = 0\n"
        "for info in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + '.'):\n"
        "    if info.name.startswith('numbactc.kernels.cuda'):\n"
        "        continue\n"
        "    for name, value in vars(importlib.import_module(info.name)).items():\n"
        "        if isinstance(value, Dispatcher):\n"
        "            linked = value._compiler.pipeline_class is LinkedCompiler\n"
        "            assert isinstance(value._cache, KernelCache) != linked, (info.name, name)\n"
        "            seen += 1\n"
        "print(seen)"
    )
    assert int(run_python(script)) > 20


COLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from numbactc.kernels.caller import caller\n"
    "meeting, number = Path(sys.argv[1]), int(sys.argv[2])\n"
    "(meeting / str(number)).touch()\n"
    "while len(list(meeting.iterdir())) < 8:\n"
    "    time.sleep(0.001)\n"
    "print(caller(1 if number % 2 else 0.5), sum(caller.stats.cache_misses.values()))\n"
)


def test_eight_processes_start_cold_at_once(package: Path, tmp_path: Path) -> None:
    """Four with integers and four with floats: neither is ever led to the code of the other."""
    meeting, cache = tmp_path / "meeting", tmp_path / "cache"
    meeting.mkdir()
    environment = os.environ | {"PYTHONPATH": str(package), "NUMBA_CACHE_DIR": str(cache)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COLD, str(meeting), str(number)],
            cwd=package, env=environment, stdout=subprocess.PIPE, text=True,
        )
        for number in range(8)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=TIMEOUT_S)[0].split() for process in running]
    assert all(process.returncode == 0 for process in running)
    assert [output[0] for output in outputs] == ["15.0", "20"] * 4
    assert sum(output[1] == "1" for output in outputs) > 2, "they did not meet"
    kernels = sorted(path.name.split("-")[0] for path in cache.rglob("*") if path.is_file())
    assert kernels == 2 * ["callee.callee"] + 2 * ["caller.caller"], "a file for each signature, and nothing else"


def test_works_where_nothing_can_be_written(package: Path, tmp_path: Path) -> None:
    # folders under a file cannot be made, not even by root, for whom no permission is missing
    blocked = tmp_path / "a file"
    blocked.touch()
    (package / "numbactc" / "kernels" / "__pycache__").touch()
    nowhere = {name: str(blocked / "folder") for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA")}
    for cache in (None, str(blocked / "cache")):
        for _ in range(2):
            assert call(package, NUMBA_CACHE_DIR=cache, **nowhere) == (20, 0, 1)

"""Compiled code on disk while disks fill up, files are damaged and other processes write: never wrong, never needed."""

import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

from processes import REPOSITORY, run_python


def tenfold(x):  # type: ignore[no-untyped-def]
    return 10 * x


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def compiled_anew(argument: float = 2) -> bool:
    """Whether a kernel that this process has not met yet must be compiled; its result is right either way."""
    from numbactc.kernels.jit import entry

    kernel: Any = entry(tenfold)
    result = kernel(argument)
    assert (result, type(result)) == (10 * argument, type(argument))
    return bool(sum(kernel.stats.cache_misses.values()))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-100],
    "one bit": flipped,
    "zeros": lambda content: bytes(len(content)),
    "random": lambda content: bytes(len(content) * k % 251 for k in range(len(content))),
    "longer": lambda content: content + b"more",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_compiled_anew(folder: Path, damage: str) -> None:
    assert compiled_anew() and not compiled_anew()
    (file,) = files(folder)
    whole = file.read_bytes()
    file.write_bytes(DAMAGES[damage](whole))
    assert compiled_anew() and not compiled_anew()
    assert files(folder) == [file]
    file.unlink()
    assert compiled_anew() and not compiled_anew()


def test_code_of_another_signature_is_never_run(folder: Path) -> None:
    """Not even where the files have changed places."""
    assert compiled_anew(2) and compiled_anew(0.5)
    one, other = files(folder)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert compiled_anew(2) and compiled_anew(0.5)
    assert not compiled_anew(2) and not compiled_anew(0.5)


def test_another_numba_finds_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled_anew() and not compiled_anew()
    with monkeypatch.context() as patched:
        patched.setattr(numba, "__version__", "999.0")
        assert compiled_anew() and not compiled_anew()
    assert not compiled_anew()


def test_what_is_forgotten_is_all_of_one_kernel(folder: Path) -> None:
    from numbactc.kernels.jit import entry

    assert compiled_anew(2) and compiled_anew(0.5)
    another = files(folder)[0].with_name("another.nbc")
    another.touch()
    entry(tenfold)._cache.flush()
    assert files(folder) == [another]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_folder_that_no_longer_takes_files_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    from numbactc.kernels.jit import entry

    compiled_anew()
    kernel: Any = entry(tenfold)  # it found its folder writable
    with monkeypatch.context() as patched:
        for name in ("mkstemp", "TemporaryFile"):
            patched.setattr(tempfile, name, lambda *_, **__: (_ for _ in ()).throw(OSError(code, os.strerror(code))))
        assert kernel(0.5) == 5.0
        assert kernel(2) == 20 and sum(kernel.stats.cache_hits.values()) == 1  # what is there is read
    assert len(files(folder)) == 1


def test_a_disk_that_is_full_keeps_no_half_files(folder: Path) -> None:
    """A limit on the size of files makes the system refuse what goes beyond, after it has taken what goes before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert compiled_anew()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(folder) == []
    assert compiled_anew() and not compiled_anew()


TRAINING = (
    "import torch, numbactc\n"
    "torch.manual_seed(0)\n"
    "logits = torch.randn(50, 4, 20, dtype=torch.{dtype}, requires_grad=True)\n"
    "loss = numbactc.ctc_loss_with_logits(logits, torch.randint(1, 20, (4, 9)), [50] * 4, [9] * 4)\n"
    "loss.backward()\n"
    "print(loss.item().hex(), logits.grad.double().abs().sum().item().hex())\n"
)


@pytest.mark.faults
def test_eight_processes_start_the_loss_cold_at_once(tmp_path: Path) -> None:
    """Whole losses, of two dtypes, on an empty cache; each has the bits of a process that compiles for itself alone."""
    scripts = [TRAINING.format(dtype=dtype) for dtype in ("float32", "float64")]
    alone = [run_python(script, NUMBA_CACHE_DIR=str(tmp_path / f"alone {k}")) for k, script in enumerate(scripts)]
    for cold in (True, False):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "NUMBA_CACHE_DIR": str(tmp_path / "together")}
        running = [
            subprocess.Popen(
                [sys.executable, "-c", scripts[k % 2]], env=environment, stdout=subprocess.PIPE, text=True
            )
            for k in range(8)
        ]
        outputs = [process.communicate(timeout=900)[0] for process in running]
        assert outputs == alone * 4, f"cold: {cold}"
        assert all(path.suffix == ".nbc" for path in files(tmp_path / "together"))

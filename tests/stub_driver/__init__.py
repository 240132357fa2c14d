"""A driver without a GPU: what the host would have told one, in the order in which it would have."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("libcuda.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> None:
    """Compile the driver into folder, which LD_LIBRARY_PATH then has to name."""
    assert COMPILER is not None
    library = folder / "libcuda.so.1"
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)


class Launch(NamedTuple):
    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int
    stream: int
    arguments: tuple[int, ...]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("kernel", ctypes.c_char * 128),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint32),
        ("stream", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 32),
    ]


class StubDriver:
    """The driver of this process, which must have been started with it."""

    def __init__(self) -> None:
        self.library: Any = ctypes.CDLL("libcuda.so.1")
        self.library.stub_launch.restype = ctypes.POINTER(_Launch)
        for name in ("stub_launch_count", "stub_load_count"):
            getattr(self.library, name).restype = ctypes.c_uint64

    def copy_arguments(self, count: int) -> None:
        """How many arguments of a launch to write down; one too many, and the process may crash."""
        self.library.stub_copy_arguments(count)

    @property
    def launch_count(self) -> int:
        return int(self.library.stub_launch_count())

    @property
    def load_count(self) -> int:
        return int(self.library.stub_load_count())

    def launch(self, number: int, arguments: int) -> Launch:
        """Of the last 64, with its arguments as 64 bits each."""
        seen = self.library.stub_launch(ctypes.c_uint64(number)).contents
        return Launch(
            seen.kernel.decode(), tuple(seen.grid), tuple(seen.block), seen.shared_bytes, seen.stream,
            tuple(seen.arguments[:arguments]),
        )  # fmt: skip

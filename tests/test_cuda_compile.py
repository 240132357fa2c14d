"""Kernels compile for seven architectures without a GPU or a driver, and keep all that they hold in registers.

A specialisation goes through Numba once; its PTX, which any of the architectures takes, through the assembler for each.
"""

import functools
import re

import pytest
from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda, types

from numbactc.kernels.cuda import build
from numbactc.kernels.cuda.alignment_plan import AlignmentCall, alignment_plan
from numbactc.kernels.cuda.plan import SCORE_BYTES, Call, Kernel, plan
from numbactc.kernels.cuda.sweep import frames_ahead
from numbactc.kernels.cuda.viterbi import FRAMES_AHEAD

ARCHITECTURES = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]

ROWS = [
    ("float32", 4, 1, 4), ("float32", 1, 1, 1), ("float32", 4, 16, 4), ("bfloat16", 8, 1, 4), ("bfloat16", 8, 4, 4),
    ("bfloat16", 8, 16, 4), ("float16", 8, 4, 2), ("float64", 2, 4, 4),
]  # fmt: skip
LATTICES = [
    ("float32", 1, 0),
    ("float32", 2, 0),
    ("float32", 4, 0),
    ("float32", 4, 1),
    ("float64", 1, 0),
    ("float64", 2, 0),
    ("float64", 2, 1),
]
ALIGNMENTS = [
    ("float32", 1, 0), ("float32", 2, 0), ("float32", 4, 0), ("float32", 4, 1), ("float64", 4, 0), ("float64", 4, 1),
    ("bfloat16", 2, 0), ("float16", 4, 1),
]  # fmt: skip
KERNELS = [
    Kernel("prepare", ()),
    *(Kernel(name, options) for options in ROWS for name in ("rows_forward", "rows_backward")),
    *(Kernel(name, options) for options in LATTICES for name in ("lattice_outer", "lattice_inner")),
    *(Kernel("viterbi", options) for options in ALIGNMENTS),
    *(Kernel(name, (dtype,)) for dtype in SCORE_BYTES for name in ("traceback", "span_means")),
]


@functools.cache
def ptx_of(kernel: Kernel, compute_capability: tuple[int, int] = (7, 5)) -> str:
    function, argument_types = build.build(kernel)
    bounds = build.launch_bounds(kernel)
    ptx, _ = cuda.compile_ptx(function, types.void(*argument_types), cc=compute_capability, launch_bounds=bounds)
    return str(ptx)


def assembler_log(ptx: str, architecture: tuple[int, int]) -> str:
    options = LinkerOptions(arch=f"sm_{architecture[0]}{architecture[1]}", ptxas_options=["-v"], fma=False)
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    assert linker.link("cubin").code
    return str(linker.get_info_log())


def assert_registers_only(log: str) -> None:
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert frames, log
    assert all(set(numbers) == {"0"} for numbers in frames), log


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: "-".join(map(str, (kernel.name, *kernel.options))))
def test_no_stack_and_no_spill_on_any_architecture(kernel: Kernel) -> None:
    ptx = ptx_of(kernel)
    assert ".local" not in ptx
    assert "call" not in re.sub(r"//.*", "", ptx), "everything is inlined"
    for architecture in ARCHITECTURES:
        assert_registers_only(assembler_log(ptx, architecture))


def test_a_spill_would_be_noticed() -> None:
    def too_much(values: object, count: object) -> None:
        kept = cuda.local.array(400, types.float32)
        for k in range(400):
            kept[k] = values[k]  # type: ignore[index]
        for k in range(count):  # type: ignore[call-overload]
            values[k] = kept[k]  # type: ignore[index]

    ptx, _ = cuda.compile_ptx(too_much, types.void(types.CPointer(types.float32), types.int32), cc=(7, 5))
    with pytest.raises(AssertionError):
        assert_registers_only(assembler_log(str(ptx), (9, 0)))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_numba_generates_code_for_each_architecture(architecture: tuple[int, int]) -> None:
    kernel = Kernel("rows_forward", ("float32", 1, 1, 1))
    assert_registers_only(assembler_log(ptx_of(kernel, architecture), architecture))


def test_plans_ask_for_kernels_that_exist() -> None:
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        for classes, width in ((29, 100), (5000, 40), (100_000, 2000)):
            what = plan(Call(400, 16, classes, width, False, dtype, True, True))
            alignment = alignment_plan(AlignmentCall(400, 16, 16 * width, width, dtype))
            for launch in (*what.forward, *what.backward, *alignment.launches):
                assert launch.kernel.name in build.KERNELS
                assert launch.block <= build.launch_bounds(launch.kernel)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.name.startswith("rows") and k.options[1] != 1], ids=str)
def test_rows_are_read_in_vectors_of_16_bytes(kernel: Kernel) -> None:
    vectors = re.findall(r"ld\.global\.v(\d)\.[a-z](\d+)", ptx_of(kernel))
    sizes = [int(count) * int(bits) // 8 for count, bits in vectors]
    assert sizes.count(16) >= int(kernel.options[3]), sizes
    if kernel.name == "rows_backward":
        stores = re.findall(r"st\.global\.v(\d)\.[a-z](\d+)", ptx_of(kernel))
        assert stores and {int(count) * int(bits) // 8 for count, bits in stores} == {16}


@pytest.mark.parametrize("name", ["lattice_outer", "lattice_inner"])
@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_the_recursion_does_not_drift_into_64_bits(name: str, pairs: int) -> None:
    """Numba widens sums of int32. Each frame has a few addresses; arithmetic on exponents must stay at 32 bits."""
    ptx = ptx_of(Kernel(name, ("float32", pairs, 0)))
    lines = ptx.splitlines()
    shuffles = [number for number, line in enumerate(lines) if "shfl.sync.up" in line]
    ahead = frames_ahead(types.float32, pairs)
    first, last = shuffles[0], shuffles[2 * ahead - 2]  # two a frame: the first to the last frame of the ring
    wide = [
        line
        for line in lines[first:last]
        if re.match(r"\s*(add|sub|min|max|mul\.lo|mad|shr|setp)\.[a-z.]*[su]64", line)
    ]
    others = [line for line in wide if not re.match(r"\s*add", line)]
    assert not others, "\n".join(others)
    assert len(wide) / (ahead - 1) <= 16 + pairs, "\n".join(wide)


@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_a_frame_of_an_alignment_has_no_branches(pairs: int) -> None:
    """But for the one around it: maxima and their origins are selected, so a warp's lanes stay together."""
    lines = ptx_of(Kernel("viterbi", ("float32", pairs, 0))).splitlines()
    shuffles = [number for number, line in enumerate(lines) if "shfl.sync.up" in line]
    assert len(shuffles) == 3 * FRAMES_AHEAD, "a score in two halves and an origin for each frame"
    within = lines[shuffles[0] : shuffles[3]]
    assert sum("bra" in line for line in within) <= 1, "\n".join(within)

"""Which kernels one call launches, on what grids, and the memory that they share: all of it from shapes alone.

Nothing here depends on a length or a label, for those are on the device: a call never waits for them, and a captured
graph stays right when they change. Imports neither Numba nor torch.
"""

from typing import NamedTuple

WARP = 32
HALO = 16
"""Pairs that a warp recomputes, and so the number of frames between two barriers."""

SCORE_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
VECTOR_BYTES = 16

MOST_PAIRS = 4
"""Positions of the lattice that a lane holds: 1, 2 or this."""

MOST_LATTICE_WARPS = 8
"""So that a thread may have 255 registers."""

MOST_ROWS = 2**31 - 1


class Call(NamedTuple):
    """What a plan depends on."""

    frames: int
    batch: int
    classes: int
    width: int
    """S, the columns of padded targets, or the number of labels of concatenated ones."""
    concatenated: bool
    dtype: str
    """Of the scores: a key of SCORE_BYTES."""
    normalise: bool
    """Scores are raw and go through a softmax."""
    keep: bool
    """A gradient will be asked for."""


class Kernel(NamedTuple):
    """A kernel to compile: a key of `build.KERNELS`, and what it is specialised on."""

    name: str
    options: tuple[str | int, ...]


class Launch(NamedTuple):
    kernel: Kernel
    grid: tuple[int, int]
    block: int


class Buffer(NamedTuple):
    """A part of a workspace: bytes from its start. Empty buffers have size 0 and may be given any address."""

    offset: int
    size: int


class Plan(NamedTuple):
    """Launches in their order, and two workspaces, each one allocation on a boundary of at least 16 bytes."""

    forward: tuple[Launch, ...]
    backward: tuple[Launch, ...]
    saved: dict[str, Buffer]
    saved_bytes: int
    """Kept until backward."""
    scratch: dict[str, Buffer]
    scratch_bytes: int
    """Free again when the forward launches are queued."""
    table: bool
    """Emissions are kept for each class, not for each label: there are fewer."""
    vector: int
    """Scores that a row kernel loads at once, where `is_aligned` allows."""


def real_of(dtype: str) -> str:
    """The floating type of all arithmetic on scores of this dtype."""
    return "float64" if dtype == "float64" else "float32"


def vector_of(dtype: str, classes: int) -> int:
    """Scores in 16 bytes, if rows consist of whole vectors and have one for each lane; else 1."""
    vector = VECTOR_BYTES // SCORE_BYTES[dtype]
    return vector if classes % vector == 0 and classes >= WARP * vector else 1


def row_groups(classes: int, threads: int, vector: int) -> int:
    """Vectors that a thread of a row has under way at once: 1, 2 or 4, as many as there are for it."""
    rounds = -(-classes // (threads * vector))
    return 1 if rounds == 1 else 2 if rounds == 2 else 4


def row_warps(classes: int) -> int:
    """Warps that share a row. They change the order of its sum, so nothing but C may choose them."""
    return 1 if classes <= 1024 else 4 if classes <= 16384 else 16


def lattice_shape(positions: int, real: str = "float32") -> tuple[int, int, int]:
    """(pairs a lane, whether states stay in memory, warps) for a lattice of so many positions.

    Two pairs a lane keep up to four warps, one for each scheduler of a multiprocessor, within the latency of the
    recursion itself; four take fewer instructions for each, and in float64 more registers than there are. Longer than
    what the most warps hold, states go through memory.
    """
    if positions <= WARP:
        pairs = 1
    elif real == "float64" or positions <= capacity(2, 4):
        pairs = 2
    else:
        pairs = MOST_PAIRS
    if positions > capacity(pairs, MOST_LATTICE_WARPS):
        return pairs, 1, MOST_LATTICE_WARPS
    step = pairs * WARP - HALO
    return pairs, 0, 1 + max(0, -(-(positions - pairs * WARP) // step))


def capacity(pairs: int, warps: int) -> int:
    """Positions that so many warps hold in registers: each but the first gives HALO of them to its left neighbour."""
    return pairs * WARP + (warps - 1) * (pairs * WARP - HALO)


def is_aligned(address: int, strides: tuple[int, int, int], dtype: str) -> bool:
    """Whether rows of scores can be loaded in vectors of 16 bytes; strides of T, N, C in elements."""
    size = SCORE_BYTES[dtype]
    rows = all(stride * size % VECTOR_BYTES == 0 for stride in strides[:2])
    return strides[2] == 1 and rows and address % VECTOR_BYTES == 0


def plan(call: Call) -> Plan:
    """Everything that the host needs to know; pure, so keep its answers."""
    T, N, C = call.frames, call.batch, call.classes
    if T * N > MOST_ROWS:
        raise ValueError(f"T * N must be below 2**31 on a GPU, got {T} * {N}")
    real, places = SCORE_BYTES[real_of(call.dtype)], places_of(call)
    columns = places + 4 * N
    table = columns >= N * (C + 1)
    longest = min(call.width, T)
    pairs, tiled, warps = lattice_shape(round_up(longest) + 1, real_of(call.dtype))
    keep = int(call.keep)
    saved, saved_bytes = saved_layout(call)
    scratch, scratch_bytes = lay_out(
        labels=4 * places,
        emissions=2 * real * T * (N * (C + 1) if table else columns),
        states=2 * real * 4 * columns * (1 + 2 * tiled),
        sums=8 * N,
        exponents=keep * 4 * T * places,
        blanks=keep * 2 * real * -(-T // HALO) * columns,
    )
    vector = vector_of(call.dtype, C)
    team = WARP * row_warps(C)
    row_options = (call.dtype, vector, row_warps(C), row_groups(C, team, vector))
    block = max(4 * WARP, team)
    rows = (-(-T * N // (block // team)), 1)
    lattice_options = (real_of(call.dtype), pairs, tiled)
    forward: tuple[Launch, ...] = (
        Launch(Kernel("prepare", ()), (N, 1), 128),
        *([Launch(Kernel("rows_forward", row_options), rows, block)] if T else []),
        Launch(Kernel("lattice_outer", lattice_options), (N, 3), WARP * warps),
        Launch(Kernel("lattice_inner", lattice_options), (N, 2 if call.keep else 1), WARP * warps),
    )
    backward: tuple[Launch, ...] = (Launch(Kernel("rows_backward", row_options), rows, block),)
    if N == 0:
        forward, backward = (), ()
    if T == 0:
        backward = ()
    return Plan(forward, backward, saved, saved_bytes, scratch, scratch_bytes, table, vector)


def saved_layout(call: Call) -> tuple[dict[str, Buffer], int]:
    """What is kept until backward, and its bytes. Sizes take part in no comparison: they may be symbols."""
    T, N = call.frames, call.batch
    real, places, keep = SCORE_BYTES[real_of(call.dtype)], places_of(call), int(call.keep)
    return lay_out(
        facts=4 * 8 * N,
        outcomes=4 * N,
        starts=8 * N,
        row_stats=2 * real * N * T,
        posteriors=keep * real * T * places,
        order=keep * 4 * places,
        classes=keep * 4 * places,
        begins=keep * 4 * places,
        class_counts=keep * 4 * N,
    )


def places_of(call: Call) -> int:
    """Places for the labels of all utterances."""
    return call.width + 3 * call.batch if call.concatenated else call.batch * round_up(call.width)


def round_up(labels: int) -> int:
    """Places for so many labels: a multiple of the most pairs that a lane has."""
    return -(-labels // MOST_PAIRS) * MOST_PAIRS


def lay_out(**sizes: int) -> tuple[dict[str, Buffer], int]:
    """Buffers of so many bytes, one behind the other, each on a boundary of 256; and the bytes of all."""
    buffers, offset = {}, 0
    for name, size in sizes.items():
        buffers[name] = Buffer(offset, size)
        offset += -(-size // 256) * 256
    return buffers, offset

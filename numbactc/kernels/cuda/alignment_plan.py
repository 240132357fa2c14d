"""What `plan.py` is for losses, for alignments: launches and memory from shapes alone, with neither Numba nor torch."""

from typing import NamedTuple

from numbactc.kernels.cuda.plan import (
    HALO,
    SCORE_BYTES,
    WARP,
    Buffer,
    Call,
    Kernel,
    Launch,
    check_rows,
    lattice_shape,
    lay_out,
    places_of,
    round_up,
)

BLOCK_FRAMES = 15 * HALO
"""Frames between two checkpoints. Together with its start, as many positions as one block's traceback has threads for."""

TRACE_THREADS = BLOCK_FRAMES + HALO

MOST_BLOCKS = 65535
"""Of CUDA's, in the second direction of a grid."""

STATE_BYTES = 8
"""Scores of states are float64 whatever the dtype: see README.md."""


class AlignmentPlan(NamedTuple):
    """Launches in their order, and two workspaces, each one allocation on a boundary of at least 16 bytes."""

    launches: tuple[Launch, ...]
    results: dict[str, Buffer]
    """What the host may ask for, in one copy."""
    results_bytes: int
    scratch: dict[str, Buffer]
    scratch_bytes: int
    """Free again when the launches are queued."""


def alignment_plan(call: Call) -> AlignmentPlan:
    """Everything that the host needs to know; of the call, `normalise` and `keep` do not matter."""
    T, N = call.frames, call.batch
    check_rows(call)
    blocks = -(-T // BLOCK_FRAMES)
    if blocks > MOST_BLOCKS:
        raise ValueError(f"T must be at most {MOST_BLOCKS * BLOCK_FRAMES} for an alignment on a GPU, got {T}")
    places = places_of(call)
    columns = places + 4 * N
    pairs, tiled, warps = lattice_shape(round_up(min(call.width, T)) + 1)
    results, results_bytes = lay_out(
        facts=4 * 8 * N,
        outcomes=4 * N,
        states=4 * N * T,
        path_classes=4 * N * T,
        path_scores=SCORE_BYTES["float64" if call.dtype == "float64" else "float32"] * N * T,
    )
    scratch, scratch_bytes = lay_out(
        starts=8 * N,
        labels=4 * places,
        checkpoints=2 * STATE_BYTES * blocks * columns,
        origins=4 * blocks * columns,
        ends=4 * N * blocks,
        rows=tiled * 2 * 2 * STATE_BYTES * columns,
        row_origins=tiled * 2 * 2 * 4 * columns,
    )
    launches: tuple[Launch, ...] = (
        Launch(Kernel("prepare", ()), (N, 1), 4 * WARP),
        Launch(Kernel("viterbi", (call.dtype, pairs, tiled)), (N, 1), WARP * warps),
        *([Launch(Kernel("traceback", (call.dtype,)), (N, blocks), TRACE_THREADS)] if blocks else []),
    )
    return AlignmentPlan(launches if N else (), results, results_bytes, scratch, scratch_bytes)

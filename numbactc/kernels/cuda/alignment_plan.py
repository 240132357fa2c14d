"""What `plan.py` is for losses, for alignments: launches and memory, with neither Numba nor torch.

An alignment is wanted on the host, so its lengths are known there: the longest target decides on the grids.
"""

from typing import NamedTuple

from numbactc.kernels.cuda.plan import HALO, WARP, Buffer, Kernel, Launch, lattice_shape, lay_out, round_up

BLOCK_FRAMES = 15 * HALO
"""Frames between two checkpoints. A path can have come from one position more in that time, and there is a thread for
each of them where it is traced back.
"""

TRACE_THREADS = BLOCK_FRAMES + HALO

MEAN_THREADS = 4 * WARP

MOST_BLOCKS = 65535
"""Of CUDA's, in the second direction of a grid."""


class AlignmentCall(NamedTuple):
    """What a plan depends on."""

    frames: int
    batch: int
    labels: int
    """Of all targets, which are concatenated."""
    longest: int
    """Labels of the longest."""
    dtype: str
    """Of the scores."""


class AlignmentPlan(NamedTuple):
    """Launches in their order, and two workspaces, each one allocation on a boundary of at least 16 bytes."""

    launches: tuple[Launch, ...]
    results: dict[str, Buffer]
    """What the host asks for, in one copy."""
    results_bytes: int
    scratch: dict[str, Buffer]
    scratch_bytes: int
    """Free again when the launches are queued."""


def alignment_plan(call: AlignmentCall) -> AlignmentPlan:
    """Everything that the host needs to know; pure, so keep its answers."""
    N = call.batch
    blocks, rounds = -(-call.frames // BLOCK_FRAMES), -(-call.longest // MEAN_THREADS)
    if max(blocks, rounds) > MOST_BLOCKS:
        raise ValueError(
            f"an alignment on a GPU has at most {MOST_BLOCKS * BLOCK_FRAMES} frames and {MOST_BLOCKS * MEAN_THREADS} "
            f"labels, got T = {call.frames} and {call.longest} labels"
        )
    places = call.labels + 3 * N
    columns = places + 4 * N
    pairs, tiled, warps = lattice_shape(round_up(call.longest) + 1)
    results, results_bytes = lay_out(path_scores=8 * N, spans=2 * 4 * places, log_means=8 * places)
    scratch, scratch_bytes = lay_out(
        facts=4 * 8 * N,
        starts=8 * N,
        labels=4 * places,
        checkpoints=2 * 8 * blocks * columns,
        origins=4 * blocks * columns,
        ends=4 * N * blocks,
        rows=tiled * 2 * 2 * 8 * columns,
        row_origins=tiled * 2 * 2 * 4 * columns,
    )
    launches: tuple[Launch, ...] = (
        Launch(Kernel("prepare", ()), (N, 1), 4 * WARP),
        Launch(Kernel("viterbi", (call.dtype, pairs, tiled)), (N, 1), WARP * warps),
        Launch(Kernel("traceback", (call.dtype,)), (N, blocks), TRACE_THREADS),
        Launch(Kernel("span_means", (call.dtype,)), (N, rounds), MEAN_THREADS),
    )
    launches = tuple(launch for launch in launches if min(launch.grid) > 0)
    return AlignmentPlan(launches, results, results_bytes, scratch, scratch_bytes)

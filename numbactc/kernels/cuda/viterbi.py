"""The best path of each utterance, forward: the largest sum of scores on a way to each state, and where it began.

Lanes, segments and halos are those of `sweep.py`: K positions a lane, where position p is blank p and label p, and a
block's warps meet once in 16 frames. A state takes along with its score its *origin*, the state in which its best path
was at the last checkpoint. So when the last frame is done, a path need not be followed back through all frames: from
checkpoint to checkpoint its origins are followed, a few steps, and what lies between is for `traceback.py`, which does
all stretches at once.

A state is numbered 2 p for blank p, 2 p + 1 for label p. See README.md for the arguments.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float64, int32, int64

from numbactc.kernels.cuda.alignment_plan import BLOCK_FRAMES
from numbactc.kernels.cuda.device import device
from numbactc.kernels.cuda.facts import BAD, COLUMNS, FRAMES, LABELS, STATUS, WIDTH
from numbactc.kernels.cuda.intrinsics import WIDEN, add, offset, prefetch
from numbactc.kernels.cuda.plan import HALO, MOST_LATTICE_WARPS, WARP
from numbactc.kernels.cuda.rows import real_type

ALL_LANES = 0xFFFFFFFF

NEVER = -np.inf
"""The score of a state that no path has reached."""

FRAMES_AHEAD = 4
"""Frames whose scores are on their way to registers: a load from L2 takes as long."""

FRAMES_TO_L2 = 24
"""Frames whose scores are on their way to L2: they come straight from memory, where nobody has read them before."""

TURNS = BLOCK_FRAMES // HALO

EXCHANGE = 2 * MOST_LATTICE_WARPS * HALO * 2
"""States that warps share: two turns, each with the halo's labels and blanks."""


class Utterance(NamedTuple):
    """What a block works on. Pointers are to what belongs to the utterance."""

    frames: Any
    count: Any  # L
    labels: Any  # (L,)
    scores: Any  # (T, C), rows stride_t apart
    stride_t: Any
    stride_c: Any
    blank_at: Any  # element of a row
    columns: Any  # positions that there is memory for
    checkpoints: Any  # (blocks, columns, 2) scores of labels and blanks after each stretch of BLOCK_FRAMES
    origins: Any  # (blocks, columns) how far their origins lie behind them, 16 bits for each
    rows: Any  # (2, columns, 2) where lanes come and go, their states: scores, ...
    row_origins: Any  # ... and origins


class Lane(NamedTuple):
    """Registers of one thread: local arrays."""

    l: Any  # (K,) scores of labels and their origins
    ol: Any
    b: Any  # (K,) the same of blanks
    ob: Any
    at: Any  # (K,) each label's element of a row of scores
    there: Any  # (K,) 1 if there is such a label
    skip: Any  # (K,) 1 if it may be entered from the label before
    p: Any  # (D, K) a ring of frames: scores of labels, ...
    q: Any  # (D,) ... and of the blank
    bad: Any  # (1,) 1 if a score was NaN or +inf


def make_viterbi(dtype: str, pairs: int, tiled: int) -> Any:
    """The kernel.

    Args:
        dtype: of the scores.
        pairs: K.
        tiled: the block is too small for all positions. It takes them in segments, as many at a time as it has warps,
            and states stay in memory between chunks of 16 frames.
    """
    K, D = pairs, FRAMES_AHEAD
    DK = D * K
    step, halo_lanes = K * WARP - HALO, HALO // K
    widen, stored = WIDEN[dtype], real_type(dtype)
    never, infinity, zero = float64(NEVER), stored(np.inf), float64(0)

    @cuda.jit(device=True, inline="always")
    def new_lane():
        return Lane(
            cuda.local.array(K, float64), cuda.local.array(K, int32),
            cuda.local.array(K, float64), cuda.local.array(K, int32),
            cuda.local.array(K, int64), cuda.local.array(K, int32), cuda.local.array(K, int32),
            cuda.local.array(DK, stored), cuda.local.array(D, stored), cuda.local.array(1, int32),
        )  # fmt: skip

    @device()
    def fetch(what, lane, d, frame):
        """Start the loads of a frame to place d of the ring; at the end, of some frame that there is."""
        row = offset(what.scores, int64(min(frame, int32(what.frames - 1))) * what.stride_t)
        lane.q[d] = widen(row[what.blank_at])
        for k in range(K):
            lane.p[d * K + k] = widen(row[lane.at[k]])

    @device()
    def fetch_to_l2(what, lane, frame):
        """The same as far as L2."""
        row = offset(what.scores, int64(min(frame, int32(what.frames - 1))) * what.stride_t)
        for k in range(K):
            prefetch(row, lane.at[k])

    @device()
    def restart(lane, p0):
        """From here on states come from themselves."""
        for k in range(K):
            lane.ob[k] = int32(2 * int32(p0 + k))
            lane.ol[k] = int32(2 * int32(p0 + k) + 1)

    @device()
    def set_up(what, lane, p0, first):
        """A lane's labels and first scores, and the states before the first frame: blank 0 alone, with a score of 0."""
        for k in range(K):
            p = int32(p0 + k)
            lane.at[k], lane.there[k], lane.skip[k] = what.blank_at, int32(0), int32(0)
            if p < what.count:
                label = what.labels[p]
                lane.at[k], lane.there[k] = int64(label) * what.stride_c, int32(1)
                if p > 0 and what.labels[p - 1] != label:
                    lane.skip[k] = int32(1)
            lane.l[k], lane.b[k] = never, zero if p == 0 else never
        restart(lane, p0)
        # not a loop, which might stay one and keep the ring out of registers
        fetch(what, lane, 0, first)
        fetch(what, lane, 1, int32(first + 1))
        fetch(what, lane, 2, int32(first + 2))
        fetch(what, lane, 3, int32(first + 3))

    @device()
    def do_frame(what, lane, d, frame):
        """One frame, whose scores are in place d of the ring. Where two ways are as good, the shorter step wins."""
        left = cuda.shfl_up_sync(ALL_LANES, lane.l[K - 1], 1)
        left_origin = cuda.shfl_up_sync(ALL_LANES, lane.ol[K - 1], 1)
        if (int32(cuda.threadIdx.x) & int32(31)) == 0:
            left = never
        if frame < what.frames:
            if not lane.q[d] < infinity:
                lane.bad[0] = int32(1)
            for kk in range(K):
                k = K - 1 - kk
                b, ob, best, origin = lane.b[k], lane.ob[k], lane.l[k], lane.ol[k]
                if k > 0:
                    before, before_origin = lane.l[k - 1], lane.ol[k - 1]
                else:
                    before, before_origin = left, left_origin
                if b > best:
                    best, origin = b, ob
                if lane.skip[k] != 0 and before > best:
                    best, origin = before, before_origin
                if before > b:
                    b, ob = before, before_origin
                score = lane.p[d * K + k] if lane.there[k] != 0 else stored(NEVER)
                if not score < infinity:
                    lane.bad[0] = int32(1)
                lane.l[k], lane.b[k] = add(best, float64(score)), add(b, float64(lane.q[d]))
                lane.ol[k], lane.ob[k] = origin, ob
        fetch(what, lane, d, int32(frame + D))
        fetch_to_l2(what, lane, int32(frame + FRAMES_TO_L2))

    @device()
    def run_chunk(what, lane, frame, ticks):
        """16 frames, or fewer at the end."""
        tick = int32(0)
        while tick < ticks:
            # not a loop, which might stay one and keep the ring out of registers
            do_frame(what, lane, 0, frame)
            do_frame(what, lane, 1, int32(frame + 1))
            do_frame(what, lane, 2, int32(frame + 2))
            do_frame(what, lane, 3, int32(frame + 3))
            frame = int32(frame + D)
            tick = int32(tick + D)

    @device()
    def save_checkpoint(what, lane, p0, owned, block):
        row = int64(block) * int64(what.columns)
        checkpoint, origins = offset(what.checkpoints, 2 * row), offset(what.origins, row)
        for k in range(K):
            p = int32(p0 + k)
            if owned and p <= what.count:
                checkpoint[2 * p], checkpoint[2 * p + 1] = lane.b[k], lane.l[k]
                of_blank, of_label = int32(2 * p - lane.ob[k]), int32(2 * p + 1 - lane.ol[k])
                origins[p] = int32(int32(of_label << int32(16)) | of_blank)

    @device()
    def save_row(what, lane, p0, owned, turn):
        row = 2 * int64(what.columns) * int64(turn & int32(1))
        scores, origins = offset(what.rows, row), offset(what.row_origins, row)
        for k in range(K):
            p = int32(p0 + k)
            if owned and p <= what.count:
                scores[2 * p], scores[2 * p + 1] = lane.b[k], lane.l[k]
                origins[2 * p], origins[2 * p + 1] = lane.ob[k], lane.ol[k]

    @device()
    def load_row(what, lane, p0, turn):
        row = 2 * int64(what.columns) * int64(turn & int32(1))
        scores, origins = offset(what.rows, row), offset(what.row_origins, row)
        for k in range(K):
            p = int32(p0 + k)
            if p <= what.count:
                lane.b[k], lane.l[k] = scores[2 * p], scores[2 * p + 1]
                lane.ob[k], lane.ol[k] = origins[2 * p], origins[2 * p + 1]

    @device()
    def sweep_resident(what, lane, scores, origins):
        """Each warp has one segment, in registers from the first frame to the last.

        Args:
            scores, origins: shared, (EXCHANGE,): what a warp hands on to the next.
        """
        thread = int32(cuda.threadIdx.x)
        number, warp = int32(thread & int32(31)), int32(thread >> int32(5))
        ticks = min(int32(cuda.blockDim.x), int32(HALO))  # always HALO; a compiler that knew would unroll them all
        p0 = int32(int32(warp * step) + int32(number * K))
        owned = warp == 0 or number >= halo_lanes
        live = warp == 0 or int32(int32(warp * step) + HALO) <= what.count
        if live:
            set_up(what, lane, p0, int32(0))
        turns = int32(int32(what.frames + int32(HALO - 1)) // HALO)
        turn = int32(0)
        while turn < turns:
            if live:
                run_chunk(what, lane, int32(turn * HALO), ticks)
                if int32(turn + 1) % TURNS == 0 or turn + 1 == turns:
                    save_checkpoint(what, lane, p0, owned, int32(turn // TURNS))
                    restart(lane, p0)
            side = int32((turn & 1) * MOST_LATTICE_WARPS)  # two places in turn: one barrier is enough
            if live and number >= WARP - halo_lanes:
                to = int32(int32(int32(side + warp) * HALO + int32(number - (WARP - halo_lanes)) * K) * 2)
                for k in range(K):
                    scores[to + 2 * k], scores[to + 2 * k + 1] = lane.b[k], lane.l[k]
                    origins[to + 2 * k], origins[to + 2 * k + 1] = lane.ob[k], lane.ol[k]
            cuda.syncthreads()
            if live and warp > 0 and number < halo_lanes:
                at = int32(int32(int32(side + warp - 1) * HALO + number * K) * 2)
                for k in range(K):
                    lane.b[k], lane.l[k] = scores[at + 2 * k], scores[at + 2 * k + 1]
                    lane.ob[k], lane.ol[k] = origins[at + 2 * k], origins[at + 2 * k + 1]
            turn = int32(turn + 1)

    @device()
    def sweep_tiled(what, lane, scores, origins):
        """Segments come and go; their states are read from one copy and written to another."""
        thread = int32(cuda.threadIdx.x)
        number, warp = int32(thread & int32(31)), int32(thread >> int32(5))
        warps = int32(int32(cuda.blockDim.x) >> int32(5))
        ticks = min(int32(cuda.blockDim.x), int32(HALO))
        turns = int32(int32(what.frames + int32(HALO - 1)) // HALO)
        turn = int32(0)
        while turn < turns:
            start = int32(warp * step)
            while start == 0 or int32(start + HALO) <= what.count:
                p0 = int32(start + int32(number * K))
                owned = start == 0 or number >= halo_lanes
                set_up(what, lane, p0, int32(turn * HALO))
                if turn > 0:
                    load_row(what, lane, p0, turn)
                run_chunk(what, lane, int32(turn * HALO), ticks)
                if int32(turn + 1) % TURNS == 0 or turn + 1 == turns:
                    save_checkpoint(what, lane, p0, owned, int32(turn // TURNS))
                    restart(lane, p0)
                save_row(what, lane, p0, owned, int32(turn + 1))
                start = int32(start + int32(warps * step))
            cuda.syncthreads()
            turn = int32(turn + 1)

    sweep = sweep_tiled if tiled else sweep_resident

    @device(float64)
    def follow(what, blocks, ends):
        """The best path's score. If there is one, write down in which state it ends each stretch of BLOCK_FRAMES."""
        last = offset(what.checkpoints, 2 * int64(blocks - 1) * int64(what.columns))
        state, score = int32(2 * what.count), last[2 * what.count]
        if what.count > 0 and last[2 * what.count - 1] >= score:
            state, score = int32(2 * what.count - 1), last[2 * what.count - 1]
        block = int32(blocks - 1) if score > never else int32(-1)
        while block >= 0:
            ends[block] = state
            both = what.origins[int64(block) * int64(what.columns) + int64(state >> int32(1))]
            back = int32(both >> int32(16)) if (state & int32(1)) != 0 else int32(both & int32(0xFFFF))
            state = int32(state - back)
            block = int32(block - 1)
        return score

    def viterbi(
        scores, stride_t, stride_n, stride_c, T, blank, facts, starts, labels, checkpoints, origins, rows, row_origins,
        ends, path_scores,
    ):  # fmt: skip
        n, thread = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        shared_scores = cuda.shared.array(EXCHANGE, float64)
        shared_origins = cuda.shared.array(EXCHANGE, int32)
        bad = cuda.shared.array(MOST_LATTICE_WARPS, int32)
        status, frames, count = facts[COLUMNS * n + STATUS], facts[COLUMNS * n + FRAMES], facts[COLUMNS * n + LABELS]
        if status == BAD or frames == 0:
            if thread == 0:
                path_scores[n] = math.nan if status == BAD else zero if count == 0 else never
            return
        blocks = int32(int32(T + int32(BLOCK_FRAMES - 1)) // BLOCK_FRAMES)
        here = starts[n] + 4 * int64(n)
        what = Utterance(
            frames, count, offset(labels, starts[n]), offset(scores, int64(n) * stride_n), stride_t, stride_c,
            int64(blank) * stride_c, int32(facts[COLUMNS * n + WIDTH] + 4),
            offset(checkpoints, 2 * here * int64(blocks)), offset(origins, here * int64(blocks)),
            offset(rows, 4 * here), offset(row_origins, 4 * here),
        )  # fmt: skip
        lane = new_lane()
        lane.bad[0] = int32(0)
        sweep(what, lane, shared_scores, shared_origins)
        seen = cuda.ballot_sync(ALL_LANES, lane.bad[0] != 0)
        if (thread & int32(31)) == 0:
            bad[thread >> int32(5)] = int32(seen != 0)
        cuda.syncthreads()
        if thread == 0:
            some_bad = False
            for warp in range(int32(cuda.blockDim.x) >> int32(5)):
                some_bad = some_bad or bad[warp] != 0
            used = int32(int32(frames + int32(BLOCK_FRAMES - 1)) // BLOCK_FRAMES)
            score = follow(what, used, offset(ends, int64(n) * int64(blocks)))
            path_scores[n] = math.nan if some_bad else score

    return viterbi

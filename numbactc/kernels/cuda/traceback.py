"""The best path of each utterance, frame by frame: one block for each stretch between two checkpoints, all at once.

Where the path is at the end of a stretch, `viterbi.py` has found out. In BLOCK_FRAMES frames it can have come from as
many positions further left at most, one for each thread of the block. These are computed anew from the checkpoint, by
the same additions as before, and now it is kept which way each state was entered. From the end one thread goes back
along these marks. See README.md for the arguments.
"""

from typing import Any

from numba import cuda, float64, int32, int64, uint32

from numbactc.kernels.cuda.alignment_plan import BLOCK_FRAMES, TRACE_THREADS
from numbactc.kernels.cuda.device import device
from numbactc.kernels.cuda.facts import COLUMNS, FRAMES, LABELS, WIDTH
from numbactc.kernels.cuda.intrinsics import WIDEN, add, offset
from numbactc.kernels.cuda.plan import WARP
from numbactc.kernels.cuda.rows import real_type
from numbactc.kernels.cuda.viterbi import ALL_LANES, NEVER

FRAMES_AT_ONCE = 8
"""Frames whose scores are loaded together, before the first of them is needed."""

WARPS = TRACE_THREADS // WARP
STEPPED, SKIPPED, ENTERED = range(3)
"""Marks, of 32 positions each: a label was entered from its blank; from the label before; a blank from the latter."""

MARKS = BLOCK_FRAMES * WARPS * 3
NEIGHBOURS = 2 * TRACE_THREADS


def make_traceback(dtype: str) -> Any:
    widen, stored = WIDEN[dtype], real_type(dtype)
    never = float64(NEVER)

    @device()
    def mark_frame(live, label, blank, blank_score, label_score, skips, neighbours, side, marks, k):
        """One frame of one position, whose states are in the local arrays label and blank; `live` for a whole warp.

        Args:
            neighbours: shared, (2, TRACE_THREADS): labels of all positions, in turn.
            marks: shared, (BLOCK_FRAMES, WARPS, 3).
        """
        thread = int32(cuda.threadIdx.x)
        place = int32(side * TRACE_THREADS + thread)
        if live:
            neighbours[place] = label[0]
        cuda.syncthreads()
        if live:
            before = neighbours[place - 1] if thread > 0 else never
            best = label[0]
            stepped = blank[0] > best
            if stepped:
                best = blank[0]
            skipped = skips and before > best
            if skipped:
                best = before
            entered = before > blank[0]
            came = before if entered else blank[0]
            words = (
                cuda.ballot_sync(ALL_LANES, stepped), cuda.ballot_sync(ALL_LANES, skipped),
                cuda.ballot_sync(ALL_LANES, entered),
            )  # fmt: skip
            if (thread & int32(31)) == 0:
                at = int32(int32(k * WARPS + int32(thread >> int32(5))) * 3)
                marks[at + STEPPED], marks[at + SKIPPED], marks[at + ENTERED] = words
            label[0] = add(best, float64(label_score))
            blank[0] = add(came, float64(blank_score))

    @device()
    def go_back(state, left, marks, path, frames):
        """Write down the states of a stretch, from its last one on."""
        k = int32(frames - 1)
        while k >= 0:
            path[k] = state
            position = int32(int32(state >> int32(1)) - left)
            at = int32(int32(k * WARPS + int32(position >> int32(5))) * 3)
            bit = int32(position & int32(31))
            if (state & int32(1)) == 0:
                state = int32(state - int32((marks[at + ENTERED] >> uint32(bit)) & uint32(1)))
            elif (marks[at + SKIPPED] >> uint32(bit)) & uint32(1):
                state = int32(state - 2)
            else:
                state = int32(state - int32((marks[at + STEPPED] >> uint32(bit)) & uint32(1)))
            k = int32(k - 1)

    def traceback(
        scores, stride_t, stride_n, stride_c, T, blank, facts, starts, labels, checkpoints, ends, path_scores,
        spans,
    ):  # fmt: skip
        n, block, thread = int32(cuda.blockIdx.x), int32(cuda.blockIdx.y), int32(cuda.threadIdx.x)
        neighbours = cuda.shared.array(NEIGHBOURS, float64)
        marks = cuda.shared.array(MARKS, uint32)
        path = cuda.shared.array(BLOCK_FRAMES, int32)
        first = int32(block * BLOCK_FRAMES)
        all_frames, count = facts[COLUMNS * n + FRAMES], facts[COLUMNS * n + LABELS]
        frames = int32(min(int32(all_frames - first), int32(BLOCK_FRAMES)))
        if frames <= 0 or not path_scores[n] > never:
            return
        blocks = int32(int32(T + int32(BLOCK_FRAMES - 1)) // BLOCK_FRAMES)
        labels, scores = offset(labels, starts[n]), offset(scores, int64(n) * stride_n + int64(first) * stride_t)
        blank_at = int64(blank) * stride_c

        end = ends[int64(n) * int64(blocks) + int64(block)]
        left = int32(int32(end >> int32(1)) - int32(BLOCK_FRAMES))
        p = int32(left + thread)
        # a warp that lies to the left of the first position or to the right of the last has nothing to do
        of_warp = int32(p - int32(thread & int32(31)))
        live = of_warp + 31 >= 0 and of_warp <= count
        if not live:
            neighbours[thread], neighbours[thread + TRACE_THREADS] = never, never
        label, blank_state = cuda.local.array(1, float64), cuda.local.array(1, float64)
        label[0], blank_state[0] = never, never
        there = p >= 0 and p <= count
        if block == 0:
            if p == 0:
                blank_state[0] = float64(0)
        elif there:
            columns = int64(facts[COLUMNS * n + WIDTH] + 4)
            row = 2 * ((starts[n] + 4 * int64(n)) * int64(blocks) + int64(block - 1) * columns + int64(p))
            blank_state[0], label[0] = checkpoints[row], checkpoints[row + 1]
        has_label = there and p < count
        at, skips = blank_at, False
        if has_label:
            at = int64(labels[p]) * stride_c
            skips = p > 0 and labels[p - 1] != labels[p]

        blank_scores = cuda.local.array(FRAMES_AT_ONCE, stored)
        label_scores = cuda.local.array(FRAMES_AT_ONCE, stored)
        start = int32(0)
        while start < frames:
            for j in range(FRAMES_AT_ONCE):
                row = offset(scores, int64(min(int32(start + j), int32(frames - 1))) * stride_t)
                blank_scores[j], label_scores[j] = stored(NEVER), stored(NEVER)
                if live:
                    blank_scores[j] = widen(row[blank_at])
                if has_label:
                    label_scores[j] = widen(row[at])
            for j in range(FRAMES_AT_ONCE):
                if start + j < frames:
                    mark_frame(
                        live, label, blank_state, blank_scores[j], label_scores[j], skips, neighbours, int32(j & 1),
                        marks, int32(start + j),
                    )  # fmt: skip
            start = int32(start + FRAMES_AT_ONCE)
        cuda.syncthreads()
        if thread == 0:
            go_back(end, left, marks, path, frames)
        cuda.syncthreads()

        spans, k = offset(spans, 2 * starts[n]), thread
        while k < frames:
            state, before = path[k], int32(0)
            if k > 0:
                before = path[k - 1]
            elif block > 0:
                before = ends[int64(n) * int64(blocks) + int64(block - 1)]
            if state != before:
                if (state & int32(1)) != 0:
                    spans[state - 1] = int32(first + k)
                if (before & int32(1)) != 0:
                    spans[before] = int32(first + k)
            if first + k + 1 == all_frames and (state & int32(1)) != 0:
                spans[state] = all_frames
            k = int32(k + TRACE_THREADS)

    return traceback


def make_span_means(dtype: str) -> Any:
    """The mean score of each label over the frames of its span: a thread for each, which adds in their order."""
    widen = WIDEN[dtype]

    def span_means(
        scores, stride_t, stride_n, stride_c, facts, starts, labels, path_scores, spans, log_means
    ):  # fmt: skip
        n = int32(cuda.blockIdx.x)
        j = int32(int32(int32(cuda.blockIdx.y) * int32(cuda.blockDim.x)) + int32(cuda.threadIdx.x))
        if j >= facts[COLUMNS * n + LABELS] or not path_scores[n] > NEVER:
            return
        place = starts[n] + int64(j)
        begin, end = spans[2 * place], spans[2 * place + 1]
        column = offset(scores, int64(n) * stride_n + int64(labels[place]) * stride_c)
        total, t = float64(0), begin
        while t < end:
            total = add(total, float64(widen(column[int64(t) * stride_t])))
            t = int32(t + 1)
        log_means[place] = total / float64(int32(end - begin))

    return span_means

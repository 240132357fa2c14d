"""What the outer half of the lattice has a third block for: how frames were normalised, and labels sorted by class.

Neither is needed before the inner half, and both take less time than the recursion beside them.
"""

import math

from numba import cuda, float64, int32, int64

from numbactc.kernels.cuda.device import device
from numbactc.kernels.cuda.intrinsics import add, bits_of, float_of
from numbactc.kernels.cuda.plan import WARP
from numbactc.kernels.cuda.scaled import LOG2_E

ALL_LANES = 0xFFFFFFFF
MANTISSA = (1 << 52) - 1
ONE = 1023 << 52


@device(float64)
def sum_of_logs(stats, frames, normalise, lane):
    """log2 of what all frames together were divided by; NaN if a score is NaN or +inf. For the lanes of one warp.

    Args:
        stats: (T, 2) row_stats of one utterance.
        normalise: what counts are the sums; else what log-probabilities are measured from, negated.
    """
    m, e, away, bad = float64(1), int64(0), float64(0), int32(0)
    t = int32(lane)
    while t < frames:
        origin, total = float64(stats[2 * int64(t)]), float64(stats[2 * int64(t) + 1])
        if total != total:
            bad = int32(1)
        elif normalise:
            # a product of numbers from 1 to C, its exponent taken out each time
            bits = bits_of(float64(m * total))
            e += (bits >> 52) - 1023
            m = float_of(int64((bits & MANTISSA) | ONE))
        else:
            away -= origin * LOG2_E
        t = int32(t + WARP)
    result = float64(e) + math.log2(m) if normalise else away
    for k in range(5):
        result = add(result, cuda.shfl_xor_sync(ALL_LANES, result, int32(16 >> k)))
        bad = int32(bad | cuda.shfl_xor_sync(ALL_LANES, bad, int32(16 >> k)))
    return math.nan if bad != 0 else result


@device()
def sort_by_class(labels, places, count, order, classes, begins, class_counts, n, counts):
    """Sort a target's labels by class, in each class by place; for all threads of a block.

    Args:
        labels: its count labels start at `places`, and so does what is written for it.
        order: output, place of each label when they are sorted.
        classes, begins: outputs, each class there is, and where it begins in order. class_counts[n]: how many.
        counts: shared, one int32 for each warp.
    """
    thread, block = int32(cuda.threadIdx.x), int32(cuda.blockDim.x)
    lane, warp = int32(thread & int32(31)), int32(thread >> int32(5))
    j = thread
    while j < count:
        label = labels[places + int64(j)]
        rank = int32(0)
        for i in range(count):
            other = labels[places + int64(i)]
            if other < label or (other == label and i < j):
                rank = int32(rank + 1)
        order[places + int64(rank)] = j
        j = int32(j + block)
    cuda.syncthreads()

    found = int32(0)
    start = int32(0)
    while start < count:
        i = int32(start + thread)
        head = False
        label = int32(0)
        if i < count:
            label = labels[places + int64(order[places + int64(i)])]
            head = i == 0 or labels[places + int64(order[places + int64(i) - 1])] != label
        heads = cuda.ballot_sync(ALL_LANES, head)
        if lane == 0:
            counts[warp] = int32(cuda.popc(heads))
        cuda.syncthreads()
        k = int32(found + int32(cuda.popc(int32(int32(heads) & int32((int64(1) << int64(lane)) - 1)))))
        for w in range(block // WARP):
            if w < warp:
                k = int32(k + counts[w])
            found = int32(found + counts[w])
        if head:
            classes[places + int64(k)] = label
            begins[places + int64(k)] = i
        cuda.syncthreads()
        start = int32(start + block)
    if thread == 0:
        class_counts[n] = found

"""Breaks of the CUDA kernels, for `planted_breaks.py`; what they are like is in `breaks.py`."""

from breaks import Break

SWEEP, LATTICE, MEETING, CLASSES, PREPARE, ROWS = (
    f"numbactc/kernels/cuda/{name}.py" for name in ("sweep", "lattice", "meeting", "classes", "prepare", "rows")
)
TESTS, CORNERS = "test_cuda_kernels.py -k", "test_cuda_corners.py -k"

CUDA_BREAKS = [
    Break(
        "GPU: no skip over a blank",
        SWEEP,
        "task.labels[int64(before)] != label:",
        "label < 0:",
        f"{TESTS} every_path",
    ),
    Break(
        "GPU: skip between equal labels",
        SWEEP,
        "task.labels[int64(before)] != label:",
        "label >= 0:",
        f"{TESTS} repeats",
    ),
    Break(
        "GPU: skip between equal labels in the middle",
        MEETING,
        " and labels[int64(p)] != labels[int64(p) - 1]",
        "",
        f"{TESTS} repeats",
    ),
    Break(
        "GPU: exponents aligned to a label that may not be skipped from",
        SWEEP,
        "m1, e1 = b, eb",
        "m1, e1 = mul(b, power_of_two(int32(eb - e), zero)), e",
        f"{CORNERS} equal_labels_of_a_model",
    ),
    Break(
        "GPU: warps do not hear from their neighbours",
        SWEEP,
        "if live and warp > 0 and lane_number < halo_lanes:",
        "if live and warp > 99 and lane_number < halo_lanes:",
        f"{TESTS} any_division_among",
    ),
    Break(
        "GPU: a barrier left out",
        SWEEP,
        "            if warps > 1:\n                cuda.syncthreads()",
        "            if warps > 99:\n                cuda.syncthreads()",
        f"{TESTS} any_division_among",
    ),
    Break(
        "GPU: loads ahead of the first and last frame",
        SWEEP,
        "t = int32(min(max(frame, int32(0)), int32(task.frames - 1)) - here.first)\n        row",
        "t = int32(frame - here.first)\n        row",
        f"{TESTS} every_path",
    ),
    Break(
        "GPU: drift of alpha times beta left in",
        SWEEP,
        "return mul(unit, reciprocal(real(total)))",
        "return reciprocal(real(1.0 + 0.0 * total))",
        f"{CORNERS} many_frames",
    ),
    Break(
        "GPU: a clamp at zero for log-probabilities",
        LATTICE,
        "if normalise and loss < 0.0:",
        "if loss < 0.0:",
        f"{TESTS} every_path",
    ),
    Break(
        "GPU: what log-probabilities are measured from given back twice",
        CLASSES,
        "away -= origin * LOG2_E",
        "away -= 2 * origin * LOG2_E",
        f"{TESTS} every_path",
    ),
    Break(
        "GPU: a label may be the blank",
        PREPARE,
        " or label == blank",
        "",
        f"{CORNERS} bad_arguments",
    ),
    Break(
        "GPU: an input length may be too large",
        PREPARE,
        "frames >= 0 and frames <= T and",
        "frames >= 0 and",
        f"{CORNERS} bad_arguments",
    ),
    Break(
        "GPU: the upper half of int64 ignored",
        PREPARE,
        "return int64(int64(integers[2 * i + 1]) << int64(32)) | low",
        "return low",
        f"{CORNERS} bad_arguments",
    ),
    Break(
        "GPU: a NaN among log-probabilities overlooked",
        ROWS,
        "row_sum = real(1) if row_sum == row_sum else row_sum",
        "row_sum = real(1)",
        f"{CORNERS} nan",
    ),
    Break(
        "GPU: a masked blank keeps what round-off leaves",
        ROWS,
        "if not x > impossible:",
        "if x > real(1):",
        f"{CORNERS} masked_blank",
    ),
    Break(
        "GPU: classes are rewritten before the row is written",
        ROWS,
        "            cuda.syncwarp()\n",
        "            pass\n",
        f"{TESTS} every_path",
    ),
    Break(
        "GPU: frames beyond an utterance get a gradient",
        ROWS,
        "if t >= facts[COLUMNS * n + FRAMES] or no_path or outcome == BAD:",
        "if no_path or outcome == BAD:",
        f"{TESTS} alone_and_in",
    ),
]

"""What `planted_breaks.py` plants: small wrong edits, here of the losses' CPU kernels, and tests that must notice."""

from typing import NamedTuple


class Break(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    test: str
    """Arguments of pytest: where a test must fail."""


LINEAR, STEPWISE, LATTICE, BATCH, ROWS, EXP = (
    f"numbactc/kernels/cpu/{name}.py" for name in ("linear", "stepwise", "lattice", "batch", "rows", "exp")
)
JIT = "numbactc/kernels/jit.py"

BREAKS = [
    Break(
        "no skip over a blank",
        LINEAR,
        "(l0 + b0 + left0 * to_label0)",
        "(l0 + b0)",
        "test_values.py",
    ),
    Break(
        "skip between equal labels too",
        LATTICE,
        "1.0 if j > 0 and slots[j] != slots[j - 1] else 0.0",
        "1.0 if j > 0 else 0.0",
        "test_values.py -k repeats",
    ),
    Break(
        "skip between equal labels, only where a model is sure",
        STEPWISE,
        "if target.skip[j if side < 0 else j + 1] != 0.0:",
        "if j > first:",
        "test_extreme_scores.py",
    ),
    Break(
        "a blank does not hear from the label before it",
        LINEAR,
        "gather(table, (k, 0), slots0), (b0 + left0 * to_blank0) * p_blank",
        "gather(table, (k, 0), slots0), b0 * p_blank",
        "test_values.py",
    ),
    Break(
        "paths must end in a blank",
        LATTICE,
        "return normalise(*add(m, e, n, f))",
        "return m, e",
        "test_values.py",
    ),
    Break(
        "the last frame cannot reach the last pair",
        LATTICE,
        "high = min(labels, end + 1)",
        "high = min(labels, end) - 2",
        "test_values.py test_accuracy.py",
    ),
    Break(
        "the band of useful states starts one pair late",
        LATTICE,
        "labels - frames + begin - 2)",
        "labels - frames + begin + 3)",
        "test_accuracy.py test_gradients.py",
    ),
    Break(
        "posteriors of a frame not normalised",
        LATTICE,
        "posterior = load(sums, (c, k)) * factor",
        "posterior = load(sums, (c, k))",
        "test_gradients.py",
    ),
    Break(
        "the blank's posterior left out",
        LATTICE,
        "store(sums, (0, k), at_least(blank, splat(0.0)))",
        "store(sums, (0, k), splat(0.0))",
        "test_gradients.py",
    ),
    Break(
        "a masked blank keeps what round-off leaves",
        LATTICE,
        "if scores[t, 0] == -np.inf:",
        "if False:",
        "test_edge_cases.py -k masked",
    ),
    Break(
        "a label that occurs twice counts once",
        LINEAR,
        "store(sums, place, load(sums, place) + columns[i])",
        "store(sums, place, columns[i])",
        "test_gradients.py -k many_times",
    ),
    Break(
        "exponents held however far the states range",
        LINEAR,
        "if largest_of(gap) > room:",
        "if largest_of(gap) > 1 << 62:",
        "test_extreme_scores.py",
    ),
    Break(
        "exponents held however small the emissions",
        LATTICE,
        "room = linear.RANGE_BITS + emissions.lowest[begin:end].sum()",
        "room = linear.RANGE_BITS",
        "test_extreme_scores.py",
    ),
    Break(
        "forward and backward states meet however small both are",
        LINEAR,
        "return largest_of(largest) - offset <= WEIGHT_BITS",
        "return True",
        "test_extreme_scores.py -k cannot_meet",
    ),
    Break(
        "a label is waited for beside the last blank, where none stands",
        LINEAR,
        "own[lone] = low[lone]",
        "own[lone] = own[lone]",
        "test_held_exponents.py -k lone",
    ),
    Break(
        "something is waited for beyond the last blank, where nothing arrives",
        LINEAR,
        "own[j] = ABSENT - 1",
        "own[j] = own[j]",
        "test_held_exponents.py -k lone",
    ),
    Break(
        "emissions below 2**-1022 lost",
        ROWS,
        "IMPOSSIBLE = -(2.0**24)",
        "IMPOSSIBLE = -1022.0",
        "test_extreme_scores.py",
    ),
    Break(
        "a mask of finfo.min is a score like any other",
        ROWS,
        "IMPOSSIBLE = -(2.0**24)",
        "IMPOSSIBLE = -np.inf",
        "test_edge_cases.py -k mask",
    ),
    Break(
        "a masked class keeps the smallest softmax there is",
        EXP,
        "exp(x, like) * where_not_less(x, splat(lowest), factor, splat(zero))",
        "exp(x, like) * factor",
        "test_edge_cases.py -k masked",
    ),
    Break(
        "the backward direction takes mass from the wrong side",
        LINEAR,
        "to_blank0, to_label0 = factors(e, target.skip, j, RIGHT)",
        "to_blank0, to_label0 = factors(e, target.skip, j, LEFT)",
        "test_gradients.py",
    ),
    Break(
        "mass from one vector to the next is lost",
        LINEAR,
        "            store(history, (k, 0), l1)\n            l0, b0",
        "            l0, b0",
        "test_accuracy.py test_values.py",
    ),
    Break(
        "exponents held without a look at the neighbours",
        LINEAR,
        "final = shift >= frames",
        "final = True",
        "test_extreme_scores.py test_accuracy.py",
    ),
    Break(
        "log-probabilities that are NaN taken for numbers",
        ROWS,
        "bad = bad + where_not_less(load_first",
        "bad = zero + where_not_less(load_first",
        "test_isolation.py test_edge_cases.py test_contract.py",
    ),
    Break(
        "the end of a row left out of its sum",
        ROWS,
        "        total = total + exp(load_first(row, whole, rest, -np.inf) - less, row)\n",
        "        pass\n",
        "test_values.py",
    ),
    Break(
        "a cache under one name for all versions",
        JIT,
        "version = source_hash(\"cpu\")",
        'version = "one for all" * 2',
        "test_cache.py",
    ),
    Break(
        "a NaN among masked scores passed over",
        BATCH,
        "if largest == -np.inf and not rows.row_is_bad(row):",
        "if largest == -np.inf:",
        "test_isolation.py",
    ),
    Break(
        "no clamp at zero",
        BATCH,
        "losses[n] = max(loss, 0.0) if normalise else loss",
        "losses[n] = loss",
        "test_values.py -k negative",
    ),
    Break(
        "a clamp at zero for log-probabilities",
        BATCH,
        "losses[n] = max(loss, 0.0) if normalise else loss",
        "losses[n] = max(loss, 0.0)",
        "test_values.py -k negative",
    ),
    Break(
        "what normalised the scores not given back",
        BATCH,
        "workspace) + rows_of.removed[n])",
        "workspace))",
        "test_values.py",
    ),
    Break(
        "a repeated label asks for two frames more",
        BATCH,
        "            needed += 1",
        "            needed += 2",
        "test_edge_cases.py -k exactly_as_many",
    ),
    Break(
        "classes of one utterance remembered for the next",
        BATCH,
        "        last_seen[classes[k]] = 0\n",
        "        last_seen[classes[k]] = last_seen[classes[k]]\n",
        "test_isolation.py test_values.py",
    ),
    Break(
        "states that are computed once more begin in the states of the end",
        LATTICE,
        "    start(states, LABEL)\n    states.b[LABEL] = 0.0\n",
        "",
        "test_long_audio.py -k same_bits",
    ),
    Break(
        "every checkpoint is kept, however much memory that takes",
        LATTICE,
        "return 1 if 32 * blocks * places <= most_bytes else math.ceil(math.sqrt(blocks))",
        "return 1",
        "test_long_audio.py -k dense_text",
    ),
]

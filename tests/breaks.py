"""What `planted_breaks.py` plants: small wrong edits of the source, and the tests that must notice."""

from typing import NamedTuple


class Break(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    test: str
    """Arguments of pytest: where a test must fail."""


LINEAR, STEPWISE, LATTICE, BATCH, ROWS, LOAD, EXP = (
    f"numbactc/kernels/cpu/{name}.py" for name in ("linear", "stepwise", "lattice", "batch", "rows", "load", "exp")
)
JIT = "numbactc/kernels/jit.py"
LOSS, DISPATCH, MEMORY, VALIDATION, AUTOGRAD, OPS, DISPATCH_CUDA, VALIDATION_CUDA, VIEWS = (
    f"numbactc/{name}.py"
    for name in (
        "loss", "_dispatch", "_memory", "_validation", "_autograd", "_ops", "_dispatch_cuda", "_validation_cuda",
        "_views",
    )
)  # fmt: skip
VIEWS_CUDA = "numbactc/_views_cuda.py"
LAUNCH, CACHE = (f"numbactc/kernels/cuda/{name}.py" for name in ("launch", "cache"))
SIMULATED = "--devices simulated "

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
        "if largest_of(gap) > GAP:",
        "if largest_of(gap) > 1 << 62:",
        "test_extreme_scores.py",
    ),
    Break(
        "exponents held however small the emissions",
        LATTICE,
        "if -emissions.lowest[begin:end].sum() > linear.EMISSION_BITS:",
        "if False:",
        "test_extreme_scores.py",
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
        "workspace) + removed[n])",
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
        "grad_output ignored",
        BATCH,
        "posteriors[n, t], count, grad_output[n])",
        "posteriors[n, t], count, grad_output[0])",
        "test_gradients.py -k grad_output",
    ),
    Break(
        "frames beyond an utterance left unwritten",
        BATCH,
        "                out[:] = 0\n            elif",
        "                pass\n            elif",
        "test_edge_cases.py -k beyond",
    ),
    Break(
        "frames beyond an utterance get a gradient",
        BATCH,
        "if t >= input_lengths[n] or losses[n] == np.inf:",
        "if losses[n] == np.inf:",
        "test_edge_cases.py -k beyond",
    ),
    Break(
        "an infeasible utterance gets a gradient",
        BATCH,
        "if t >= input_lengths[n] or losses[n] == np.inf:",
        "if t >= input_lengths[n]:",
        "test_edge_cases.py -k infeasible",
    ),
    Break(
        "a NaN among the scores gives a gradient that looks fine",
        BATCH,
        "out[:] = np.nan",
        "out[:] = 0",
        "test_isolation.py",
    ),
    Break(
        "offsets of 32 bits",
        LOAD,
        "scratch[c] = widen(storage[np.uint64(start + c * stride)])",
        "scratch[c] = widen(storage[np.int32(start + c * stride)])",
        "test_contract.py -k 32_bits",
    ),
    Break(
        "bfloat16 cut off, not rounded",
        LOAD,
        "rounded = builder.add(bits, builder.add(odd, ir.Constant(word, 0x7FFF)))",
        "rounded = bits",
        "test_contract.py -k half_precision",
    ),
    Break(
        "zero_infinity ignored",
        LOSS,
        "if zero_infinity:",
        "if False:",
        "test_edge_cases.py -k zero_infinity",
    ),
    Break(
        "a mean divides by the length of an empty target",
        DISPATCH,
        ".clip(min=1)",
        "",
        "test_contract.py -k reductions",
    ),
    Break(
        "batch_first ignored",
        VALIDATION,
        "return scores.transpose(0, 1) if batch_first else scores",
        "return scores",
        "test_contract.py -k batch_first",
    ),
    Break(
        "a pending negation of the scores ignored",
        VIEWS,
        "    if scores.is_neg():",
        "    if False:",
        "test_contract.py -k negative",
    ),
    Break(
        "the caller's losses are the memory that backward reads",
        DISPATCH,
        "saved.losses.copy()",
        "saved.losses",
        "test_autograd.py -k losses_overwritten",
    ),
    Break(
        "memory recycled while a caller still holds it",
        MEMORY,
        " or _references(buffer) > _FREE:",
        ":",
        "test_memory.py",
    ),
    Break(
        "a label may be the blank",
        VALIDATION,
        " | (labels == blank)",
        "",
        "test_errors.py -k is_the_blank",
    ),
    Break(
        "padding of targets checked as if it were labels",
        VALIDATION,
        "wrong = bad[start : start + length]",
        "wrong = bad[start:]",
        "test_contract.py -k forms_of_targets",
    ),
    Break(
        "a second derivative of zero, in silence",
        AUTOGRAD,
        "raise RuntimeError(",
        "return None, None, None\n        raise RuntimeError(",
        "test_autograd.py -k second_derivative",
    ),
    Break(
        "an operator returns memory that nobody wrote",
        OPS,
        "zeroed=keep",
        "zeroed=False",
        "test_compile.py -k opcheck_of_the_loss",
    ),
    Break(
        "an operator's gradient has other strides than its fake says",
        OPS,
        "if scores.stride(0) < scores.stride(1):",
        "if False:",
        "test_compile.py -k compiler_is_told",
    ),
    Break(
        "lengths with gaps between them, on a GPU",
        VIEWS_CUDA,
        "- len(strides)), *strides",
        "- len(strides)), *[1 if stride else 0 for stride in strides]",
        SIMULATED + "test_contract.py -k forms_of_lengths",
    ),
    Break(
        "the blank is 0 in backward, on a GPU",
        DISPATCH_CUDA,
        "T, N, C, problem.blank, int(call.normalise)",
        "T, N, C, 0, int(call.normalise)",
        SIMULATED + "test_contract.py -k blank_anywhere",
    ),
    Break(
        "grad_output's stride ignored, on a GPU",
        DISPATCH_CUDA,
        "address(grad_losses), grad_losses.stride(0)",
        "address(grad_losses), 1",
        SIMULATED + "test_contract.py -k dtype_of_loss",
    ),
    Break(
        "int32 lengths taken for int64, on a GPU",
        VIEWS_CUDA,
        "int(tensor.dtype == torch.int64)",
        "1",
        SIMULATED + "test_contract.py -k forms_of_lengths",
    ),
    Break(
        "check=True forgotten, on a GPU",
        VALIDATION_CUDA,
        "if check or not on_gpu:",
        "if not on_gpu:",
        SIMULATED + "test_errors.py -k label_out_of_range",
    ),
    Break(
        "kernels loaded while a graph is captured",
        LAUNCH,
        "if error != driver.CUresult.CUDA_SUCCESS or status",
        "if False and status",
        "test_cuda_launch.py -k capture",
    ),
    Break(
        "a kernel loaded anew for each launch",
        LAUNCH,
        "            _loaded[kernel, where.device] = loaded",
        "            pass",
        "test_cuda_launch.py -k loaded_once",
    ),
    Break(
        "a damaged file is machine code all the same",
        CACHE,
        "if hashlib.sha256(cubin).digest() == digest:",
        "if True:",
        "test_cuda_launch.py -k damaged",
    ),
    Break(
        "machine code of another compiler is found",
        CACHE,
        "source_hash(\"cuda\"), versions()",
        "source_hash(\"cuda\")",
        "test_cuda_launch.py -k upgrade",
    ),
    Break(
        "a folder that cannot be written is an error",
        "numbactc/kernels/disk.py",
        "    except OSError:\n        return False",
        "    except ValueError:\n        return False",
        "test_cuda_launch.py -k nothing_can_be_written",
    ),
]

"""What `planted_breaks.py` plants: small wrong edits of the source, and the tests that must notice."""

from typing import NamedTuple


class Break(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    test: str
    """Arguments of pytest: where a test must fail."""


LINEAR, STEPWISE, LATTICE, BATCH, ROWS, LOAD = (
    f"numbactc/kernels/cpu/{name}.py" for name in ("linear", "stepwise", "lattice", "batch", "rows", "load")
)
LOSS, DISPATCH, MEMORY, VALIDATION, AUTOGRAD, OPS, DISPATCH_CUDA, VALIDATION_CUDA = (
    f"numbactc/{name}.py"
    for name in (
        "loss", "_dispatch", "_memory", "_validation", "_autograd", "_ops", "_dispatch_cuda", "_validation_cuda",
    )
)  # fmt: skip
LAUNCH, CACHE = (f"numbactc/kernels/cuda/{name}.py" for name in ("launch", "cache"))
SIMULATED = "--devices simulated "

BREAKS = [
    Break(
        "no skip over a blank",
        LINEAR,
        "l[j] = (label + blank + label_left * skip_right[j]) * p_label[j]",
        "l[j] = (label + blank) * p_label[j]",
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
        "if direction.skip[j] != 0.0:",
        "if j > direction.first:",
        "test_extreme_scores.py",
    ),
    Break(
        "a blank does not hear from the label before it",
        LINEAR,
        "b[j] = (blank + label_left * right[j]) * p_blank\n            l[j] = (label",
        "b[j] = blank * p_blank\n            l[j] = (label",
        "test_values.py",
    ),
    Break(
        "paths must end in a blank",
        LATTICE,
        "        m, e = add(m, e, n, f)\n    return",
        "    return",
        "test_values.py",
    ),
    Break(
        "the last frame cannot reach the last pair",
        LATTICE,
        "high = offset + min(labels, stop - 1) + 1",
        "high = offset + min(labels, stop - 1)",
        "test_values.py",
    ),
    Break(
        "the band of useful states starts one pair late",
        LATTICE,
        "labels - frames + start - 1)",
        "labels - frames + start + 1)",
        "test_accuracy.py -k hardly_more_frames",
    ),
    Break(
        "posteriors of a frame not normalised",
        LATTICE,
        "posterior[c] = sums[c] * scale",
        "posterior[c] = sums[c]",
        "test_gradients.py",
    ),
    Break(
        "the blank's posterior left out",
        LATTICE,
        "posterior[0] = max(blank, 0.0)",
        "posterior[0] = 0.0",
        "test_gradients.py",
    ),
    Break(
        "a masked blank keeps what round-off leaves",
        LATTICE,
        "== impossible(emissions.lowest[start + k])",
        "== 2.0",
        "test_edge_cases.py -k masked",
    ),
    Break(
        "a label that occurs twice counts once",
        LATTICE,
        "sums[slots[j]] += joint[j]",
        "sums[slots[j]] = joint[j]",
        "test_gradients.py -k many_times",
    ),
    Break(
        "exponents held however far the states range",
        LINEAR,
        "> GAP:",
        "> (1 << 62):",
        "test_extreme_scores.py",
    ),
    Break(
        "exponents held however small the emissions",
        LATTICE,
        "if -emissions.lowest[start:stop].sum() > linear.EMISSION_BITS:",
        "if False:",
        "test_extreme_scores.py",
    ),
    Break(
        "emissions below 2**-1022 lost",
        ROWS,
        "IMPOSSIBLE = -(2.0**39)",
        "IMPOSSIBLE = -1022.0",
        "test_extreme_scores.py",
    ),
    Break(
        "a mask of finfo.min is a score like any other",
        ROWS,
        "IMPOSSIBLE = -(2.0**39)",
        "IMPOSSIBLE = -np.inf",
        "test_edge_cases.py -k mask",
    ),
    Break(
        "a masked class keeps the smallest softmax there is",
        ROWS,
        "- log2_sum) - smallest) * scale",
        "- log2_sum)) * scale",
        "test_edge_cases.py -k masked",
    ),
    Break(
        "+inf taken for a number",
        ROWS,
        "bad += 0 if row[c] < np.inf else 1",
        "bad += 0 if row[c] == row[c] else 1",
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
        "(log2_probability + removed[n])",
        "log2_probability",
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
        LOSS,
        "elif batch_first:",
        "elif False:",
        "test_contract.py -k batch_first",
    ),
    Break(
        "a pending negation of the scores ignored",
        DISPATCH,
        "scores = scores.detach().resolve_neg()",
        "scores = scores.detach()",
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
        "weakref.finalize(flat, _spares.__setitem__, purpose, buffer).atexit = False",
        "_spares[purpose] = buffer",
        "test_memory.py",
    ),
    Break(
        "lengths are the caller's memory",
        VALIDATION,
        "return np.array(np.from_dlpack(on_cpu)",
        "return np.asarray(np.from_dlpack(on_cpu)",
        "test_autograd.py -k before_backward",
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
        DISPATCH_CUDA,
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
        "_address(grad_losses), grad_losses.stride(0)",
        "_address(grad_losses), 1",
        SIMULATED + "test_contract.py -k dtype_of_loss",
    ),
    Break(
        "int32 lengths taken for int64, on a GPU",
        DISPATCH_CUDA,
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
        CACHE,
        "        except OSError:\n            continue",
        "        except ValueError:\n            continue",
        "test_cuda_launch.py -k nothing_can_be_written",
    ),
]

"""Breaks of what surrounds the losses' kernels: arguments, memory, autograd, launches. For `planted_breaks.py`."""

from breaks import Break

BATCH, LOAD = (f"numbactc/kernels/cpu/{name}.py" for name in ("batch", "load"))
LAUNCH, CACHE = (f"numbactc/kernels/cuda/{name}.py" for name in ("launch", "cache"))
LOSS, DISPATCH, MEMORY, VALIDATION, OPS, VIEWS = (
    f"numbactc/{name}.py" for name in ("loss", "_dispatch", "_memory", "_validation", "_ops", "_views")
)
DISPATCH_CUDA, VALIDATION_CUDA, VIEWS_CUDA = (
    f"numbactc/{name}_cuda.py" for name in ("_dispatch", "_validation", "_views")
)
SIMULATED = "--devices simulated "

CONTRACT_BREAKS = [
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
        "numbactc/_transforms.py",
        "raise RuntimeError(",
        "return None, None, None\n        raise RuntimeError(",
        "test_autograd.py test_transforms.py -k second_derivative",
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
        "machine code of another compiler is found",
        CACHE,
        "source_hash(\"cuda\"), versions()",
        "source_hash(\"cuda\")",
        "test_cuda_launch.py -k upgrade",
    ),
]

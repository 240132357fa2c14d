"""Breaks of what holds whatever callers, memory and processes do: see `breaks.py`."""

from breaks import ROWS, Break

VALIDATION, MEMORY, THREADS = (f"numbactc/{name}.py" for name in ("_validation", "_memory", "_threads"))
VECTORS = "numbactc/kernels/cpu/vector_memory.py"

HOSTILE_BREAKS = [
    Break(
        "lengths added up in 64 bits",
        VALIDATION,
        "total = sum(target_lengths.tolist())",
        "total = int(target_lengths.sum())",
        "test_hostile_input.py -k sum_is_zero",
    ),
    Break(
        "integers beyond 64 bits left to NumPy",
        VALIDATION,
        "if not -(2**63) <= value < 2**63:",
        "if False:",
        "test_hostile_input.py -k beyond_64_bits",
    ),
    Break(
        "sparse scores taken for dense ones",
        VALIDATION,
        "    check_dense(name, scores)\n",
        "",
        "test_hostile_input.py -k dense",
    ),
    Break(
        "a minus sign left out that nobody has applied yet",
        VALIDATION,
        "return tensor.resolve_neg() if tensor.is_neg() else tensor",
        "return tensor",
        "test_hostile_input.py -k negative_on_read",
    ),
    Break(
        "a number beyond float64 left to Python",
        VALIDATION,
        "except OverflowError:",
        "except ZeroDivisionError:",
        "test_hostile_input.py -k beyond_float64",
    ),
    Break(
        "the last vector of a row read as a whole",
        ROWS,
        "largest = at_least(load_first(row, whole, row.size - whole, -np.inf), largest)",
        "largest = at_least(load_first(row, whole, row.size, -np.inf), largest)",
        "test_out_of_bounds.py -k beside",
    ),
    Break(
        "vectors beyond their array, and nobody looks",
        VECTORS,
        "if context.enable_boundscheck and count != 0:",
        "if False:",
        "test_out_of_bounds.py -k vectors",
    ),
    Break(
        "memory asked for without a look at what there is",
        MEMORY,
        "if there is not None and size > there:",
        "if False:",
        "test_scale.py -k memory",
    ),
    Break(
        "what a container may have does not count",
        MEMORY,
        "found.append(limit - used",
        "found.append(2**60 + limit - used",
        "test_scale.py -k container",
    ),
    Break(
        "a thread that calls at the end of the interpreter is refused",
        THREADS,
        "except RuntimeError:  # the interpreter",
        "except ArithmeticError:  # the interpreter",
        "test_load.py -k interpreter",
    ),
]

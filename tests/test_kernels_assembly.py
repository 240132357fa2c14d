"""The machine code that runs: loops over labels and over classes are vector code of the machine's full width."""

import ast
import json
import platform
import re

import pytest

from numbactc.kernels.jit import FAST_MATH
from processes import REPOSITORY, run_python

COMPILE = """
import importlib, json, numpy as np, torch, numbactc
from numba.core.dispatcher import Dispatcher
from numbactc import _dispatch_texts
from numbactc.kernels.cpu import align, batch, texts

logits = torch.randn(8, 1, 5, requires_grad=True)
numbactc.ctc_loss_with_logits(logits, torch.tensor([[1, 2]]), [8], [2]).backward()
numbactc.forced_align(logits, torch.tensor([[1, 2]]), [8], [2])
_dispatch_texts.log_probs(logits, 0, 8, 0, np.array([1, 2]), np.array([2]), -100.0)
code = {}
for file in ("rows", "linear", "lattice", "viterbi", "texts"):
    module = importlib.import_module("numbactc.kernels.cpu." + file)
    for name, kernel in vars(module).items():
        if isinstance(kernel, Dispatcher) and kernel.py_func.__module__ == module.__name__:
            code[file + "." + name] = list(kernel.inspect_asm().values())
entries = batch.forward, batch.backward, align.align, texts.log_probs
ir = [view for kernel in entries for view in kernel.inspect_llvm().values()]
print(json.dumps([code, "\\n".join(ir)]))
"""

CPU_KERNELS = REPOSITORY / "numbactc" / "kernels" / "cpu"

MUST_HAVE = {
    "rows.row_max": {"float32"},
    "rows.row_sum_and_next_max": {"float32"},
    "rows.row_softmax": {"float32"},
    "linear.hold_exponents": {"float64", "int64"},
    "linear.advance": {"float64"},
    "linear.advance_and_record": {"float64"},
    "linear.advance_and_meet": {"float64"},
    "linear.gather_classes": {"float64"},
    "lattice.set_table": {"float64"},
    "lattice.write_posteriors": {"float64"},
    "viterbi.advance": {"float64"},
    "texts.read_emissions": {"float64"},
}
"""Kernels, and the arithmetic that must fill loops of theirs; for any other, some arithmetic, or copying, will do."""


def kernels_of_vectors() -> list[str]:
    """Every kernel that loads or stores vectors in a loop of its own and runs in a training step from logits, in an
    alignment, or for the texts of a search."""
    found = []
    for path in sorted(CPU_KERNELS.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and any(isinstance(part, ast.For) for part in ast.walk(node)):
                names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                if names & {"load", "store"} and node.name not in ("clear_history", "row_is_bad"):
                    found.append(f"{path.stem}.{node.name}")
    return found


ARITHMETIC: dict[str, dict[str, str]] = {
    "x86_64": {
        "float32": r"v(?:add|sub|mul|max|min|range|fn?m(?:add|sub)\d+)ps",
        "float64": r"v(?:add|sub|mul|fn?m(?:add|sub)\d+)pd",
        "int64": r"vp(?:add|sub|maxs|mins|sll)q",
        "copy": r"v(?:movu|mova)p[sd]|vmovdq\w+|vgather\w+|vperm\w+|vpcmp\w+|vcmp\w+",
    },
    "aarch64": {
        "float32": r"f(?:add|sub|mul|max|min|mla|mls)\s+v\d+\.4s",
        "float64": r"f(?:add|sub|mul|mla|mls)\s+v\d+\.2d",
        "int64": r"(?:add|sub|shl|smax|smin)\s+v\d+\.2d",
        "copy": r"(?:ldp|stp|ldr|str|fcm\w+)\s+[qv]\d+",
    },
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], str]:
    """(assembly of each kernel, LLVM IR of all) of a step of training, an alignment and the texts of a search.

    Compiled anew: Numba shows no code that it has read from its cache.
    """
    assembly, ir = json.loads(run_python(COMPILE, NUMBA_CACHE_DIR=str(tmp_path_factory.mktemp("cache"))))
    return assembly, ir


@pytest.fixture(scope="module")
def register() -> str:
    """The widest vector register of this machine, as a pattern."""
    from llvmlite import binding

    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return r"\b[vq]\d+"
    if machine in ("x86_64", "amd64"):
        features = binding.get_host_cpu_features()
        for feature, pattern in [("avx512f", r"%zmm"), ("avx2", r"%ymm")]:
            if features.get(feature):
                return pattern
    pytest.skip(f"no expectation for the vectors of {platform.processor() or machine}")


def innermost_loops(body: str) -> list[str]:
    """The pieces of code between a label and a jump back to it that have no such piece inside."""
    lines = body.split("\n")
    labels = {line.split(":")[0]: number for number, line in enumerate(lines) if re.match(r"^\.?L\S+:", line)}
    loops = []
    for number, line in enumerate(lines):
        jump = re.match(r"\s+(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\s.*?(\.?L\w+)\s*$", line)
        if jump and labels.get(jump[1], number) < number:
            loops.append((labels[jump[1]], number))
    inner = [
        (start, stop)
        for start, stop in loops
        if not any(start <= first and last <= stop and (first, last) != (start, stop) for first, last in loops)
    ]
    return ["\n".join(lines[start : stop + 1]) for start, stop in inner]


def vector_loops(body: str, operation: str, register: str) -> list[str]:
    """Innermost loops that have such an operation on whole vectors."""
    return [
        loop
        for loop in innermost_loops(body)
        if any(re.search(rf"^\s+{operation}\b", line) and re.search(register, line) for line in loop.split("\n"))
    ]


def test_the_kernels_that_matter_are_looked_at() -> None:
    assert set(MUST_HAVE) <= set(kernels_of_vectors())


@pytest.mark.parametrize("kernel", kernels_of_vectors())
def test_loops_are_vector_code_of_full_width(
    kernel: str, compiled: tuple[dict[str, list[str]], str], register: str
) -> None:
    assert compiled[0][kernel], f"{kernel} has not been compiled"
    patterns = ARITHMETIC["aarch64" if register.startswith(r"\b") else "x86_64"]
    for body in compiled[0][kernel]:
        seen = {kind for kind, pattern in patterns.items() if vector_loops(body, pattern, register)}
        assert seen, f"{kernel} has no loop of full-width vectors"
        assert seen >= MUST_HAVE.get(kernel, set()), f"{kernel} has loops of full-width vectors for {seen} alone"


def test_what_counts_as_a_vector_loop() -> None:
    operation = ARITHMETIC["x86_64"]["float64"]
    loop = ".LBB0_1:\n\tvaddpd\t(%rax), %zmm0, %zmm0\n\tjne\t.LBB0_1\n"
    assert vector_loops(loop, operation, "%zmm")
    assert not vector_loops(loop.replace("%zmm", "%ymm"), operation, "%zmm"), "half the width"
    assert not vector_loops(loop.replace("vaddpd", "vaddsd"), operation, "%zmm"), "one number at a time"
    assert not vector_loops(loop.replace("jne\t.LBB0_1", "retq"), operation, "%zmm"), "no loop"
    outer = f".LBB0_0:\n\tvaddpd\t%zmm1, %zmm0, %zmm0\n{loop.replace('zmm', 'xmm')}\tjne\t.LBB0_0\n"
    assert not vector_loops(outer, operation, "%zmm"), "vectors in the outer loop only"


def test_fast_math_leaves_nan_and_infinity_alone(compiled: tuple[dict[str, list[str]], str]) -> None:
    assert not FAST_MATH & {"nnan", "ninf", "fast"}
    flags = set(re.findall(r"= f(?:add|sub|mul|div|cmp) ((?:[a-z]+ )*?)(?:oeq|olt|ogt|double|float|<)", compiled[1]))
    used = {flag for some in flags for flag in some.split()}
    assert "reassoc" in used, "no flags found: the pattern of this test is out of date"
    assert not used & {"nnan", "ninf", "fast"}


def test_no_calls_in_vector_loops(compiled: tuple[dict[str, list[str]], str], register: str) -> None:
    """libm's exp and log in a row's loop would cost more than everything else there."""
    for kernel in kernels_of_vectors():
        for body in compiled[0][kernel]:
            for loop in vector_loops(body, r"\S+", register):
                assert not re.search(r"^\s+(?:call|bl)\w*\s", loop, re.MULTILINE), f"{kernel} calls a function"


def test_one_decorator_compiles_every_kernel() -> None:
    """`njit` elsewhere would bring flags and a cache of its own."""
    for path in [*CPU_KERNELS.parent.glob("*.py"), *CPU_KERNELS.glob("*.py")]:
        if path.name != "jit.py":
            assert not re.search(r"\bnjit\b|\bjit\(", path.read_text()), f"{path.name} does not use kernels.jit.kernel"

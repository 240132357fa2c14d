"""Imports go downwards only, and importing the package brings neither a compiler nor a GPU."""

import ast
import graphlib
import json
import sys
from pathlib import Path

import pytest

import numbactc
from processes import REPOSITORY, run_python

PACKAGE = REPOSITORY / "numbactc"

LEVELS = [
    {"numbactc.pyctcdecode"},
    {"numbactc.pyctcdecode.decoder"},
    {"numbactc.pyctcdecode.beams", "numbactc.pyctcdecode.spelling"},
    {"numbactc.pyctcdecode.alphabet", "numbactc.pyctcdecode.language_model"},
    {"numbactc.pyctcdecode.constants"},
    {"numbactc"},
    {"numbactc.integrations"},
    {
        "numbactc.alignment",
        "numbactc.decoding",
        "numbactc.enumeration",
        "numbactc.head",
        "numbactc.loss",
        "numbactc.occupancy",
        "numbactc.plotting",
        "numbactc.streaming",
    },
    {"numbactc._scoring"},
    {"numbactc.language_model", "numbactc.lexicon"},
    {"numbactc._model_cache"},
    {
        "numbactc._arpa",
        "numbactc._autograd",
        "numbactc._autograd_head",
        "numbactc._drawing",
        "numbactc._hypotheses",
        "numbactc._ops",
        "numbactc._ops_head",
        "numbactc._smoothing",
        "numbactc._states",
        "numbactc.spans",
    },
    {"numbactc._head", "numbactc._transforms"},
    {"numbactc._dispatch_head_cuda"},
    {"numbactc._devices", "numbactc._dispatch_alignment", "numbactc._dispatch_head"},
    {
        "numbactc._dispatch",
        "numbactc._dispatch_alignment_cuda",
        "numbactc._dispatch_beam",
        "numbactc._dispatch_cuda",
        "numbactc._dispatch_language",
        "numbactc._dispatch_texts",
    },
    {
        "numbactc._dispatch_scoring",
        "numbactc._threads",
        "numbactc._validation_cuda",
        "numbactc._validation_decoding",
        "numbactc._views",
        "numbactc._views_cuda",
    },
    {"numbactc._hotwords", "numbactc._memory", "numbactc._validation"},
    {"numbactc.kernels"},
]
"""From users down. A file imports files of lower levels only; `numbactc.kernels` stands for everything below it."""


def module_of(path: Path, root: Path = REPOSITORY) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path, top_level_only: bool = False) -> set[str]:
    """Every module that a file imports, in functions too; `from a import b` counts as a.b where that is a module."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: imports are written in full here"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = names & set(FILES)
            found |= modules
            if modules != names:
                found.add(node.module)
    return found


def level_of(module: str) -> int:
    stands_for = "numbactc.kernels" if is_kernel(module) else module
    for level, modules in enumerate(LEVELS):
        if stands_for in modules:
            return level
    raise AssertionError(f"{module} has no level: give it one in LEVELS")


def is_kernel(module: str) -> bool:
    return module == "numbactc.kernels" or module.startswith("numbactc.kernels.")


def ours(modules: set[str]) -> set[str]:
    return {module for module in modules if module.split(".")[0] == "numbactc"}


def test_the_walk_sees_imports() -> None:
    assert "numbactc.kernels.cpu.batch" in imports_of(FILES["numbactc._dispatch"]), "an import inside a function"
    assert "numbactc._devices" in imports_of(FILES["numbactc._autograd"]), "a module imported from its package"
    assert "torch" in imports_of(FILES["numbactc.loss"])


@pytest.mark.parametrize("module", FILES)
def test_imports_go_downwards(module: str) -> None:
    for imported in ours(imports_of(FILES[module])):
        if not (is_kernel(module) and is_kernel(imported)):
            assert level_of(imported) > level_of(module), f"{module} must not import {imported}"


@pytest.mark.parametrize("module", FILES)
def test_only_dispatch_touches_kernels(module: str) -> None:
    if not is_kernel(module) and not module.startswith(("numbactc._dispatch", "numbactc._views_cuda")):
        assert not [name for name in imports_of(FILES[module]) if is_kernel(name)]
        assert not imports_of(FILES[module]) & {"numba", "llvmlite", "cuda"}


@pytest.mark.parametrize("module", [module for module in FILES if is_kernel(module)])
def test_kernels_know_no_torch(module: str) -> None:
    tops = {name.split(".")[0] for name in imports_of(FILES[module])}
    own = {"cuda"} if module.startswith("numbactc.kernels.cuda.") else set()
    assert tops <= {"numba", "llvmlite", "numpy", "numbactc"} | own | set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", ["launch", "plan", "alignment_plan", "cache"])
def test_a_warm_start_imports_no_compiler(name: str) -> None:
    """What runs before each launch imports Numba neither itself nor through others; `compile` only where it must."""
    reached, waiting = set(), {f"numbactc.kernels.cuda.{name}"}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        top_level = {
            imported for imported in imports_of(FILES[module], top_level_only=True) if imported not in reached
        }
        assert not {imported.split(".")[0] for imported in top_level} & {"numba", "llvmlite", "cuda"}, module
        waiting |= top_level & set(FILES)


def test_devices_do_not_import_each_other() -> None:
    for module, path in FILES.items():
        for device, other in [("cpu", "cuda"), ("cuda", "cpu")]:
            if module.startswith(f"numbactc.kernels.{device}"):
                upward = [name for name in imports_of(path) if name.startswith(f"numbactc.kernels.{other}")]
                assert not upward, f"{module} must not import {upward}"


def test_devices_mirror_each_other() -> None:
    """What happens to a row of scores and what to a lattice stands in files of the same names on both devices."""
    for name in ("rows", "lattice"):
        for device in ("cpu", "cuda"):
            assert f"numbactc.kernels.{device}.{name}" in FILES


def test_both_dispatches_have_the_same_functions() -> None:
    """`_devices` calls either without knowing which: names, order and defaults of arguments are the same."""
    signatures = []
    for module in ("numbactc._dispatch", "numbactc._dispatch_cuda"):
        functions = [node for node in ast.parse(FILES[module].read_text()).body if isinstance(node, ast.FunctionDef)]
        signatures.append({node.name: ast.dump(node.args) for node in functions if not node.name.startswith("_")})
    assert signatures[0] == signatures[1]
    assert {"prepare", "forward", "backward"} <= set(signatures[0])


def test_kernels_import_each_other_in_one_direction() -> None:
    graph = {module: ours(imports_of(path)) for module, path in FILES.items() if is_kernel(module)}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
    for module in ("numbactc.kernels.jit", "numbactc.kernels.scaled", "numbactc.kernels.sources"):
        assert not [name for name in graph[module] if ".cpu" in name or ".cuda" in name], f"{module} serves both"


@pytest.mark.parametrize("folder", ["benchmarks", "recipes"])
def test_users_use_public_names(folder: str) -> None:
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numbactc":
                assert node.module == "numbactc" and {alias.name for alias in node.names} <= set(numbactc.__all__), path
            elif isinstance(node, ast.Import):
                private = [alias.name for alias in node.names if alias.name.startswith("numbactc.")]
                assert not private, f"{path} imports {private}"


def test_import_brings_no_compiler_and_no_gpu() -> None:
    script = (
        "import json, sys, torch\n"
        "before = set(sys.modules)\n"
        "import numbactc\n"
        "print(json.dumps([sorted(set(sys.modules) - before), torch.cuda.is_initialized()]))"
    )
    new, cuda_is_initialised = json.loads(run_python(script))
    strangers = [name for name in new if name.split(".")[0] not in {"numbactc", "numpy"} | set(sys.stdlib_module_names)]
    assert "numbactc.loss" in new and not strangers, f"import numbactc also imports {strangers}"
    declarations = {"numbactc.kernels", "numbactc.kernels.automata"}
    assert not [name for name in new if (is_kernel(name) and name not in declarations) or "cuda" in name]
    assert not cuda_is_initialised


def test_a_loss_on_the_cpu_brings_no_gpu() -> None:
    script = (
        "import json, sys, torch\n"
        "before = set(sys.modules)\n"
        "import numbactc\n"
        "scores = torch.zeros(4, 1, 3, requires_grad=True)\n"
        "numbactc.ctc_loss(scores, torch.tensor([[1]]), [4], [1]).backward()\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    new = json.loads(run_python(script))
    assert "numba" in new
    gpus = [name for name in new if name.split(".")[0] in ("numba_cuda", "cuda") or ".cuda" in name]
    assert not gpus, gpus

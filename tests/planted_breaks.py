"""Break the package on purpose, once per rule, and see that a test notices.

    python tests/planted_breaks.py [word ...]      only breaks whose name has one of the words
    python tests/planted_breaks.py --table         the table of README.md

Each break is a small edit of the source in a copy of the repository. The tests named beside it must pass on the copy
as it is and fail on the copy once edited. Kernels are compiled again for each break, so all of them take some minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alignment_breaks import ALIGNMENT_BREAKS
from beam_breaks import BEAM_BREAKS
from benchmark_breaks import BENCHMARK_BREAKS
from breaks import BREAKS as CPU_BREAKS
from breaks import Break
from contract_breaks import CONTRACT_BREAKS
from cuda_breaks import CUDA_BREAKS
from head_breaks import HEAD_BREAKS
from hostile_breaks import HOSTILE_BREAKS
from integration_breaks import INTEGRATION_BREAKS
from language_model_breaks import LANGUAGE_MODEL_BREAKS
from picture_breaks import PICTURE_BREAKS
from pyctcdecode_breaks import PYCTCDECODE_BREAKS

REPOSITORY = Path(__file__).resolve().parents[1]
BREAKS = [
    *CPU_BREAKS,
    *CONTRACT_BREAKS,
    *HEAD_BREAKS,
    *HOSTILE_BREAKS,
    *INTEGRATION_BREAKS,
    *ALIGNMENT_BREAKS,
    *BEAM_BREAKS,
    *LANGUAGE_MODEL_BREAKS,
    *PICTURE_BREAKS,
    *PYCTCDECODE_BREAKS,
    *BENCHMARK_BREAKS,
    *CUDA_BREAKS,
]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=no"]


def copy_of_the_repository(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis", "recipe")
    for name in ("numbactc", "tests", "benchmarks", "fuzz"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)


def run_tests(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Pytest on the copy: `numbactc` comes from there, and no bytecode outlives an edit of the same second."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(folder / ".numba_cache"),
    }
    arguments = [f"tests/{word}" if word.endswith(".py") else word for word in tests.split()]
    return subprocess.run(PYTEST + arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def broken(folder: Path, planted: Break) -> bool:
    """Whether a test fails under this break. A crash or a collection error is not a test that noticed."""
    source = folder / planted.file
    original = source.read_text()
    source.write_text(original.replace(planted.old, planted.new))
    try:
        result = run_tests(folder, planted.test)
    finally:
        source.write_text(original)
    if result.returncode not in (0, 1):
        print(f"pytest did not come to an end: {result.stdout[-1000:]}{result.stderr[-1000:]}")
    return result.returncode == 1


def without_a_place(breaks: list[Break]) -> list[str]:
    """Breaks whose text the source does not have exactly once: the source has moved on, and they must follow."""
    places = {planted.name: (REPOSITORY / planted.file).read_text().count(planted.old) for planted in breaks}
    return [f"{name}: found {count} times" for name, count in places.items() if count != 1]


def table() -> str:
    rows = [f"| {planted.name} | `{planted.test}` |" for planted in BREAKS]
    return "\n".join(["| break | what fails |", "|---|---|", *rows])


def main(words: list[str]) -> int:
    if words == ["--table"]:
        print(table())
        return 0
    chosen = [planted for planted in BREAKS if not words or any(word in planted.name for word in words)]
    if lost := without_a_place(chosen):
        print("The source no longer has the text of these breaks:", *lost, sep="\n")
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of_the_repository(folder)
        on_cpu = [planted.test for planted in chosen if "--devices" not in planted.test]
        files = {word for test in on_cpu for word in test.split() if word.endswith(".py")}
        elsewhere = {planted.test for planted in chosen} - set(on_cpu)
        for tests in [" ".join(sorted(files)), *sorted(elsewhere)] if files else sorted(elsewhere):
            whole = run_tests(folder, tests)
            if whole.returncode != 0:
                print(whole.stdout[-4000:], "The tests must pass before anything is broken.", sep="\n")
                return 1
        survivors = []
        for planted in chosen:
            start = time.monotonic()
            noticed = broken(folder, planted)
            verdict = "noticed " if noticed else "SURVIVED"
            print(f"{verdict}  {time.monotonic() - start:5.1f} s  {planted.name}", flush=True)
            if not noticed:
                survivors.append(planted.name)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} breaks noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

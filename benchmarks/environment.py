"""Where a result comes from: machine, system, versions, commit. No host name, no path."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.peers import version_of

ROOT = Path(__file__).resolve().parent.parent
VECTOR_FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "amx_tile", "asimd", "sve")
WIDEST = ("avx512f", "avx2", "avx", "sse4_2", "sve", "asimd")
DISTRIBUTIONS = ("numbactc", "torch", "numba", "llvmlite", "numpy", "jax", "jaxlib", "optax", "paddle", "tensorflow")
SHOWN = ("numbactc", "torch", "numba", "jax", "optax", "paddle", "tensorflow")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_fields() -> dict[str, str]:
    """The first processor's fields in /proc/cpuinfo; empty where there is no such file."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe(command: str) -> dict[str, Any]:
    """Everything a reader needs to judge or repeat the numbers; `command` is how the run was started."""
    cpu = _cpu_fields()
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    written = (":!benchmarks/results", ":!benchmarks/figures", ":!docs/benchmarks.md", ":!README.md")
    changes = _git("status", "--porcelain", "--", ".", *written)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_model": [cpu.get("cpu family"), cpu.get("model")],
        "cores": os.cpu_count(),
        "cores_used": cores(),
        "flags": [flag for flag in VECTOR_FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in DISTRIBUTIONS},
    }


def title(environment: dict[str, Any]) -> str:
    """Machine, versions and commit on two lines, for a figure or the head of a report."""
    versions = environment["versions"]
    shown = [name for name in SHOWN if versions.get(name)]
    named = ", ".join(f"{name} {versions[name]}" for name in shown)
    widest = next((flag for flag in WIDEST if flag in environment["flags"]), "no vector flags known")
    commit = (environment["commit"] or "unknown")[:10] + (" with changes" if environment["dirty"] else "")
    machine = f"{environment['cpu']}, {environment['cores_used']} of {environment['cores']} cores, {widest}"
    return f"{machine}, {environment['date']}\n{named}, commit {commit}"

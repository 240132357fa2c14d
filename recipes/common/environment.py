"""What a figure must be quoted with: command, machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ["numbactc", "numba", "torch"]


def processor() -> str:
    """Its name, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the working tree, "-dirty" where files differ from it, "unknown" outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe(others: Sequence[str] = (), device: torch.device | None = None, processes: int = 1) -> dict[str, str]:
    """Plain text a checkpoint can hold; taken when a run starts, since the tree may change before it is reported.

    ``others`` are packages whose versions matter beside ``PACKAGES``; ``device`` is that of each of the ``processes``.
    """
    machine = [f"{processor()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores", platform.system()]
    if device is not None and device.type == "cuda":
        machine.insert(0, torch.cuda.get_device_name(device))
    if processes > 1:
        machine.append(f"{processes} processes")
    versions = [f"{package} {version(package)}" for package in [*PACKAGES, *others]]
    return {
        "command": os.environ.get("RECIPE_COMMAND", "python " + " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "machine": ", ".join(machine),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "commit": commit(),
    }

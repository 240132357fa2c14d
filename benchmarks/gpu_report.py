"""From the rows of a GPU to tables.

    python -m benchmarks.gpu_report benchmarks/results/gpu.json

writes the `.md` beside the `.json` anew and prints it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.environment import title
from benchmarks.gpu_bits import bits_table
from benchmarks.gpu_peers import GPU_PEERS, OURS
from benchmarks.gpu_tasks import TASKS
from benchmarks.report import NONE, Document, by_peer, number, ranged, sizes, table, told, unique, write_as
from benchmarks.rows import Row

LATTICE_BOUND = 200.0
"""Nanoseconds for a frame and direction that are asked at the shape `long-audio`."""

WORDS = {
    "forward_backward": "forward + backward", "forward": "forward", "forced_align": "forced alignment",
    "greedy_decode": "greedy decoding",
}  # fmt: skip
LABELS = {name: peer.label for everyone in (*TASKS.values(), GPU_PEERS) for name, peer in everyone.items()}


def label(peer: str) -> str:
    return LABELS.get(peer, peer)


def speed_table(rows: list[Row], what: str, field: str) -> str:
    """Medians and quartiles of each peer in microseconds; for time also the fastest peer's over ours."""
    rows = [row for row in rows if row["what"] == what]
    peers = [peer for (peer,) in unique(rows, "peer")]
    whole = field == "time_us"
    head = ["T, N, C, L", "dtype", *(label(peer) for peer in peers)] + (["fastest / ours", "asked"] if whole else [])
    lines = []
    for shape, dtype in unique(rows, "shape", "dtype"):
        found = by_peer(rows, shape=shape, dtype=dtype)
        line = [sizes(next(iter(found.values()))), dtype]
        line += [told(found.get(peer), lambda row: ranged(row[field])) for peer in peers]
        if whole:
            ours = found.get(OURS, {})
            line += [number(ours["ratio"]) if ours.get("ratio") else NONE]
            line += [f"{ours['floor']:g}" if ours.get("floor") else NONE]
        lines.append(line)
    return table(head, lines)


def memory_table(rows: list[Row], what: str) -> str:
    """Peak of a call beyond the scores, its result included, in MiB."""
    rows = [row for row in rows if row["what"] == what]
    peers = [peer for (peer,) in unique(rows, "peer")]
    lines = []
    for shape, dtype in unique(rows, "shape", "dtype"):
        found = by_peer(rows, shape=shape, dtype=dtype)
        logits = max(row["T"] * row["N"] * row["C"] for row in found.values()) * (2 if dtype == "bfloat16" else 4)
        line = [sizes(next(iter(found.values()))), dtype, number(logits / 2**20)]
        line += [told(found.get(peer), lambda row: mebibytes(row["peak_bytes"])) for peer in peers]
        lines.append(line)
    return table(["T, N, C, L", "dtype", "scores", *(label(peer) for peer in peers)], lines)


def mebibytes(count: int | None) -> str:
    return NONE if count is None else number(count / 2**20)


def bounds_table(rows: list[Row]) -> str:
    """Ours against the machine: time over that of the bytes that must move, and the lattice frame by frame."""
    lines = []
    for row in rows:
        if row["peer"] == OURS and row["what"] == "forward_backward" and row["time_us"]:
            lattice = sum(time for kernel, _, time in row["kernels_us"] if "lattice" in kernel)
            total = sum(time for _, _, time in row["kernels_us"])
            share = row["time_us"]["median"] / row["bandwidth_us"] if row["bandwidth_us"] else None
            lines.append(
                [
                    sizes(row), row["dtype"], number(total) if total else NONE,
                    NONE if share is None else number(share),
                    number(1e3 * lattice / row["T"]) if lattice else NONE,
                ]
            )  # fmt: skip
    head = ["T, N, C, L", "dtype", "kernels alone, us", "time / bandwidth's", "lattice, ns a frame and direction"]
    return table(head, lines)


def report(document: Document) -> str:
    """The whole report as Markdown."""
    environment = document["environment"]
    gpu, rows = environment["gpu"], document["speed"]
    parts = ["# Benchmark results on a GPU", title(environment).replace("\n", "; ") + "."]
    parts += [
        f"{gpu['name']}, compute capability {gpu['capability']}, {gpu['memory_gib']} GiB, CUDA {gpu['cuda']}, cuDNN "
        f"{gpu['cudnn']}, numba-cuda {gpu['numba_cuda']}. `{environment['command']}`, {document['elapsed_s']:.0f} s in "
        f"all. A copy moves {document['copy_bytes_per_s'] / 1e9:.0f} GB/s, read and written together."
    ]
    for what, words in WORDS.items():
        parts += [f"## Time, {words}, microseconds", speed_table(rows, what, "time_us")]
    parts += ["## Ours against the machine, forward + backward", bounds_table(rows)]
    parts += [
        f"Asked are at most {LATTICE_BOUND:g} ns a frame and direction at T = 1500, and 1.5 times the bandwidth's time "
        "at C = 5000."
    ]
    for what, words in WORDS.items():
        parts += [f"## What one call keeps the host, {words}, microseconds", speed_table(rows, what, "host_us")]
    for what in ("forward_backward", "forced_align"):
        parts += [f"## Peak memory, {WORDS[what]}, beyond the scores, MiB", memory_table(rows, what)]
    if bits := document.get("bits"):
        parts += ["## Different results, to the bit, in runs of forward + backward", bits_table(bits)]
    return "\n\n".join(parts) + "\n"


def write(path: Path) -> str:
    """`write_as` of this report."""
    return write_as(path, report)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))

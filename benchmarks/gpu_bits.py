"""Determinism on a GPU: how many different results, to the bit, a peer has in many runs of one training step.

Sums that many threads add to one number in any order have other last digits each time. The mean loss and the gradient
of the logits are compared by a digest, at one shape with more labels than classes and one with many classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.children import TimeLeft
from benchmarks.gpu_peers import GPU_PEERS, GpuCalls
from benchmarks.report import label, table, told, unique
from benchmarks.rows import OK, TIME_IS_UP, Row, failed, not_installed
from benchmarks.shapes import GPU_SHAPES, Shape, draw

RUNS = 100
BITS_SHAPES = (GPU_SHAPES["long-audio"], GPU_SHAPES["pieces-1024"])


@dataclass(frozen=True)
class GpuBitsRow:
    """`results` is how many different results, to the bit, `runs` runs of forward + backward had."""

    shape: str
    T: int
    N: int
    C: int
    L: int
    dtype: str
    peer: str
    version: str | None
    status: str
    runs: int = 0
    results: int | None = None


def as_bytes(array: Any) -> bytes:
    """The numbers of a tensor, or of an array of jax, on any device; a bfloat16 as the float32 that it is."""
    if hasattr(array, "detach"):
        array = array.detach().float().cpu().numpy()
    return np.asarray(array, dtype=np.float32).tobytes()


def digest(calls: GpuCalls) -> str:
    """What one step has computed."""
    results = calls.calls["forward_backward"]()
    calls.wait()
    return hashlib.blake2b(b"".join(map(as_bytes, results))).hexdigest()


def measure_bits(
    shapes: Iterable[Shape],
    dtype: str,
    peers: Sequence[str],
    device: str,
    runs: int = RUNS,
    time_left: TimeLeft = lambda: math.inf,
) -> list[GpuBitsRow]:
    """A row for each shape and peer; there are fewer runs where the time is up, but two."""
    rows = []
    for shape in shapes:
        problem = draw(shape)
        for name, peer in GPU_PEERS.items():
            if name not in peers:
                continue
            row = GpuBitsRow(shape.name, shape.T, shape.N, shape.C, shape.L, dtype, name, peer.version, OK)
            if peer.missing:
                row = replace(row, status=not_installed(peer.missing))
            elif time_left() <= 0:
                row = replace(row, status=TIME_IS_UP)
            else:
                try:
                    calls, found = peer.load(problem, dtype, device), list[str]()
                    while len(found) < runs and (len(found) < 2 or time_left() > 0):
                        found.append(digest(calls))
                    row = replace(row, runs=len(found), results=len(set(found)))
                except Exception as error:  # a peer that fails is a row of the table, not the end of the run
                    row = replace(row, status=failed(error))
            rows.append(row)
    return rows


def bits_table(rows: list[Row]) -> str:
    """Different results in runs, a line for each shape and dtype."""
    peers = [peer for (peer,) in unique(rows, "peer")]
    lines = []
    for shape, dtype in unique(rows, "shape", "dtype"):
        found = {row["peer"]: row for row in rows if (row["shape"], row["dtype"]) == (shape, dtype)}
        cells = [told(found.get(peer), lambda row: f"{row['results']} in {row['runs']}") for peer in peers]
        lines.append([shape, dtype, *cells])
    labels = [GPU_PEERS[peer].label if peer in GPU_PEERS else label(peer) for peer in peers]
    return table(["shape", "dtype", *labels], lines)

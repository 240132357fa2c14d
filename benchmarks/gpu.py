"""On an NVIDIA GPU: time, host time, memory and kernels of the loss next to PyTorch's two and optax, and of alignment
and greedy decoding next to torchaudio and PyTorch, in one command.

    python -m benchmarks.gpu                                      # everything, from the root of the repository
    python -m benchmarks.gpu --shapes characters --dtypes float32 --rounds 7 --out /tmp/quick.json

Each peer starts at the same logits on the GPU, float32 or bfloat16. A sample of `time_us` is many calls queued one
behind the other, until the last is done, divided by their number; the peers take turns. `host_us` is one call on an
idle GPU, until it returns. See `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT, describe
from benchmarks.gpu_bits import BITS_SHAPES, measure_bits
from benchmarks.gpu_peers import GPU_PEERS, OURS, GpuCalls, GpuPeer
from benchmarks.gpu_report import write
from benchmarks.gpu_tasks import TASKS
from benchmarks.peers import version_of
from benchmarks.rows import OK, TIME_IS_UP, GpuRow, KernelTime, as_row, failed, not_installed
from benchmarks.shapes import GPU_DTYPES, GPU_SHAPES, Problem, Shape, draw
from benchmarks.timing import spread, take_turns

PASSES = ("forward", "forward_backward")
ALL_PEERS = list(dict.fromkeys([*GPU_PEERS, *(name for everyone in TASKS.values() for name in everyone)]))
BYTES_PER_SCORE = {"float32": 12, "bfloat16": 6}
"""What the loss must move, forward and backward: each score read twice, each gradient written once."""

SAMPLE_MS = 10.0
"""Calls are repeated within one sample until it takes about this long: the last one's wait is then lost in it."""

BITS_S = 30.0
"""Beyond the limit, for runs whose bits are compared."""

HOST_SAMPLES, HOST_BUDGET_S = 20, 1.0
"""Fewer where calls are slow, but five."""


def calls_in_a_sample(calls: GpuCalls, what: str) -> int:
    call = calls.calls[what]
    start = time.perf_counter()
    call()
    calls.wait()
    elapsed_ms = (time.perf_counter() - start) * 1e3
    return max(1, min(200, int(SAMPLE_MS / max(elapsed_ms, 1e-3))))


def sample(calls: GpuCalls, what: str, count: int) -> None:
    call = calls.calls[what]
    for _ in range(count):
        call()
    calls.wait()


def host_us(calls: GpuCalls, what: str) -> list[float]:
    """How long single calls keep the host, each on an idle GPU."""
    call, samples, begin = calls.calls[what], list[float](), time.perf_counter()
    while len(samples) < HOST_SAMPLES and (len(samples) < 5 or time.perf_counter() - begin < HOST_BUDGET_S):
        calls.wait()
        start = time.perf_counter_ns()
        call()
        samples.append((time.perf_counter_ns() - start) / 1e3)
    calls.wait()
    return samples


def kernels_us(calls: GpuCalls, what: str, device: str) -> list[KernelTime]:
    """Every kernel and copy of one call by name: how often it ran, and its time on the GPU, all together."""
    if not device.startswith("cuda"):
        return []
    torch = importlib.import_module("torch")
    activities = torch.profiler.ProfilerActivity
    found: dict[str, list[float]] = {}
    for _ in range(3):  # the first one of a process may come too late for the first kernels
        with torch.profiler.profile(activities=[activities.CPU, activities.CUDA], acc_events=True) as seen:
            calls.calls[what]()
            calls.wait()
        for event in seen.events():
            if event.device_type == torch.autograd.DeviceType.CUDA:
                found.setdefault(event.name, []).append(event.time_range.elapsed_us())
        if found:
            break
    return [(name, len(each), round(sum(each), 2)) for name, each in found.items()]


def measure_shape(
    shape: Shape,
    dtype: str,
    peers: Sequence[str],
    device: str,
    rounds: int,
    budget_s: float,
    time_left: Callable[[], float] = lambda: math.inf,
) -> list[GpuRow]:
    """The rows of one shape and dtype. `budget_s` is for one pass of all peers together, and for each task.

    Peers are left out when no `time_left`, in seconds.
    """
    problem = draw(shape)
    rows = []
    for passes, everyone in [(PASSES, GPU_PEERS), *(((task,), everyone) for task, everyone in TASKS.items())]:
        chosen = {name: peer for name, peer in everyone.items() if name in peers}
        rows += _measure_peers(shape, problem, dtype, chosen, passes, device, rounds, budget_s, time_left)
    return rows


def _measure_peers(
    shape: Shape,
    problem: Problem,
    dtype: str,
    peers: Mapping[str, GpuPeer],
    passes: Sequence[str],
    device: str,
    rounds: int,
    budget_s: float,
    time_left: Callable[[], float],
) -> list[GpuRow]:
    rows = []
    loaded: dict[str, GpuCalls] = {}
    status: dict[str, str] = {}
    for name, peer in peers.items():
        missing = peer.missing
        status[name] = not_installed(missing) if missing else OK
        if not missing:
            try:
                loaded[name] = peer.load(problem, dtype, device)
            except Exception as error:  # a peer that fails is a row of the table, not the end of the run
                status[name] = failed(error)
    for what in passes:
        rows += _measure_pass(shape, dtype, what, peers, loaded, dict(status), device, rounds, budget_s, time_left)
    return rows


def _measure_pass(
    shape: Shape,
    dtype: str,
    what: str,
    peers: Mapping[str, GpuPeer],
    loaded: dict[str, GpuCalls],
    status: dict[str, str],
    device: str,
    rounds: int,
    budget_s: float,
    time_left: Callable[[], float],
) -> list[GpuRow]:
    rows = {
        name: GpuRow(
            shape.name, shape.T, shape.N, shape.C, shape.L, dtype, name, peers[name].version,
            what, told,
        )
        for name, told in status.items()
    }  # fmt: skip
    counts: dict[str, int] = {}
    for name, calls in loaded.items():
        if time_left() <= 0 and name != OURS:
            rows[name] = replace(rows[name], status=TIME_IS_UP)
            continue
        try:
            start = time.perf_counter()
            sample(calls, what, 1)
            first_ms = (time.perf_counter() - start) * 1e3
            must_run, seen = peers[name].must_run, list[KernelTime]()
            if must_run is not None:
                seen = kernels_us(calls, what, device)
                names = [kernel for kernel, _, _ in seen]
                if not must_run(names):
                    raise RuntimeError(f"{peers[name].label} did not run: {', '.join(names)}")
            counts[name] = calls_in_a_sample(calls, what)
            rows[name] = replace(
                rows[name],
                first_call_ms=first_ms,
                kernels_us=tuple(seen),
                peak_bytes=calls.peak_bytes(what),
                host_us=spread(host_us(calls, what)),
            )
        except Exception as error:  # as above
            rows[name] = replace(rows[name], status=failed(error))
    turns = {name: lambda name=name: sample(loaded[name], what, counts[name]) for name in counts}
    for name, milliseconds in take_turns(turns, rounds, min(budget_s, max(time_left(), 0.0))).items():
        samples = [1e3 * each / counts[name] for each in milliseconds]
        rows[name] = replace(
            rows[name], repeats=len(samples), time_us=spread(samples),
            samples_us=tuple(round(each, 2) for each in samples),
        )  # fmt: skip
    return list(rows.values())


def compare(rows: list[GpuRow], copy_rate: float | None) -> list[GpuRow]:
    """Our rows with the ratio to the fastest peer, and with the time that their bytes take at the rate of a copy."""
    compared = []
    for row in rows:
        if row.peer == OURS and row.time_us is not None:
            others = [
                other.time_us.median
                for other in rows
                if (other.shape, other.dtype, other.what) == (row.shape, row.dtype, row.what)
                and other.peer != OURS
                and other.time_us is not None
            ]
            whole = row.what == "forward_backward"
            moved = row.T * row.N * row.C * BYTES_PER_SCORE[row.dtype]
            row = replace(
                row,
                ratio=min(others) / row.time_us.median if others else None,
                floor=GPU_SHAPES[row.shape].floor if whole and row.shape in GPU_SHAPES else None,
                bandwidth_us=1e6 * moved / copy_rate if whole and copy_rate else None,
            )
        compared.append(row)
    return compared


def copy_rate(device: str) -> float:
    """Bytes a second, read and written together, of a large copy within the GPU: the median of some."""
    torch = importlib.import_module("torch")
    source = torch.empty(1 << 28, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(10):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        stop.record()
        stop.synchronize()
        seconds.append(start.elapsed_time(stop) / 1e3)
    return float(2 * source.numel() * source.element_size() / statistics.median(seconds))


def describe_gpu() -> dict[str, Any]:
    torch = importlib.import_module("torch")
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "numba_cuda": version_of("numba-cuda"),
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(GPU_SHAPES))
    parser.add_argument("--dtypes", default=",".join(GPU_DTYPES))
    parser.add_argument("--peers", default=",".join(ALL_PEERS))
    parser.add_argument("--rounds", type=int, default=21, help="samples of each call")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds for one pass of one shape, all peers")
    parser.add_argument("--limit", type=float, default=400.0, help="seconds for everything; then peers are left out")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gpu.json")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the JSON file and the tables, print the tables."""
    options = parse(arguments)
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu needs an NVIDIA GPU that PyTorch can use, and there is none: nothing was measured")
    given = sys.argv[1:] if arguments is None else arguments
    start = time.perf_counter()
    rate = copy_rate("cuda")
    rows: list[GpuRow] = []
    for name in options.shapes.split(","):
        for dtype in options.dtypes.split(","):
            print(f"{name}, {dtype}", file=sys.stderr, flush=True)
            rows += measure_shape(
                GPU_SHAPES[name], dtype, options.peers.split(","), "cuda", options.rounds, options.budget,
                lambda: options.limit - (time.perf_counter() - start),
            )  # fmt: skip
    bits = measure_bits(
        BITS_SHAPES, "float32", options.peers.split(","), "cuda",
        time_left=lambda: options.limit + BITS_S - (time.perf_counter() - start),
    )  # fmt: skip
    document = {
        "environment": describe(shlex.join(["python", "-m", "benchmarks.gpu", *given])) | {"gpu": describe_gpu()},
        "copy_bytes_per_s": rate,
        "speed": [as_row(row) for row in compare(rows, rate)],
        "bits": [asdict(row) for row in bits],
        "elapsed_s": round(time.perf_counter() - start, 1),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(write(options.out))


if __name__ == "__main__":
    main()

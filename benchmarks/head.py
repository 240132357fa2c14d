"""The fused head: a projection and its CTC loss, forward + backward, next to the two one after the other.

    python -m benchmarks.head                             # everything; some minutes on two cores
    python -m benchmarks.head --shapes 1000 --rounds 5 --out /tmp/head.json

prints tables and writes benchmarks/results/head.json and .md. A process for each number of threads takes the times, in
turns, the peers' gradients of hidden states, weight and bias included; a fresh process for each peer and shape its peak
memory, as `memory.py` does it; errors are to the unfused way in float64, on fewer frames where there are many classes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT, cores, describe, title
from benchmarks.memory import read_mark, start_mark, trim
from benchmarks.report import Document, number, ranged, sizes, table, told, write_as
from benchmarks.rows import OK, Row, Spread, failed
from benchmarks.speed import PAUSE_S, confine
from benchmarks.timing import paired_ratio, single_ms, spread, take_turns

PEERS = {
    "fused": "linear_ctc_loss",
    "unfused": "linear, then ctc_loss_with_logits",
    "torch": "linear, log_softmax, then PyTorch's ctc_loss",
}
REFERENCE = "unfused"
"""The peer that ratios are taken to, and in float64 the one that errors are taken to."""
ERROR_BOUND, MEMORY_BOUND = 1e-5, 0.15
TIME_BOUNDS = {"1000": 1.15, "50000": 1.0}
MOST_LOGITS = 30_000_000
"""In float64, where errors are measured."""
Calls = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Shape:
    """Frames, utterances, classes, labels in a target, hidden features."""

    T: int
    N: int
    C: int
    L: int
    H: int


SHAPES = {str(C): Shape(500, 8, C, 40, 512) for C in (1_000, 5_000, 50_000)}


@dataclass(frozen=True)
class HeadRow:
    """One shape, peer and question: `what` is 'speed', 'memory' or 'accuracy'.

    `ratio` is this peer's time over the unfused one's, round by round. `peak_bytes` is beyond what hidden states,
    weight and bias take, gradients included. Errors are the largest ones relative to the loss, and to the largest entry
    of a gradient. `bound` is what is asked of the fused head.
    """

    what: str
    T: int
    N: int
    C: int
    L: int
    H: int
    peer: str
    threads: int
    status: str = OK
    time_ms: Spread | None = None
    ratio: Spread | None = None
    peak_bytes: int | None = None
    loss_error: float | None = None
    gradient_error: float | None = None
    bound: float | None = None
    samples_ms: tuple[float, ...] = ()


def _calls(shape: Shape, dtype: str = "float32") -> Calls:
    """A step of training by each peer, on the same numbers: the loss and the gradients of all three tensors."""
    import torch
    from torch.nn import functional

    import numbactc

    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(shape.T, shape.N, shape.H, generator=generator)
    weight = torch.randn(shape.C, shape.H, generator=generator) / shape.H**0.5
    bias = torch.randn(shape.C, generator=generator)
    leaves = hidden, weight, bias = [
        x.to(getattr(torch, dtype)).requires_grad_() for x in (hidden, weight, bias)
    ]
    targets = torch.randint(1, shape.C, (shape.N, shape.L), generator=generator)
    lengths = torch.full((shape.N,), shape.T), torch.full((shape.N,), shape.L)

    def logits() -> Any:
        return functional.linear(hidden, weight, bias)

    losses = {
        "fused": lambda: numbactc.linear_ctc_loss(hidden, weight, bias, targets, *lengths),
        "unfused": lambda: numbactc.ctc_loss_with_logits(logits(), targets, *lengths),
        "torch": lambda: functional.ctc_loss(functional.log_softmax(logits(), -1), targets, *lengths),
    }

    def step(loss: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            for leaf in leaves:
                leaf.grad = None
            value = loss()
            value.backward()
            return value.detach(), [leaf.grad for leaf in leaves]

        return call

    return {name: step(loss) for name, loss in losses.items()}


def _row(what: str, shape: Shape, peer: str, threads: int, bound: float | None) -> HeadRow:
    return HeadRow(what, **asdict(shape), peer=peer, threads=threads, bound=bound if peer == "fused" else None)


def measure_speed(name: str, threads: int, rounds: int, budget_s: float) -> list[HeadRow]:
    calls = _calls(SHAPES[name])
    for call in calls.values():
        call()
    samples = take_turns(calls, rounds, budget_s, PAUSE_S, single_ms)
    return [
        replace(
            _row("speed", SHAPES[name], peer, threads, TIME_BOUNDS.get(name)),
            time_ms=spread(own),
            ratio=paired_ratio(own, samples[REFERENCE]),
            samples_ms=tuple(round(sample, 3) for sample in own),
        )
        for peer, own in samples.items()
    ]


def measure_accuracy(name: str, threads: int) -> list[HeadRow]:
    shape = SHAPES[name]
    shape = replace(shape, T=min(shape.T, MOST_LOGITS // (shape.N * shape.C)))
    truth, slopes = _calls(shape, "float64")[REFERENCE]()
    rows = []
    for peer, call in _calls(shape).items():
        loss, gradients = call()
        errors = [
            float((one.double() - other).abs().max() / other.abs().max())
            for one, other in zip(gradients, slopes, strict=True)
        ]
        row = _row("accuracy", shape, peer, threads, ERROR_BOUND)
        rows.append(replace(row, loss_error=abs(float(loss / truth) - 1), gradient_error=max(errors)))
    return rows


def measure_memory(name: str, peer: str, threads: int) -> list[HeadRow]:
    """In this process, which must be fresh."""
    shape = SHAPES[name]
    _calls(replace(shape, T=8, N=2, L=3, H=8))[peer]()
    call = _calls(shape)[peer]
    trim()
    baseline, method = start_mark()
    result = call()
    peak = read_mark(method) - baseline
    del result
    return [replace(_row("memory", shape, peer, threads, MEMORY_BOUND if shape.C == 50_000 else None), peak_bytes=peak)]


def in_a_process(part: str, name: str, peer: str, threads: int, options: argparse.Namespace) -> list[Row]:
    """The rows of one question, from a process of its own."""
    print(f"{part}: C = {name}, {peer}, {threads} thread(s)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.head", "--part", part, "--shapes", name, "--peer", peer]
    command += ["--threads", str(threads), "--rounds", str(options.rounds), "--budget", str(options.budget)]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    except subprocess.CalledProcessError as error:  # killed for its memory, for example: a row all the same
        bare = _row(part, SHAPES[name], peer, threads, None)
        return [asdict(replace(bare, status=failed(RuntimeError(f"exit status {error.returncode}"))))]
    rows: list[Row] = json.loads(done.stdout.splitlines()[-1])
    return rows


def measure(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for name in options.shapes.split(","):
        for threads in dict.fromkeys((1, cores())):
            rows += in_a_process("speed", name, "all", threads, options)
        for peer in PEERS:
            rows += in_a_process("memory", name, peer, cores(), options)
        rows += in_a_process("accuracy", name, "all", cores(), options)
    return rows


def report(document: Document) -> str:
    """The whole report as Markdown."""
    environment, rows = document["environment"], document["head"]

    def tabled(what: str, head: list[str], cells: Callable[[Row], list[str]]) -> str:
        lines = [
            [sizes(row), str(row["H"]), str(row["threads"]), PEERS.get(row["peer"], row["peer"]), *told_all(row, cells),
             "-" if row["bound"] is None else f"{row['bound']:g}"]
            for row in rows if row["what"] == what
        ]  # fmt: skip
        return table(["T, N, C, L", "hidden", "threads", "peer", *head, "asked"], lines)

    def told_all(row: Row, cells: Callable[[Row], list[str]]) -> list[str]:
        return cells(row) if row["status"] == OK else [told(row, str), ""]

    def against(row: Row) -> str:
        same = [other for other in rows if all(other[key] == row[key] for key in ("what", "T", "C", "threads"))]
        found = [other["peak_bytes"] for other in same if other["peer"] == REFERENCE and other["status"] == OK]
        return f"{row['peak_bytes'] / found[0]:.3f}" if found else "-"

    parts = ["# A projection and its loss, fused", title(environment).replace("\n", "; ") + "."]
    parts += [f"`{environment['command']}` on {environment['os']}, Python {environment['python']}."]
    parts += ["## Time of a step, in ms, and over the unfused one's, round by round"]
    parts += [tabled("speed", ["ms", "/ unfused"], lambda row: [ranged(row["time_ms"]), ranged(row["ratio"])])]
    parts += ["## Peak memory of a step beyond hidden states, weight and bias"]
    parts += [
        tabled("memory", ["MiB", "/ unfused"], lambda row: [number(row["peak_bytes"] / 2**20), against(row)])
    ]
    parts += ["## Largest errors against the unfused way in float64"]
    errors = "loss_error", "gradient_error"
    parts += [tabled("accuracy", ["loss", "gradient"], lambda row: [f"{row[error]:.1e}" for error in errors])]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the JSON file and the tables; or with --part print the rows of one question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES), help=f"numbers of classes, of {','.join(SHAPES)}")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each call")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for the times of one shape, all peers")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/head.json")
    parser.add_argument("--part", choices=["speed", "memory", "accuracy"], help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part is None:
        given = sys.argv[1:] if arguments is None else arguments
        environment = describe(shlex.join(["python", "-m", "benchmarks.head", *given]))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"environment": environment, "head": measure(options)}, indent=1) + "\n")
        print(write_as(options.out, report))
        return
    confine(options.threads)
    if options.part == "speed":
        rows = measure_speed(options.shapes, options.threads, options.rounds, options.budget)
    elif options.part == "memory":
        rows = measure_memory(options.shapes, options.peer, options.threads)
    else:
        rows = measure_accuracy(options.shapes, options.threads)
    print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()

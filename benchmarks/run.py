"""One command for everything: speed, accuracy, memory and start-up, as JSON, as tables and as figures.

    python -m benchmarks.run                                   # everything, from the root of the repository
    python -m benchmarks.run --parts speed --shapes characters --threads 1 --rounds 7 --out /tmp/quick.json

Speed is measured in one process per number of threads, memory in one process per peer and shape, start-up in two;
accuracy in this one. The processes run one after the other.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks import accuracy, memory, plot, report, startup
from benchmarks.environment import ROOT, cores, describe
from benchmarks.peers import PEERS
from benchmarks.rows import Row, as_row
from benchmarks.shapes import MEMORY_SHAPES, SHAPES, accuracy_cases

PARTS = ("speed", "accuracy", "memory", "startup")


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    """An argument type: names out of `known`, separated by commas."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return parse


def thread_counts(text: str) -> list[int]:
    """`1,all` as numbers, without repetition: on one core both are 1."""
    counts = [cores() if word == "all" else int(word) for word in text.split(",")]
    return list(dict.fromkeys(min(count, cores()) for count in counts))


def measure_speed(options: argparse.Namespace) -> list[Row]:
    """A process for each number of threads."""
    rows: list[Row] = []
    for threads in thread_counts(options.threads):
        command = [sys.executable, "-m", "benchmarks.speed", "--threads", str(threads)]
        command += ["--shapes", ",".join(options.shapes), "--peers", ",".join(options.peers)]
        command += ["--rounds", str(options.rounds), "--budget", str(options.budget)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        rows += json.loads(done.stdout.splitlines()[-1])
    return rows


def measure_accuracy(options: argparse.Namespace) -> list[Row]:
    """Every case of the chosen shapes, and the extremes unless told otherwise."""
    rows: list[Row] = []
    for case in accuracy_cases(options.shapes, extremes=not options.no_extremes):
        print(f"accuracy: {case.name}", file=sys.stderr, flush=True)
        rows += [as_row(row) for row in accuracy.measure_case(case, options.peers)]
    return rows


def measure_memory(options: argparse.Namespace) -> list[Row]:
    """The large ones of the chosen shapes, on all threads, where working space is largest."""
    rows: list[Row] = []
    for shape in (name for name in MEMORY_SHAPES if name in options.shapes):
        print(f"memory: {shape}", file=sys.stderr, flush=True)
        rows += [memory.measure(shape, peer, cores()) for peer in options.peers]
    return rows


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--parts", type=_names(PARTS), default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--shapes", type=_names(SHAPES), default=list(SHAPES), help=f"of {','.join(SHAPES)}")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--threads", default="1,all", help="numbers of threads, or all")
    parser.add_argument("--rounds", "--repeats", type=int, default=21, help="samples of each call")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds for one pass of one shape, all peers")
    parser.add_argument("--no-extremes", action="store_true", help="no T = 40,000, no unlikely target")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/cpu.json")
    parser.add_argument("--figures", type=Path, default=ROOT / "benchmarks/figures")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the JSON file, the tables and the figures, print the tables."""
    options = parse(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    measures = {
        "speed": measure_speed,
        "accuracy": measure_accuracy,
        "memory": measure_memory,
        "startup": lambda _: startup.measure(),
    }
    start = time.perf_counter()
    document: report.Document = {"environment": describe(shlex.join(["python", "-m", "benchmarks.run", *given]))}
    for part in options.parts:
        document[part] = measures[part](options)
    document["elapsed_s"] = round(time.perf_counter() - start, 1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(report.write(options.out))
    for path in plot.draw_figures(options.out, options.figures):
        print(f"wrote {path.name}", file=sys.stderr)


if __name__ == "__main__":
    main()

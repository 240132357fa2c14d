"""On a CPU: speed at the shapes of real models and against each of their sizes, accuracy, memory, what a call costs the
host, determinism and start-up, as JSON, as tables and as figures.

    python -m benchmarks.run                                   # everything, from the root of the repository
    python -m benchmarks.run --parts speed --shapes characters --threads 1 --rounds 7 --out /tmp/quick.json

Speed and determinism are measured in one process per number of threads, memory in one process per peer and shape,
start-up in two, accuracy in one. The processes run one after the other. The file is written after every part, and
parts that are not measured stay in it, with what is known of their own run.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from benchmarks import accuracy, determinism, host, memory, plot, report, startup
from benchmarks.children import TimeLeft, collect, until
from benchmarks.environment import ROOT, cores, describe
from benchmarks.peers import PEERS
from benchmarks.rows import TIME_IS_UP, Row, as_row, failed
from benchmarks.shapes import MEMORY_SHAPES, SHAPES, TINY, sweep_shapes
from benchmarks.speed import KNOWN, PASSES, lost_row


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


def speed_rows(
    options: argparse.Namespace, shapes: Sequence[str], passes: Sequence[str], counts: Sequence[int], limit_s: float
) -> list[Row]:
    """A process for each number of threads; what one that dies has not sent are rows that say so."""
    rows, time_left = list[Row](), until(limit_s)
    for place, threads in enumerate(counts):
        arguments = ["--threads", str(threads), "--shapes", ";".join(shapes), "--peers", ",".join(options.peers)]
        arguments += ["--passes", ",".join(passes), "--rounds", str(options.rounds), "--budget", str(options.budget)]
        sent, lost = collect("benchmarks.speed", *arguments, limit_s=time_left() / (len(counts) - place))
        why, there = failed(RuntimeError(str(lost))), {row["shape"] for row in sent}
        owed = [(KNOWN[shape], peer, what) for shape in shapes for what in passes for peer in options.peers]
        rows += sent
        rows += [
            as_row(lost_row(shape, peer, threads, what, why)) for shape, peer, what in owed if shape.name not in there
        ]
    return rows


def measure_speed(options: argparse.Namespace, limit_s: float) -> list[Row]:
    """The chosen shapes, every pass."""
    return speed_rows(options, options.shapes, tuple(PASSES), thread_counts(options.threads), limit_s)


def measure_sweeps(options: argparse.Namespace, limit_s: float) -> list[Row]:
    """Every point of the sweeps, forward + backward in blocks, with the fewest threads."""
    return speed_rows(options, list(sweep_shapes()), ["forward_backward"], thread_counts(options.threads)[:1], limit_s)


def measure_overhead(options: argparse.Namespace, limit_s: float) -> list[Row]:
    """A call with next to nothing to compute."""
    return speed_rows(options, [TINY.name], ["forward", "forward_backward"], thread_counts(options.threads), limit_s)


def measure_accuracy(options: argparse.Namespace, limit_s: float) -> list[Row]:
    """Every case of the chosen shapes, and the extremes unless told otherwise."""
    return accuracy.measure(options.shapes, options.peers, not options.no_extremes, limit_s)


def measure_memory(options: argparse.Namespace, limit_s: float) -> list[Row]:
    """The large ones of the chosen shapes, on all threads, where working space is largest."""
    rows, time_left = list[Row](), until(limit_s)
    for shape in (name for name in MEMORY_SHAPES if name in options.shapes):
        print(f"memory: {shape}", file=sys.stderr, flush=True)
        for peer in options.peers:
            if time_left() > 0:
                rows.append(memory.measure(shape, peer, cores()))
            else:
                rows.append(as_row(memory.lost_row(SHAPES[shape], peer, cores(), TIME_IS_UP)))
    return rows


def measure_determinism(options: argparse.Namespace, limit_s: float) -> list[Row]:
    """Runs of one call, and of the same utterances in other company."""
    return determinism.measure(options.peers, thread_counts(options.threads), options.runs, limit_s)


MEASURES: dict[str, tuple[float, Callable[[argparse.Namespace, float], list[Row]]]] = {
    "startup": (1, lambda options, limit_s: startup.measure()),
    "host": (1, lambda options, limit_s: host.measure()),
    "overhead": (2, measure_overhead),
    "determinism": (6, measure_determinism),
    "memory": (5, measure_memory),
    "accuracy": (6, measure_accuracy),
    "speed": (13, measure_speed),
    "sweeps": (12, measure_sweeps),
}
"""What each part calls, in the order of running, and its share of the time: what one leaves goes to those behind it."""
PARTS = tuple(MEASURES)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--parts", type=_names(PARTS), default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--shapes", type=_names(SHAPES), default=list(SHAPES), help=f"of {','.join(SHAPES)}")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--threads", default="1,all", help="numbers of threads, or all")
    parser.add_argument("--rounds", "--repeats", type=int, default=21, help="samples of each call")
    parser.add_argument("--runs", type=int, default=determinism.RUNS, help="runs whose bits are compared")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds for one pass of one shape, all peers")
    parser.add_argument("--limit", type=float, default=math.inf, help="minutes for everything; then rows are left out")
    parser.add_argument("--no-extremes", action="store_true", help="no longer and longer T, no unlikely target")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/cpu.json")
    parser.add_argument("--figures", type=Path, default=ROOT / "benchmarks/figures")
    return parser.parse_args(arguments)


def measure_part(part: str, rest: Sequence[str], options: argparse.Namespace, time_left: TimeLeft) -> list[Row]:
    """The rows of a part, in its share of the time; `rest` are this part and those that come after it."""
    shares = [MEASURES[name][0] for name in rest]
    return MEASURES[part][1](options, max(time_left(), 0.0) * shares[0] / sum(shares))


def main(arguments: list[str] | None = None, command: str | None = None) -> None:
    """Measure, write the JSON file, the tables and the figures, print the tables. `command` is how all was started."""
    options = parse(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    document: report.Document = json.loads(options.out.read_text()) if options.out.exists() else {}
    environment = describe(command or shlex.join(["python", "-m", "benchmarks.run", *given]))
    provenance = document.setdefault("environments", {})
    for part in PARTS:  # a file of an earlier version has one run for all
        if part in document:
            provenance.setdefault(part, document["environment"])
    document["environment"] = environment
    chosen = [part for part in PARTS if part in options.parts]
    time_left = until(60 * options.limit)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for place, part in enumerate(chosen):
        start = time.perf_counter()
        document[part] = measure_part(part, chosen[place:], options, time_left)
        provenance[part] = environment | {"elapsed_s": round(time.perf_counter() - start, 1)}
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(report.write(options.out))
    for path in plot.draw_figures(options.out, options.figures):
        print(f"wrote {path.name}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""From the rows to tables: Markdown that also reads well in a terminal.

    python -m benchmarks.report benchmarks/results/cpu.json

writes the `.md` beside the `.json` anew and prints it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.environment import title
from benchmarks.peers import PEERS, REFERENCE
from benchmarks.rows import OK, Row
from benchmarks.shapes import SWEEP_BASE, SWEEPS, THREADS_BOUND

Document = dict[str, Any]
NONE = "-"
OURS, ELSEWHERE = "numbactc", "elsewhere"
LEGEND = (
    "Times are medians, with quartiles in brackets. A ratio is PyTorch's time over the peer's, "
    "round by round of one run: above 1 the peer is faster. Calls run in blocks, peer after peer, "
    "but where it says that each follows another peer's: then caches hold what that one left."
)
SPEED_TABLES = {
    "forward_backward": "forward + backward from logits",
    "forward": "forward from logits",
    "forward_backward_after_others": "forward + backward from logits, each call straight after another peer's",
}


def environment_of(document: Document, part: str) -> dict[str, Any]:
    """Where and when a part was measured: parts of one file may come from different runs."""
    found: dict[str, Any] = document.get("environments", {}).get(part, document["environment"])
    return found


def provenance(environment: Row) -> str:
    """Machine, versions, commit and command in a line."""
    return f"{title(environment)}, `{environment['command']}`".replace("\n", "; ")


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table with columns padded to one width."""
    rows = [head, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    cells = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    padded = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([padded[0], rule, *padded[1:]])


def unique(rows: list[Row], *keys: str) -> list[tuple[Any, ...]]:
    """The different values of `keys`, in order of appearance."""
    return list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))


def by_peer(rows: list[Row], **fixed: Any) -> dict[str, Row]:
    """The rows where every field of `fixed` has the value asked, one a peer."""
    return {row["peer"]: row for row in rows if all(row[key] == value for key, value in fixed.items())}


def label(peer: str) -> str:
    """A peer's name in tables."""
    return PEERS[peer].label if peer in PEERS else peer


def many(count: int, thing: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} {thing}" + ("" if count == 1 else "s")


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def ranged(spread: Row | None) -> str:
    """`median (q1-q3)`."""
    return NONE if spread is None else f"{number(spread['median'])} ({number(spread['q1'])}-{number(spread['q3'])})"


def told(row: Row | None, text: Callable[[Row], str]) -> str:
    """`text(row)` for a row with numbers, else why there are none."""
    if row is None:
        return NONE
    return text(row) if row["status"] == OK else str(row["status"]).split(":")[0]


def sizes(row: Row) -> str:
    """T, N, C, L as text."""
    return f"{row['T']}, {row['N']}, {row['C']}, {row['L']}"


def speed_table(rows: list[Row], threads: int, what: str) -> str:
    """Medians and quartiles in ms, and PyTorch's time over each other peer's."""
    rows = [row for row in rows if row["threads"] == threads and row["what"] == what]
    peers = [peer for (peer,) in unique(rows, "peer")]
    others = [peer for peer in peers if peer != REFERENCE] if REFERENCE in peers else []
    asked = any(row["floor"] for row in rows)
    head = ["shape", "T, N, C, L", *(f"{label(peer)}, ms" for peer in peers)]
    head += [f"{label(REFERENCE)} / {label(peer)}" for peer in others] + (["floor, aim"] if asked else [])
    lines = []
    for (shape,) in unique(rows, "shape"):
        found = by_peer(rows, shape=shape)
        line = [shape, sizes(next(iter(found.values())))]
        line += [told(found.get(peer), lambda row: ranged(row["time_ms"])) for peer in peers]
        line += [told(found.get(peer), lambda row: ranged(row["ratio"])) for peer in others]
        goals = [f"{row['floor']:g}, {row['aim']:g}" for row in found.values() if row["floor"]]
        lines.append(line + ((goals or [NONE]) if asked else []))
    return table(head, lines)


def medians_table(rows: list[Row], threads: int, what: str) -> str:
    """Medians in ms, and the fastest peer's time over ours."""
    rows = [row for row in rows if row["threads"] == threads and row["what"] == what]
    peers = [peer for (peer,) in unique(rows, "peer")]
    lines = []
    for (shape,) in unique(rows, "shape"):
        found = by_peer(rows, shape=shape)
        lines.append([shape, sizes(next(iter(found.values()))), *_medians(found, peers)])
    return table(["shape", "T, N, C, L", *_median_heads(peers)], lines)


def _medians(found: dict[str, Row], peers: list[str]) -> list[str]:
    times = [told(found.get(peer), lambda row: number(row["time_ms"]["median"])) for peer in peers]
    return [*times, fastest_over_ours(found, lambda row: row["time_ms"]["median"])]


def _median_heads(peers: list[str]) -> list[str]:
    return [*(f"{label(peer)}, ms" for peer in peers), "fastest peer / numbactc"]


def scaling_table(rows: list[Row]) -> str:
    """One thread's time over that of the most threads, forward + backward."""
    rows = [row for row in rows if row["what"] == "forward_backward"]
    most = max(row["threads"] for row in rows)
    peers = [peer for (peer,) in unique(rows, "peer")]
    lines = []
    for (shape,) in unique(rows, "shape"):
        one, many = by_peer(rows, shape=shape, threads=1), by_peer(rows, shape=shape, threads=most)
        line = [shape]
        for peer in peers:
            slow, fast = ((found.get(peer) or {}).get("time_ms") for found in (one, many))
            line.append(f"{slow['median'] / fast['median']:.2f}" if slow and fast else NONE)
        lines.append([*line, f"{THREADS_BOUND[1]:g}" if shape == THREADS_BOUND[0] and most == 2 else NONE])
    return table(["shape", *(label(peer) for peer in peers), "asked"], lines)


def accuracy_table(rows: list[Row], field: str, bound: str) -> str:
    """Largest errors of each peer, and what is asked of numbactc."""
    peers = [peer for (peer,) in unique(rows, "peer")]
    lines = []
    for (case,) in unique(rows, "case"):
        found = by_peer(rows, case=case)
        line = [case, *(told(found.get(peer), lambda row: f"{row[field]:.1e}") for peer in peers)]
        lines.append(line + ([f"{row[bound]:g}" for row in found.values() if row[bound]] or [NONE]))
    return table(["case", *(label(peer) for peer in peers), "asked"], lines)


def extra_memory(row: Row) -> str:
    """`MiB (part of the logits)`."""
    return f"{number(row['extra_bytes'] / 2**20)} ({100 * row['extra_over_logits']:.0f} %)"


def memory_table(rows: list[Row]) -> str:
    """Peak beyond logits and gradient in MiB, and as a part of the logits."""
    peers = [peer for (peer,) in unique(rows, "peer")]
    lines = []
    for (shape,) in unique(rows, "shape"):
        found = by_peer(rows, shape=shape)
        logits = max(4 * row["T"] * row["N"] * row["C"] for row in found.values())
        line = [shape, number(logits / 2**20), *(told(found.get(peer), extra_memory) for peer in peers)]
        lines.append(line + ([f"{100 * row['bound']:.0f} %" for row in found.values() if row["bound"]] or [NONE]))
    return table(["shape", "logits, MiB", *(f"{label(peer)}, MiB" for peer in peers), "asked"], lines)


def startup_table(rows: list[Row]) -> str:
    """Import, first and second call, in ms."""
    fields = ("import_ms", "first_call_ms", "second_call_ms")
    lines = []
    for row in rows:
        status = told(row, lambda _: OK)
        lines.append([row["cache"], *(number(row[field]) if status == OK else status for field in fields)])
    return table(["Numba cache", "import, ms", "first call, ms", "second call, ms"], lines)


def sweep_table(rows: list[Row], variable: str, threads: int) -> str:
    """Medians in ms while one size changes, and the fastest peer's time over ours."""
    rows = [row for row in sweep_rows(rows, variable) if row["threads"] == threads]
    peers = [peer for (peer,) in unique(rows, "peer")]
    lines = []
    for (value,) in unique(rows, variable):
        lines.append([f"{value:,}", *_medians(by_peer(rows, **{variable: value}), peers)])
    return table([variable, *_median_heads(peers)], lines)


def sweep_rows(rows: list[Row], variable: str) -> list[Row]:
    """The rows where all sizes but one are the base's, in the order of that one."""
    others = {name: size for name, size in SWEEP_BASE.items() if name != variable}
    chosen = [row for row in rows if all(row[name] == size for name, size in others.items())]
    return sorted(chosen, key=lambda row: row[variable])


def fastest_over_ours(found: dict[str, Row], value: Callable[[Row], float]) -> str:
    """The smallest number of the others over ours."""
    others = [value(row) for peer, row in found.items() if peer != OURS and row["status"] == OK]
    ours = found.get(OURS)
    return number(min(others) / value(ours)) if others and ours and ours["status"] == OK else NONE


def overhead_table(rows: list[Row]) -> str:
    """Medians and quartiles of a call with next to nothing to compute, in microseconds."""
    kinds, lines = unique(rows, "what", "threads"), []
    for (peer,) in unique(rows, "peer"):
        line = [label(peer)]
        for what, threads in kinds:
            row = by_peer(rows, what=what, threads=threads).get(peer)
            line.append(told(row, lambda row: ranged({key: 1e3 * each for key, each in row["time_ms"].items()})))
        lines.append(line)
    words = {"forward": "forward", "forward_backward": "forward + backward"}
    return table(["", *(f"{words[what]}, {many(threads, 'thread')}, us" for what, threads in kinds)], lines)


def host_table(row: Row, time_us: float | None) -> str:
    """Parts of the time by files of numbactc, and what that is of `time_us`."""
    files: dict[str, float] = {}
    for place, share in row["shares"]:
        file = place.rsplit(".", 1)[0]
        files[file] = files.get(file, 0.0) + share
    lines = []
    for file, share in sorted(files.items(), key=lambda pair: -pair[1]):
        name = "PyTorch and the loop" if file == ELSEWHERE else f"`{file}.py`"
        if share >= 0.01:
            lines.append([name, f"{100 * share:.0f} %", NONE if time_us is None else number(share * time_us)])
    return table(["where", "part of the samples", "us"], lines)


def determinism_table(rows: list[Row]) -> str:
    """Different results among runs, and utterances whose bits depend on something else than themselves."""
    lines = []
    for row in rows:
        line = [row["shape"], label(row["peer"]), str(row["threads"])]
        line.append(told(row, lambda row: f"{row['results']} in {row['runs']}"))
        for field in ("alone", "order", "padding", "threads_differ"):
            line.append(NONE if row[field] is None else f"{row[field]} of {row['N']}")
        lines.append(line)
    head = ["problem", "peer", "threads", "different results", "alone", "in reverse", "padded", "other threads"]
    return table(head, lines)


def report(document: Document) -> str:
    """The whole report as Markdown."""
    environment = document["environment"]
    parts = ["# Benchmark results", title(environment).replace("\n", "; ") + "."]
    parts += [f"`{environment['command']}` on {environment['os']}, Python {environment['python']}."]
    parts += [f"Part `{part}` is from another run: {run}." for part, run in other_runs(document).items()]
    parts += [LEGEND]
    speed = document.get("speed", [])
    threads = [count for (count,) in unique(speed, "threads")]
    for count in threads:
        for what, words in SPEED_TABLES.items():
            parts += [f"## Speed, {words}, {many(count, 'thread')}", speed_table(speed, count, what)]
    if 1 in threads and len(threads) > 1:
        parts += [f"## Time on one thread over time on {max(threads)}, forward + backward", scaling_table(speed)]
    sweeps = document.get("sweeps", [])
    for (count,) in unique(sweeps, "threads"):
        for variable in SWEEPS:
            others = ", ".join(f"{name} = {size}" for name, size in SWEEP_BASE.items() if name != variable)
            head = f"## Forward + backward against {variable}, {others}, {many(count, 'thread')}"
            parts += [head, sweep_table(sweeps, variable, count)]
    if accuracy := document.get("accuracy"):
        for field, words in (("gradient", "absolute error of the gradient"), ("loss", "relative error of the loss")):
            parts += [f"## Largest {words} against float64"]
            parts += [accuracy_table(accuracy, f"{field}_error", f"{field}_bound")]
    for part, (words, draw) in PLAIN_PARTS.items():
        if rows := document.get(part):
            parts += [f"## {words}", draw(rows)]
    return "\n\n".join(parts) + "\n"


PLAIN_PARTS: dict[str, tuple[str, Callable[[list[Row]], str]]] = {
    "memory": ("Peak memory of forward + backward beyond logits and gradient", memory_table),
    "overhead": ("A call with T = 2, N = 1, C = 4, L = 1", overhead_table),
    "determinism": ("Bits", determinism_table),
    "startup": ("First call of numbactc in a fresh process", startup_table),
}


def other_runs(document: Document) -> dict[str, str]:
    """The parts that the latest run has not measured, and the run that has."""
    latest = document["environment"]
    runs = document.get("environments", {})
    return {
        part: provenance(run)
        for part, run in runs.items()
        if any(run[key] != latest[key] for key in ("date", "commit", "command"))
    }


def write_as(path: Path, words: Callable[[Document], str]) -> str:
    """Write `<name>.md` beside `<name>.json`; returns the text."""
    text = words(json.loads(path.read_text()))
    path.with_suffix(".md").write_text(text)
    return text


def write(path: Path) -> str:
    """`write_as` of this report."""
    return write_as(path, report)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))

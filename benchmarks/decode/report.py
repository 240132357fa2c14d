"""From the rows to tables: Markdown that also reads well in a terminal.

    python -m benchmarks.decode.report benchmarks/results/decode.json

writes the `.md` beside the `.json` anew and prints it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.decode.tasks import EXACT
from benchmarks.environment import title
from benchmarks.report import NONE, Document, number, ranged, table, told, unique
from benchmarks.rows import OK, Row

OURS = "numbactc"
LEGEND = (
    "Speeds and times are medians, with quartiles in brackets, of turns that the peers took in one process. "
    "`first` is how far, at most, the exact log-probability of a peer's first hypothesis is below the best one of all "
    "peers, in nats; `TER` and `WER` are errors in tokens and words, in percent."
)


def search_table(rows: list[Row]) -> str:
    """One line a task and peer: speed, what it is to the fastest peer's, quality."""
    lines = []
    for row in rows:
        same = [other for other in rows if _task(other) == _task(row) and other["status"] == OK and other["speed"]]
        lines.append(
            [
                f"{row['units']}, {row['difficulty']}",
                "greedy" if row["beam"] == 0 else str(row["beam"]),
                row["peer"],
                told(row, lambda row: ranged(row["speed"]) if row["speed"] else NONE),
                _against_fastest(row, same),
                NONE if row["behind"] is None else f"{row['behind']:.2g}",
                _percent(row["token_errors"]),
                _percent(row["word_errors"]),
                str(row["judged"]) if row["judged"] else NONE,
            ]
        )
    head = ["set", "beam", "decoder", "utterances/s", "numbactc / fastest peer", "first", "TER", "WER", "heard"]
    return table(head, lines)


def _task(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("units", "difficulty", "beam", "cut", "model", "threads"))


def _against_fastest(row: Row, same: list[Row]) -> str:
    peers = [other["speed"]["median"] for other in same if not other["peer"].startswith(OURS)]
    if not row["peer"].startswith(OURS) or row["status"] != OK or not row["speed"] or not peers:
        return NONE
    return number(row["speed"]["median"] / max(peers))


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}"


def align_table(rows: list[Row]) -> str:
    """One line a size and peer: time, what torchaudio takes to what this one does, memory, score."""
    lines = []
    for row in rows:
        reference = next(
            (
                other
                for other in rows
                if other["peer"] == "torchaudio" and _size(other) == _size(row) and other.get("time_ms")
            ),
            None,
        )
        time = row["time_ms"]
        ratio = reference["time_ms"]["median"] / time["median"] if reference and time else None
        lines.append(
            [
                f"{row['T']:,}, {row['N']}, {row['L']:,}",
                str(row["threads"]),
                row["peer"],
                told(row, lambda row: ranged(row["time_ms"])),
                NONE if ratio is None else number(ratio),
                NONE if row["extra_bytes"] is None else number(row["extra_bytes"] / 1e6),
                NONE if row["score"] is None else f"{row['score']:.3f}",
            ]
        )
    head = ["T, N, L", "threads", "aligner", "ms", "torchaudio / this", "peak, MB", "score of the paths, nats"]
    return table(head, lines)


def _size(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("T", "N", "L", "threads"))


def path_table(rows: list[Row]) -> str:
    """How often each peer's path is not the best."""
    lines = [
        [
            row["dtype"],
            row["peer"],
            told(row, lambda row: f"{row['worse']} of {row['cases']}"),
            told(row, lambda row: str(row["invalid"])),
            told(row, lambda row: f"{row['largest']:.2g}"),
        ]
        for row in rows
    ]
    return table(["scores", "aligner", "worse paths", "not the target", "largest shortfall, nats"], lines)


def first_table(rows: list[Row]) -> str:
    """Import, first and second call, in ms."""
    fields = ("import_ms", "first_ms", "second_ms")
    lines = []
    for row in rows:
        status = told(row, lambda _: OK)
        times = [number(row[field]) if status == OK else status for field in fields]
        lines.append([row["what"], row["peer"], row["cache"], *times])
    return table(["what", "who", "caches", "import, ms", "first, ms", "second, ms"], lines)


def merged(align: list[Row], memory: list[Row]) -> list[Row]:
    """Rows of time with the memory that was measured apart, whatever the number of threads."""
    found = {(row["T"], row["N"], row["L"], row["peer"]): row for row in memory}
    return [
        row | {"extra_bytes": found.get((row["T"], row["N"], row["L"], row["peer"]), row)["extra_bytes"]}
        for row in align
    ]


def report(document: Document) -> str:
    """The whole report as Markdown."""
    environment = document["environment"]
    peers = ", ".join(f"{peer} {version}" for peer, version in document.get("peers", {}).items() if version)
    parts = ["# Decoding and alignment", title(environment).replace("\n", "; ") + "."]
    parts += [f"`{environment['command']}` on {environment['os']}, Python {environment['python']}. Peers: {peers}."]
    parts += [LEGEND, *filter(None, [document.get("note")])]
    search = document.get("search", [])
    for threads, model, cut in unique(search, "threads", "model", "cut"):
        rows = [row for row in search if (row["threads"], row["model"], row["cut"]) == (threads, model, cut)]
        words = {None: "no language model", "token": "a 3-gram of the tokens", "word": "a 3-gram of words"}[model]
        left_out = "nothing left out" if cut == EXACT else f"left out: {cut}"
        parts += [f"## Search, {words}, {left_out}, {threads} thread{'s' * (threads > 1)}", search_table(rows)]
    if align := document.get("align"):
        parts += ["## Forced alignment", align_table(merged(align, document.get("memory", [])))]
    if paths := document.get("paths"):
        parts += ["## Paths on small problems where many are nearly or exactly as good", path_table(paths)]
    if firsts := document.get("firsts"):
        parts += ["## The first time, in a fresh process", first_table(firsts)]
    return "\n\n".join(parts) + "\n"


def write(path: Path) -> str:
    """Write `<name>.md` beside `<name>.json`; returns the text."""
    text = report(json.loads(path.read_text()))
    path.with_suffix(".md").write_text(text)
    return text


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))

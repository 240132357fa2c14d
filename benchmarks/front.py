"""The parts of the front page that come from results: pictures, a table, and where numbactc is behind.

They stand between `<!-- name -->` and `<!-- /name -->`; `python -m benchmarks.page` writes
them anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks import findings, report
from benchmarks.peers import REFERENCE
from benchmarks.plot import drawable
from benchmarks.report import OURS, Document, environment_of, label, provenance, sizes, table, told, unique
from benchmarks.rows import Row

PICTURES = {
    "sweeps": "Time of loss and gradient against T, N, C and L, next to other libraries",
    "speed": "Speed of loss and gradient over PyTorch's, next to other libraries",
    "exactness": "Error of gradient and loss against T, next to other libraries",
    "accuracy": "Error of the gradient, next to other libraries",
}
"""The figures of the front page; the second of each pair where there is nothing for the first."""


def front_parts(results: Path) -> dict[str, str]:
    """What the front page shows, by the names of its marks."""
    document: Document = json.loads((results / "cpu.json").read_text())
    speed, accuracy = document.get("speed", []), document.get("accuracy", [])
    found = drawable(document)
    pairs = ("sweeps", "speed"), ("exactness", "accuracy")
    shown = [next((name for name in names if name in found), None) for names in pairs]
    pictures = [f"![{PICTURES[name]}](benchmarks/figures/cpu-{name}.png)" for name in shown if name]
    parts = ("sweeps" if "sweeps" in shown else "speed", "accuracy", "speed")
    runs = list(dict.fromkeys(provenance(environment_of(document, part)) for part in parts))
    made = f"*{' And '.join(runs)}.\nAll of it, and what is left out: [docs/benchmarks.md](docs/benchmarks.md).*"
    lost = [
        findings.startup_sentence(document.get("startup", [])),
        findings.scaling_sentence(speed),
        findings.after_others_sentence(speed),
        overhead_sentence(document.get("overhead", [])),
    ]
    below = " ".join([findings.longest_sentence(accuracy), findings.memory_sentence(document.get("memory", []))])
    return {
        "figures": "\n\n".join([*pictures, made]),
        "table": f"{speed_and_error_table(speed, accuracy)}\n\n{below.strip()}",
        "losses": " ".join(filter(None, lost)),
    }


def speed_and_error_table(speed: list[Row], accuracy: list[Row]) -> str:
    """One thread: PyTorch's time over each peer's, ours also straight after others, and two gradient errors."""
    peers = [peer for (peer,) in unique(speed, "peer") if peer not in (OURS, REFERENCE)]
    lines = []
    for (shape,) in unique(speed, "shape"):
        found, after = (
            report.by_peer(speed, shape=shape, threads=1, what=what)
            for what in ("forward_backward", "forward_backward_after_others")
        )
        errors = report.by_peer(accuracy, case=f"{shape}, N(0, 1)")
        line = [sizes(next(iter(found.values()))), *(ratio(rows.get(OURS)) for rows in (found, after))]
        line += [ratio(found.get(peer)) for peer in peers]
        line += [told(errors.get(peer), lambda row: f"{row['gradient_error']:.1e}") for peer in (OURS, REFERENCE)]
        lines.append(line)
    head = ["T, N, C, L", "numbactc", "after others", *map(label, peers)]
    return table([*head, "largest gradient error, numbactc", "PyTorch"], lines)


def ratio(row: Row | None) -> str:
    """PyTorch's time over this peer's."""
    return told(row, lambda row: report.number(row["ratio"]["median"]) if row["ratio"] else report.NONE)


def overhead_sentence(rows: list[Row]) -> str:
    """What a call costs that has nothing to compute, next to the others; empty without rows."""
    found = report.by_peer(rows, what="forward_backward", threads=1)
    times = {label(peer): findings.milliseconds(row) for peer, row in found.items()}
    words = [f"{name} {report.number(1e3 * time)} us" for name, time in times.items() if time]
    return f"A step with next to nothing to compute takes {findings.joined(words)}." if words else ""


def renewed(text: str, parts: dict[str, str]) -> str:
    """A text whose marked parts are these: what stands between `<!-- name -->` and `<!-- /name -->`."""
    for name, part in parts.items():
        marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        if len(re.findall(marks, text, re.DOTALL)) != 1:
            raise ValueError(f"there must be one part between <!-- {name} --> and <!-- /{name} -->")
        before, after = f"<!-- {name} -->\n\n", f"\n\n<!-- /{name} -->"
        text = re.sub(marks, lambda _: before + part + after, text, flags=re.DOTALL)  # noqa: B023 - called at once
    return text

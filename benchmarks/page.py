"""From all results to the page of the guide, and to what the front page shows of it.

    python -m benchmarks.page      # docs/benchmarks.md and the marked parts of README.md, from benchmarks/results

Explanations come from `benchmarks/README.md`, sentences and tables from the rows: on another machine the same command
writes what was found there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

from benchmarks import findings, report
from benchmarks.environment import ROOT
from benchmarks.front import front_parts, renewed
from benchmarks.peers import PEERS
from benchmarks.report import OURS, Document, label, many, provenance, table, told, unique
from benchmarks.rows import OK
from benchmarks.shapes import SWEEPS, TINY

RESULTS, FIGURES = ROOT / "benchmarks/results", ROOT / "benchmarks/figures"
PAGE = ROOT / "docs/benchmarks.md"
CPU_PARTS = ("speed", "sweeps", "accuracy", "memory", "overhead", "host", "determinism", "startup")
MORE = {
    "gpu": ("On a GPU", "No results of a GPU are here: `make bench` measures one where PyTorch finds it."),
    "head": ("The projection and the loss in one", ""),
}
"""Other results that the page takes in where they are, as their own report tells them, and what it says where not."""


def section(text: str, heading: str) -> str:
    """What stands under a heading of the second level."""
    match = re.search(rf"^## {re.escape(heading)}\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise ValueError(f"there is no heading {heading!r}")
    return match[1].strip()


def below(text: str) -> str:
    """A report without its title, its headings a level down."""
    return re.sub(r"^## ", "### ", re.sub(r"\A# .*\n+", "", text), flags=re.MULTILINE).strip()


def peers_table(document: Document) -> str:
    """Who was asked, what runs, and what became of it: a peer without numbers says why."""
    rows = [row for part in CPU_PARTS for row in document.get(part, []) if "peer" in row]
    lines = []
    for (peer,) in unique(rows, "peer"):
        own = [row for row in rows if row["peer"] == peer]
        lost = list(dict.fromkeys(row["status"] for row in own if row["status"] != OK))
        version = next((row["version"] for row in own if row["version"]), None)
        runs = PEERS[peer].runs if peer in PEERS else ""
        fate = f"{len([row for row in own if row['status'] == OK])} of {many(len(own), 'row')}"
        lines.append([label(peer), version or report.NONE, runs, "; ".join([fate, *lost[:3]])])
    return table(["peer", "version", "what runs", "rows with numbers"], lines)


def figure(name: str, words: str, figures: Path, page: Path) -> list[str]:
    """A picture, where there is one."""
    path = figures / name
    return [f"![{words}]({Path(os.path.relpath(path, page.parent)).as_posix()})"] if path.exists() else []


def speed_parts(document: Document, figures: Path, page: Path) -> list[str]:
    """Curves, points, threads."""
    parts = ["## Speed"]
    if sweeps := document.get("sweeps"):
        fewest = min(row["threads"] for row in sweeps)
        parts += figure("cpu-sweeps.png", "Time of a call against T, N, C and L", figures, page)
        parts += [findings.speed_sentence(sweeps, "forward_backward", fewest)]
        for variable in SWEEPS:
            parts += [report.sweep_table(sweeps, variable, fewest)]
    if speed := document.get("speed"):
        parts += ["### At the shapes of models"]
        parts += figure("cpu-speed.png", "Speed over PyTorch's at five shapes", figures, page)
        for (threads,) in unique(speed, "threads"):
            parts += [f"Forward + backward from logits, {many(threads, 'thread')}; medians."]
            parts += [report.medians_table(speed, threads, "forward_backward")]
            parts += [findings.speed_sentence(speed, "forward_backward", threads)]
        parts += [findings.scaling_sentence(speed), findings.after_others_sentence(speed)]
    return parts


def exactness_parts(document: Document, figures: Path, page: Path) -> list[str]:
    """Errors against float64."""
    rows = document.get("accuracy")
    if not rows:
        return []
    parts = ["## Exactness", *figure("cpu-exactness.png", "Error of gradient and loss against T", figures, page)]
    parts += [findings.error_sentence(rows)]
    parts += ["Largest absolute error of the gradient against float64:"]
    parts += [report.accuracy_table(rows, "gradient_error", "gradient_bound")]
    return [*parts, *figure("cpu-accuracy.png", "Largest error of the gradient, every case", figures, page)]


def host_parts(document: Document) -> list[str]:
    """A call with next to nothing to compute, and where ours is meanwhile."""
    rows = document.get("overhead")
    if not rows:
        return []
    parts = ["## What a call costs the host"]
    parts += [f"One call with T, N, C, L = {TINY.sizes}, where there is next to nothing to compute."]
    parts += [report.overhead_table(rows)]
    for row in document.get("host", []):
        own = report.by_peer(rows, what="forward_backward", threads=1).get(OURS)
        median = findings.milliseconds(own) if own else None
        if row["status"] == OK:
            parts += [
                f"Where numbactc's forward + backward is, by {row['samples']} samples of its stack: the innermost file "
                "of numbactc counts, and with it what it calls in PyTorch and in compiled code.",
                report.host_table(row, None if median is None else 1e3 * median),
            ]
        else:
            parts += [f"Where numbactc's time goes: {told(row, str)}."]
    return parts


def other_parts(document: Document) -> list[str]:
    """Bits, memory, first call."""
    parts = []
    if rows := document.get("determinism"):
        parts += ["## Determinism", findings.determinism_sentence(rows)]
        parts += [
            "`different results` counts the different bits of all losses and gradients in runs of one call. The rest "
            "are utterances of a batch whose own bits change: alone instead of in company, in the batch in reverse, "
            "with more frames behind every length, with other threads.",
            report.determinism_table(rows),
        ]
    if rows := document.get("memory"):
        parts += ["## Memory", "Peak of forward + backward beyond logits and gradient:", report.memory_table(rows)]
    if rows := document.get("startup"):
        parts += ["## First call", findings.startup_sentence(rows), report.startup_table(rows)]
    return parts


def losses_parts(document: Document) -> list[str]:
    """Where numbactc is not first."""
    lines = [[loss.what, loss.ours, loss.best, loss.peer] for loss in findings.not_first(document)]
    if not lines:
        return ["## Where numbactc is not first", "In none of these rows."]
    return ["## Where numbactc is not first", table(["what", "numbactc", "best", "by"], lines)]


def more_parts(results: Path, page: Path) -> list[str]:
    """What other commands have measured."""
    parts = []
    for name, (heading, otherwise) in MORE.items():
        text = results / f"{name}.md"
        if text.exists():
            parts += [f"## {heading}", below(text.read_text())]
        elif otherwise:
            parts += [f"## {heading}", otherwise]
    decode = results / "decode.md"
    if decode.exists():
        link = Path(os.path.relpath(decode, page.parent)).as_posix()
        words = f"By `make bench-decode`, next to decoders and aligners: [{decode.name}]({link})."
        parts += ["## Decoding and alignment", words]
    return parts


def text_of(results: Path, figures: Path, page: Path) -> str:
    """The whole page."""
    document: Document = json.loads((results / "cpu.json").read_text())
    explained = (ROOT / "benchmarks/README.md").read_text()
    environment, link = document["environment"], Path(os.path.relpath(results, page.parent)).as_posix()
    guide = Path(os.path.relpath(ROOT / "benchmarks/README.md", page.parent)).as_posix()
    parts = [
        "# Benchmarks",
        f"Written by `python -m benchmarks.page` from [cpu.json]({link}/cpu.json), sentences too. `make bench` "
        f"measures it all anew, on any machine, and writes this page; how, stands in [benchmarks/README.md]({guide}), "
        f"all tables in [cpu.md]({link}/cpu.md). T frames, N utterances, C classes, L labels in a target.",
        "## When and where",
        f"{provenance(environment)}, on {environment['os']}, Python {environment['python']}, "
        f"{environment['memory_gib']} GiB.",
        *(f"Part `{part}` is from another run: {run}." for part, run in report.other_runs(document).items()),
        "## Who",
        peers_table(document),
        *speed_parts(document, figures, page),
        *exactness_parts(document, figures, page),
        *other_parts(document),
        *host_parts(document),
        *losses_parts(document),
        *more_parts(results, page),
        "## What is left out, and why",
        section(explained, "What is left out, and why"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Write the page, and the marked parts of the front page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--readme", type=Path, help="a text with marked parts; README.md if --out is not given")
    options = parser.parse_args(arguments)
    if options.out == PAGE and options.readme is None:
        options.readme = ROOT / "README.md"
    options.out.write_text(text_of(options.results, options.figures, options.out))
    if options.readme:
        options.readme.write_text(renewed(options.readme.read_text(), front_parts(options.results)))


if __name__ == "__main__":
    main()

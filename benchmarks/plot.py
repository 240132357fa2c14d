"""From the rows to figures.

    python -m benchmarks.plot benchmarks/results/cpu.json --figures benchmarks/figures

writes `<name>-speed.png`, `<name>-accuracy.png`, and of `curves.py` `<name>-sweeps.png` and `<name>-exactness.png`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from benchmarks import curves
from benchmarks.canvas import WIDTH, foot, head, save, style
from benchmarks.peers import REFERENCE
from benchmarks.report import Document, by_peer, environment_of, label, number, sizes, unique
from benchmarks.rows import Row

ROW, TOP, BOTTOM = 0.5, 0.8, 1.0
"""Inches: one row, and the room above and below the rows."""
SPREAD = 0.75
"""Room that the peers of one row share, in rows, so that equal values stay visible."""


def _axes(document: Document, part: str, heading: str, rows: int) -> tuple[Figure, Axes]:
    """An empty chart of `rows` rows."""
    height = TOP + BOTTOM + ROW * rows
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.25, right=0.97, bottom=BOTTOM / height, top=1 - TOP / height)
    head(figure, heading, environment_of(document, part))
    axes.set_xscale("log")
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    return figure, axes


def _peers(rows: list[Row]) -> Iterator[tuple[str, str, str, float]]:
    """Each peer with its colour, its marker and its offset within a row."""
    peers = [peer for (peer,) in unique(rows, "peer")]
    for place, peer in enumerate(peers):
        yield peer, *style(peer), SPREAD * ((place + 0.5) / len(peers) - 0.5)


def _finish(figure: Figure, axes: Axes, names: list[str], xlabel: str, rows: list[Row], path: Path) -> Path:
    """Names of the rows, label of the axis, legend, and the peers that have no number; writes the file."""
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(xlabel, fontsize=8.5)
    foot(figure, rows)
    handles, labels = axes.get_legend_handles_labels()
    above_the_foot = (1.0, 0.2 / figure.get_figheight())
    figure.legend(
        handles, labels, loc="lower right", bbox_to_anchor=above_the_foot, ncols=max(len(labels), 1), fontsize=8.5,
        frameon=False,
    )  # fmt: skip
    return save(figure, path)


def speed_figure(document: Document, path: Path) -> Path:
    """Ratio to PyTorch of every peer, forward + backward: dot at the median, whiskers at the quartiles."""
    rows = [row for row in document["speed"] if row["what"] == "forward_backward"]
    threads = min(row["threads"] for row in rows)
    rows = [row for row in rows if row["threads"] == threads]
    shapes = [shape for (shape,) in unique(rows, "shape")]
    words = f"{threads} thread" + ("s" if threads > 1 else "")
    heading = f"CTC loss and gradient from logits, CPU, {words}: speed over PyTorch's"
    figure, axes = _axes(document, "speed", heading, len(shapes))
    for peer, colour, marker, offset in _peers(rows):
        ratios = [by_peer(rows, shape=shape).get(peer, {}).get("ratio") for shape in shapes]
        points = [(ratio, place + offset) for place, ratio in enumerate(ratios) if ratio]
        if not points:
            continue
        middle = [ratio["median"] for ratio, _ in points]
        whiskers = [[abs(ratio["median"] - ratio[side]) for ratio, _ in points] for side in ("q1", "q3")]
        places = [place for _, place in points]
        axes.errorbar(
            middle, places, xerr=whiskers, fmt=marker, color=colour, ms=6.5, capsize=3, lw=1.2, label=label(peer)
        )
        for ratio, place in points if peer != REFERENCE else []:
            text = axes.annotate(number(ratio["median"]), (ratio["q3"], place), (7, 0), textcoords="offset points")
            text.set(fontsize=8, color=colour, va="center")
    reached = [value for row in rows if row["ratio"] for value in row["ratio"].values()]
    axes.set_xlim(min(0.7, 0.8 * min(reached)), max(4.0, 1.6 * max(reached)))
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    names = [f"{shape}\n{sizes(next(iter(by_peer(rows, shape=shape).values())))}" for shape in shapes]
    xlabel = "times as fast as PyTorch (log scale, right is faster); T, N, C, L under each name"
    return _finish(figure, axes, names, xlabel, rows, path)


def accuracy_figure(document: Document, path: Path) -> Path:
    """Largest gradient error against float64, every peer and case. An error of exactly 0 has no place on the axis."""
    rows = document["accuracy"]
    cases = [case for (case,) in unique(rows, "case")]
    heading = "CTC gradient from float32 logits: largest error against float64"
    figure, axes = _axes(document, "accuracy", heading, len(cases))
    for peer, colour, marker, offset in _peers(rows):
        values = [by_peer(rows, case=case).get(peer, {}).get("gradient_error") for case in cases]
        points = [(value, place + offset) for place, value in enumerate(values) if value]
        errors, places = [error for error, _ in points], [place for _, place in points]
        axes.plot(errors, places, marker, color=colour, ms=6.5, label=label(peer))
    found = [row["gradient_error"] for row in rows if row["gradient_error"]] or [1.0]
    axes.set_xlim(10 ** math.floor(math.log10(min(found))), 10 ** math.ceil(math.log10(max(found)) + 0.01))
    xlabel = "largest absolute error of d loss / d logits (log scale, left is better)"
    return _finish(figure, axes, cases, xlabel, rows, path)


FIGURES: dict[str, Callable[[Document, Path], Path]] = {
    "speed": speed_figure,
    "accuracy": accuracy_figure,
    "sweeps": curves.sweeps_figure,
    "exactness": curves.exactness_figure,
}


def drawable(document: Document) -> list[str]:
    """The figures that have something to show."""
    numbers = {
        "speed": [row["ratio"] for row in document.get("speed", [])],
        "accuracy": [row["gradient_error"] for row in document.get("accuracy", [])],
        "sweeps": [row["time_ms"] for row in document.get("sweeps", [])],
        "exactness": [row["gradient_error"] for row in curves.growth_rows(document)],
    }
    return [name for name in FIGURES if any(numbers[name])]


def draw_figures(result: Path, folder: Path) -> list[Path]:
    """Every figure the rows of `result` allow; returns what was written. One of other rows does not stay."""
    document: Document = json.loads(result.read_text())
    names, written = drawable(document), []
    for name, draw in FIGURES.items():
        path = folder / f"{result.stem}-{name}.png"
        if name in names:
            written.append(draw(document, path))
        else:
            path.unlink(missing_ok=True)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--figures", type=Path, default=Path("benchmarks/figures"))
    options = parser.parse_args()
    for figure_path in draw_figures(options.result, options.figures):
        print(figure_path)

"""Curves: time against each size of a problem, and error against its length, both axes logarithmic.

Peers are named at the end of their lines.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from benchmarks.canvas import WIDTH, foot, head, save, style
from benchmarks.report import Document, environment_of, label, many, sweep_rows, unique
from benchmarks.rows import Row
from benchmarks.shapes import SWEEP_BASE, SWEEPS, VERY_LONG

WORDS = {"T": "frames T", "N": "utterances N", "C": "classes C", "L": "labels L"}
ERRORS = {"gradient_error": "largest error of the gradient", "loss_error": "relative error of the loss"}
GAP = 10.5
"""Points between the names of two lines, at least."""
NAMES = 0.75
"""Inches to the right of a panel, for names."""

Point = tuple[float, float]


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Places moved as little as it takes to be `gap` apart, in the same order: groups that touch share their middle."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[list[int]] = []
    middles: list[float] = []
    for index in order:
        group, middle = [index], places[index]
        while groups and middle - middles[-1] < gap * (len(group) + len(groups[-1])) / 2:
            below = middles.pop()
            middle = (middle * len(group) + below * len(groups[-1])) / (len(group) + len(groups[-1]))
            group = groups.pop() + group
        groups.append(group)
        middles.append(middle)
    moved = dict.fromkeys(order, 0.0)
    for group, middle in zip(groups, middles, strict=True):
        for place, index in enumerate(group):
            moved[index] = middle + gap * (place - (len(group) - 1) / 2)
    return [moved[index] for index in range(len(places))]


def points_of(rows: Iterable[Row], size: str, value: Callable[[Row], float | None]) -> list[Point]:
    """What can be drawn on logarithmic axes: a lost row is none, nor is an error of exactly 0."""
    found = [(row[size], value(row)) for row in rows]
    return sorted((float(x), y) for x, y in found if y)


def draw_lines(figure: Figure, axes: Axes, lines: dict[str, list[Point]], limits: tuple[float, float]) -> None:
    """A line a peer, its name behind its last point."""
    low, high = (math.log10(limit) for limit in limits)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(limits)
    for peer, points in lines.items():
        colour, marker = style(peer)
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, color=colour, marker=marker, markersize=4.5, linewidth=1.4, label=label(peer))
    height = 72 * axes.get_position().height * figure.get_figheight()  # in points, as names are measured
    ends = {peer: height * (math.log10(points[-1][1]) - low) / (high - low) for peer, points in lines.items()}
    for (peer, points), place in zip(lines.items(), apart(list(ends.values()), GAP), strict=True):
        text = axes.annotate(
            label(peer), points[-1], (7, place - ends[peer]), textcoords="offset points", annotation_clip=False
        )
        text.set(fontsize=8, color=style(peer)[0], va="center")
    axes.grid(color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def whole_powers(values: Iterable[float]) -> tuple[float, float]:
    """Limits of a logarithmic axis that holds the values: powers of ten."""
    found = list(values)
    return 10.0 ** math.floor(math.log10(min(found)) - 0.02), 10.0 ** math.ceil(math.log10(max(found)) + 0.02)


def by_line(rows: list[Row], size: str, value: Callable[[Row], float | None]) -> dict[str, list[Point]]:
    """The points of each peer that has any."""
    lines = {}
    for (peer,) in unique(rows, "peer"):
        if points := points_of((row for row in rows if row["peer"] == peer), size, value):
            lines[peer] = points
    return lines


def median_ms(row: Row) -> float | None:
    return row["time_ms"]["median"] if row["time_ms"] else None


def sweeps_figure(document: Document, path: Path) -> Path:
    """A panel for each size, with the fewest threads; every panel has the same scale of time."""
    rows = document["sweeps"]
    threads = min(row["threads"] for row in rows)
    rows = [row for row in rows if row["threads"] == threads]
    figure = Figure(figsize=(WIDTH, 6.6))
    panels = figure.subplots(2, 2, sharey=True).flat
    figure.subplots_adjust(left=0.075, right=1 - NAMES / WIDTH, bottom=0.105, top=0.865, wspace=0.36, hspace=0.36)
    heading = f"CTC loss and gradient from logits, CPU, {many(threads, 'thread')}: time of a call"
    head(figure, heading, environment_of(document, "sweeps"))
    limits = whole_powers(time for row in rows if (time := median_ms(row)))
    for axes, (variable, values) in zip(panels, SWEEPS.items(), strict=True):
        draw_lines(figure, axes, by_line(sweep_rows(rows, variable), variable, median_ms), limits)
        axes.set_xlim(values[0] / 1.15, values[-1] * 1.15)
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        others = ", ".join(f"{name} = {size}" for name, size in SWEEP_BASE.items() if name != variable)
        axes.set_xlabel(f"{WORDS[variable]}    ({others})", fontsize=8.5)
        axes.tick_params(labelleft=True)
        axes.set_title("ms", fontsize=8.5, loc="left", pad=4)
    foot(figure, rows)
    return save(figure, path)


def growth_rows(document: Document) -> list[Row]:
    """The accuracy rows of one utterance with a label every 20 frames; none where there is but one length."""
    asked = {"N": VERY_LONG.N, "C": VERY_LONG.C, "sigma": 1.0}
    rows: list[Row] = document.get("accuracy", [])
    chosen = [row for row in rows if all(row[key] == value for key, value in asked.items())]
    growing = [row for row in chosen if row["L"] == row["T"] // 20]
    return growing if len(unique(growing, "T")) > 1 else []


def exactness_figure(document: Document, path: Path) -> Path:
    """The largest error of a gradient, and the relative error of the loss, against the number of frames."""
    rows = growth_rows(document)
    figure = Figure(figsize=(WIDTH, 3.9))
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.075, right=1 - NAMES / WIDTH, bottom=0.165, top=0.76, wspace=0.42)
    head(figure, "Exactness: float32 logits, against PyTorch in float64", environment_of(document, "accuracy"))
    values = sorted(frames for (frames,) in unique(rows, "T"))
    for axes, (field, words) in zip(panels, ERRORS.items(), strict=True):
        lines = by_line(rows, "T", operator.itemgetter(field))
        draw_lines(figure, axes, lines, whole_powers(error for points in lines.values() for _, error in points))
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("frames T    (N = 1, C = 32, a label every 20 frames)", fontsize=8.5)
        axes.set_title(words, fontsize=8.5, loc="left", pad=4)
    foot(figure, rows)
    return save(figure, path)

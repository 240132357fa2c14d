"""What the plots share: matplotlib on first use, arrays checked, names of classes, a time axis, labels without overlap.

Nothing here imports matplotlib until something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Affine2DBase

    Array = np.ndarray[Any, np.dtype[np.float64]]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#A6761D", "#7A68A6")
"""Blue, vermilion, green, purple and sky of Okabe and Ito, and two more that are told apart with any colour vision."""
DARK, PALE = "0.2", "0.8"
BLANK_NAME, SPACE_NAME, WILDCARD_NAME = "-", "␣", "*"
WORD_BEGIN = "▁"
"""What SentencePiece writes for the space before a word."""

Symbols = Sequence[str] | None
Matrix = Tensor | ArrayLike


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """The caller's axes, or those of a new figure of that many inches."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot as plt
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ModuleNotFoundError("plots need matplotlib: pip install 'numbactc[plot]'", name="matplotlib") from error
    _, new = plt.subplots(figsize=(width, height), layout="constrained")
    return new


def lay_out(ax: Axes) -> None:
    """Let a layout engine, if there is one, give the axes their place now, so that things can be measured."""
    ax.figure.canvas.figure.draw_without_rendering()


def array_of(name: str, values: Matrix, shape: str, columns: int | None = None) -> Array:
    """A matrix in float64 on the host, with that many columns if that is known."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    array: Array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or (columns is not None and array.shape[1] != columns):
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def probabilities_of(name: str, values: Matrix, shape: str, columns: int | None = None) -> Array:
    array = array_of(name, values, shape, columns)
    outside = np.argwhere((array < 0) | (array > 1.001))  # sums of rounded numbers may be a little more than 1
    if len(outside):
        t, c = outside[0]
        raise ValueError(f"{name} must be from 0 to 1, got {array[t, c]:g} at [{t}, {c}]: logarithms need exp()")
    return array


def integers_of(values: Tensor | Sequence[int]) -> list[int]:
    return [int(value) for value in (values.tolist() if isinstance(values, Tensor) else values)]


def name_of(label: int, symbols: Symbols, blank: int | None = None) -> str:
    """What stands for a class in a picture: a dash for blank, an open box for a space, a star for what is no class."""
    if label == blank:
        return BLANK_NAME
    if label < 0:
        return WILDCARD_NAME
    if symbols is None:
        return str(label)
    if not 0 <= label < len(symbols):
        raise ValueError(f"symbols must name every class, got {len(symbols)} symbols and class {label}")
    return symbols[label].replace(" ", SPACE_NAME)


def word_of(tokens: Sequence[int], symbols: Symbols) -> str:
    """The names of its tokens together, or, where they are numbers, apart."""
    if symbols is None:
        return " ".join(map(str, tokens))
    return "".join(name_of(token, symbols) for token in tokens).replace(WORD_BEGIN, SPACE_NAME).strip(SPACE_NAME)


class TimeAxis(NamedTuple):
    """Where frames lie on the x axis: frame t from t - 1/2 to t + 1/2, or in seconds from t to t + 1 durations."""

    frame_duration: float | None

    def edge(self, frame: float) -> float:
        return frame - 0.5 if self.frame_duration is None else frame * self.frame_duration

    def centre(self, frame: float) -> float:
        return self.edge(frame + 0.5)

    def prepare(self, ax: Axes, frames: int) -> None:
        """Limits and name of the axis; whole numbers for frames."""
        from matplotlib.ticker import MaxNLocator

        ax.set_xlim(self.edge(0), self.edge(max(frames, 1)))
        ax.set_xlabel("frame" if self.frame_duration is None else "time (s)")
        if self.frame_duration is None:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))


class Label(NamedTuple):
    """A piece of text over the axes, and the stretch of the x axis that it is about."""

    text: str
    begin: float
    end: float
    colour: str
    opacity: float = 1.0


class Tier(NamedTuple):
    """Labels of one kind over the axes, in rows; what would be in a row beyond `most_rows` is left out."""

    labels: Sequence[Label]
    fontsize: float
    most_rows: int
    boxed: bool = False
    """A box around each stretch and the text in it; otherwise a coloured bar for each below the text."""

    def row_height(self) -> float:
        return (1.7 if self.boxed else 1.3) * self.fontsize

    def bar_height(self) -> float:
        return 0.0 if self.boxed else 5.0


GAP = 3.0
"""Points between two labels in a row."""


def rows_of(extents: Sequence[tuple[float, float]], most_rows: int) -> list[int | None]:
    """The lowest row for each extent (left, right) in which it touches none before it; None beyond `most_rows`.

    >>> rows_of([(0, 2), (1, 3), (2, 4), (2.5, 3.5)], most_rows=2)
    [0, 1, 0, None]
    """
    ends: list[float] = []
    rows: list[int | None] = [None] * len(extents)
    for i in sorted(range(len(extents)), key=lambda i: extents[i]):
        left, right = extents[i]
        row = next((row for row, end in enumerate(ends) if end <= left), len(ends))
        if row < most_rows:
            ends[row : row + 1] = [right]
            rows[i] = row
    return rows


def draw_strip(ax: Axes, tiers: Sequence[Tier]) -> None:
    """Tiers on top of the axes, bottom up, as wide as they. A title of the axes goes above by itself."""
    tiers = [tier for tier in tiers if tier.labels]
    if not tiers:
        return
    from matplotlib.transforms import Affine2D, ScaledTranslation, blended_transform_factory

    lay_out(ax)
    rows = [rows_of([_extent(ax, label, tier) for label in tier.labels], tier.most_rows) for tier in tiers]
    height = sum(map(_height, tiers, rows))
    top = ScaledTranslation(0, 1, cast("Affine2DBase", ax.transAxes))
    above = Affine2D().scale(1 / 72) + ax.figure.dpi_scale_trans + top
    strip = ax.inset_axes((0, 0, 1, height), transform=blended_transform_factory(ax.transAxes, above), sharex=ax)
    strip.set_axis_off()
    strip.set_ylim(0, height)
    bottom = 0.0
    for tier, rows_of_tier in zip(tiers, rows, strict=True):
        _draw_tier(strip, tier, rows_of_tier, bottom)
        bottom += _height(tier, rows_of_tier)


def _extent(ax: Axes, label: Label, tier: Tier) -> tuple[float, float]:
    """What a label takes of the x axis, room beside it included."""
    text = ax.text(0, 0, label.text, fontsize=tier.fontsize, parse_math=False)
    pixels = text.get_window_extent().width + GAP * ax.figure.dpi / 72
    text.remove()
    low, high = ax.get_xlim()
    half = pixels / ax.bbox.width * (high - low) / 2
    middle = (label.begin + label.end) / 2
    left, right = middle - half, middle + half
    return (min(left, label.begin), max(right, label.end)) if tier.boxed else (left, right)


def _height(tier: Tier, rows: Sequence[int | None]) -> float:
    """Points."""
    return tier.bar_height() + tier.row_height() * (1 + max((row for row in rows if row is not None), default=-1))


def _draw_tier(strip: Axes, tier: Tier, rows: Sequence[int | None], bottom: float) -> None:
    for label, row in zip(tier.labels, rows, strict=True):
        width, middle = label.end - label.begin, (label.begin + label.end) / 2
        if tier.bar_height():
            y = bottom + tier.bar_height() / 2
            strip.barh(y, width, tier.bar_height(), label.begin, color=label.colour, alpha=label.opacity, linewidth=0)
        if row is None:
            continue
        floor = bottom + tier.bar_height() + row * tier.row_height()
        if tier.boxed:
            y, height = floor + tier.row_height() / 2, 0.86 * tier.row_height()
            strip.barh(y, width, height, label.begin, facecolor="0.94", edgecolor="0.6", linewidth=0.6)
        # an annotation is left out as a whole when its point leaves the axes; a text would be cut in two
        baseline = floor + tier.row_height() / 2 - 0.35 * tier.fontsize  # half as high as a capital
        strip.annotate(
            label.text, (middle, baseline), color=DARK, fontsize=tier.fontsize, ha="center", va="baseline",
            parse_math=False,  # a dollar is a character
        )  # fmt: skip

"""Pictures of CTC: results in, axes out. matplotlib is imported on first use: `pip install 'numbactc[plot]'`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from numbactc import _drawing, _states, _validation
from numbactc._drawing import COLOURS, DARK, PALE, Label, Matrix, Symbols, Tier, TimeAxis
from numbactc.spans import TokenSpan, WordSpan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection


def plot_lattice(
    states: Matrix,
    target: Tensor | Sequence[int],
    path: Tensor | Sequence[int] | None = None,
    *,
    blank: int = 0,
    symbols: Symbols = None,
    quantity: str = "posterior",
    show_values: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """The states of a target over the frames, the moves between them that CTC allows, and how much runs through each.

    As in figure 3 of the reference, frames go to the right and the target is read downwards, with a blank before,
    between and behind its labels. A state may be kept, or left for the next one; a blank may be skipped where the
    labels around it differ. Drawn are the moves that some complete path makes. For small cases: each state is a disc.

    Args:
        states: (T, 2 L + 1) a number from 0 to 1 for each state in each frame, which shades it: a tensor or array, such
            as the states that `numbactc.posteriors` gives for a single utterance. T frames, L labels.
        target: (L,) labels.
        path: (T,) a class for each frame, such as the path of `numbactc.forced_align`, drawn over the rest. It must
            become the target once runs are merged and blanks removed.
        blank: the class that stands for no label.
        symbols: what to call each class, by its number; the number itself without. Blank is a dash, a space is "␣".
        quantity: what the numbers are, for the colour bar.
        show_values: write the numbers into the discs.
        ax: axes to draw into; without, those of a new figure, made as large as the lattice needs.

    Returns:
        The axes.

    Raises:
        ValueError: states of another shape or not from 0 to 1, a path that does not become the target, a class without
            a symbol.
        ModuleNotFoundError: matplotlib is not installed; the message says what to install.

    References:
        Graves, Fernandez, Gomez, Schmidhuber: Connectionist Temporal Classification. ICML 2006, section 4.1.

    Example:
        >>> import matplotlib, numbactc
        >>> matplotlib.use("Agg")
        >>> ax = numbactc.plot_lattice([[0.4, 0.6, 0.0], [0.0, 0.6, 0.4]], [1], path=[1, 0], symbols=["", "a"])
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['-', 'a', '-']
        >>> matplotlib.pyplot.close(ax.figure)
    """
    labels = _drawing.integers_of(target)
    classes = _states.classes_of(labels, blank)
    S = len(classes)
    values = _drawing.probabilities_of("states", states, f"(T, 2 L + 1) = (T, {S})", S)
    T = len(values)
    names = [_drawing.name_of(c, symbols, blank) for c in classes]
    walk = None if path is None else _states.states_of(_drawing.integers_of(path), labels, blank, T)
    ax = _drawing.axes_of(ax, 1.6 + 0.55 * T, 0.8 + 0.45 * S)
    ax.set(xlim=(-0.6, T - 0.4), ylim=(S - 0.4, -0.6), xlabel="frame", ylabel="state")
    ax.set_xticks(range(0, T, max(1, math.ceil(T / 20))))
    ax.set_yticks(range(S), names, fontsize=11, parse_math=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)

    moves, useful = _states.moves_of(classes, blank, T)
    _draw_moves(ax, moves)
    ax.plot(*np.nonzero(~useful), ".", color=PALE, markersize=4, zorder=2)
    if walk is not None:
        ax.plot(range(T), walk, color=COLOURS[1], linewidth=3, zorder=1.5, solid_capstyle="round")
    places = [(int(t), int(s)) for t, s in np.argwhere(useful)]
    discs = _draw_discs(ax, values, places, walk)
    bar = ax.figure.colorbar(discs, ax=ax, label=quantity, ticks=[0, 0.5, 1], aspect=12, shrink=0.9)
    bar.outline.set_visible(False)

    _drawing.lay_out(ax)
    diameter = 0.62 * 72 / ax.figure.dpi * min(ax.bbox.width / (T + 0.2), ax.bbox.height / (S + 0.2))
    discs.set_sizes([diameter**2])
    for t, s in places if show_values else []:
        ax.text(
            t, s, f"{values[t, s]:.2f}".removeprefix("0"), ha="center", va="center_baseline", zorder=4,
            fontsize=min(9.0, 0.38 * diameter), color="white" if values[t, s] > 0.55 else "black",
        )  # fmt: skip
    return ax


def _draw_moves(ax: Axes, moves: list[tuple[int, int, int]]) -> None:
    from matplotlib.collections import LineCollection

    segments = [((t, s), (t + 1, following)) for t, s, following in moves]
    ax.add_collection(LineCollection(segments, colors=PALE, linewidths=1, zorder=1))


def _draw_discs(
    ax: Axes, values: _drawing.Array, places: list[tuple[int, int]], walk: list[int] | None
) -> PathCollection:
    """A disc for each state that some path visits, shaded by its value; those of the walk have a rim."""
    on_walk = [walk is not None and walk[t] == s for t, s in places]
    return ax.scatter(
        [t for t, _ in places], [s for _, s in places], c=[values[place] for place in places],
        cmap="Blues", vmin=0, vmax=1, zorder=3,
        edgecolors=[COLOURS[1] if on else DARK for on in on_walk], linewidths=[2.2 if on else 0.8 for on in on_walk],
    )  # fmt: skip


def plot_posteriors(
    probabilities: Matrix,
    *,
    blank: int = 0,
    symbols: Symbols = None,
    frame_duration: float | None = None,
    threshold: float = 0.1,
    as_image: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """How probable each class is in each frame: a line for each class, or an image with a row for each.

    Lines have the name of their class over every stretch of frames in which it is the most probable. Names that would
    touch stand in up to three rows; what fits in none is left out, so give a long utterance wide axes.

    Args:
        probabilities: (T, C) from 0 to 1, a tensor or array: the softmax of a model, `log_probs.exp()`, or, given a
            target, the classes that `numbactc.posteriors` gives for a single utterance. T frames, C classes.
        blank: the class that stands for no label: a dotted line.
        symbols: what to call each class, by its number; the number itself without. A space is "␣".
        frame_duration: seconds from one frame to the next, for an axis in seconds; frames without.
        threshold: classes that are never this probable are left out.
        as_image: an image instead of lines.
        ax: axes to draw into; without, those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: probabilities of another shape or not from 0 to 1, a class without a symbol, a duration that is not
            positive.
        ModuleNotFoundError: matplotlib is not installed; the message says what to install.

    Example:
        >>> import matplotlib, numbactc
        >>> matplotlib.use("Agg")
        >>> ax = numbactc.plot_posteriors([[0.9, 0.1], [0.2, 0.8]], symbols=["", "a"], frame_duration=0.04)
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('time (s)', 'probability')
        >>> matplotlib.pyplot.close(ax.figure)
    """
    values = _drawing.probabilities_of("probabilities", probabilities, "(T, C)")
    time = TimeAxis(_seconds(frame_duration))
    shown = [c for c in range(values.shape[1]) if values[:, c].max(initial=0) >= threshold]
    width = min(16.0, max(6.0, 1.5 + 0.08 * len(values)))
    ax = _drawing.axes_of(ax, width, 1.0 + 0.2 * len(shown) if as_image else 3.0)
    time.prepare(ax, len(values))
    if as_image:
        _image_of_posteriors(ax, values, shown, time, symbols, blank)
    else:
        _lines_of_posteriors(ax, values, shown, time, symbols, blank)
    return ax


def _lines_of_posteriors(
    ax: Axes, values: _drawing.Array, shown: list[int], time: TimeAxis, symbols: Symbols, blank: int
) -> None:
    x = [time.centre(t) for t in range(len(values))]
    ax.set(ylim=(0, 1.02), ylabel="probability")
    ax.set_yticks([0, 0.5, 1])
    ax.spines[["top", "right"]].set_visible(False)
    if blank in shown:
        ax.plot(x, values[:, blank], color=DARK, linewidth=1, linestyle=(0, (1, 1.5)), label="blank")
        # half way up there is least in the way: models are sure
        ax.legend(loc="center right", fontsize=8, framealpha=0.9, edgecolor="none", borderpad=0.2)
    for c in shown:
        if c != blank:
            ax.plot(x, values[:, c], color=_colour(c), linewidth=1.5)
            ax.fill_between(x, values[:, c], color=_colour(c), alpha=0.18, linewidth=0)
    labels = [
        Label(_drawing.name_of(c, symbols), time.edge(begin), time.edge(end), _colour(c))
        for c, begin, end in _peaks(values, blank)
    ]
    _drawing.draw_strip(ax, [Tier(labels, fontsize=11, most_rows=3)])


def _colour(c: int) -> str:
    """The same for a class in every picture."""
    return COLOURS[c % len(COLOURS)]


def _peaks(values: _drawing.Array, blank: int) -> list[tuple[int, int, int]]:
    """(class, first frame, last frame + 1) of every run in which a class other than blank is the most probable."""
    best = values.argmax(1) if values.size else np.zeros(0, int)
    edges = np.flatnonzero(np.diff(best, prepend=-1, append=-1)) if len(best) else np.zeros(0, int)
    runs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return [(int(best[begin]), begin, end) for begin, end in runs if best[begin] != blank]


def _image_of_posteriors(
    ax: Axes, values: _drawing.Array, shown: list[int], time: TimeAxis, symbols: Symbols, blank: int
) -> None:
    T = len(values)
    extent = (time.edge(0), time.edge(max(T, 1)), max(len(shown), 1) - 0.5, -0.5)
    image = ax.imshow(
        values[:, shown].T, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest", extent=extent
    )
    step = max(1, math.ceil(9 * ax.figure.dpi / 72 * len(shown) / ax.bbox.height))  # names are 9 points high
    names = [_drawing.name_of(c, symbols, blank) for c in shown]
    ax.set_yticks(range(0, len(shown), step), names[::step], fontsize=8, parse_math=False)
    ax.set_ylabel("class")
    bar = ax.figure.colorbar(image, ax=ax, label="probability", ticks=[0, 0.5, 1], pad=0.02, aspect=12)
    bar.outline.set_visible(False)


def plot_alignment(
    spans: Sequence[TokenSpan],
    background: Matrix,
    words: Sequence[WordSpan] = (),
    *,
    frames: int | None = None,
    symbols: Symbols = None,
    frame_duration: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Tokens, and words over them, where an alignment puts them, over a spectrogram or posteriors.

    Each token shades its frames and has a bar on top, the paler the less confident, with its name over it. Names that
    would touch stand in up to three rows; what fits in none is left out, so give a long utterance wide axes.

    Args:
        spans: the tokens, from `numbactc.forced_align`. A wildcard below 0 is called "*".
        background: (B, K) drawn in grey, the larger the darker, its first row at the bottom: a spectrogram of B bands
            in decibels, or posteriors (C, T). Its K columns cover the utterance from its first frame to its last.
        words: the words over the tokens, from `numbactc.group_words`.
        frames: how many frames the utterance has, if not as many as the background has columns: a model that takes
            every fourth column of a spectrogram has K / 4.
        symbols: what to call each class, by its number; the number itself without. A space is "␣".
        frame_duration: seconds from one frame to the next, for an axis in seconds; frames without.
        ax: axes to draw into; without, those of a new figure, the wider the more tokens there are.

    Returns:
        The axes. What the rows of the background are is for the caller to say: `ax.set_ylabel("mel band")`.

    Raises:
        ValueError: a background that is no matrix, a span outside the frames, a class without a symbol, a duration that
            is not positive.
        ModuleNotFoundError: matplotlib is not installed; the message says what to install.

    Example:
        >>> import matplotlib, torch, numbactc
        >>> matplotlib.use("Agg")
        >>> log_probs = torch.tensor([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]]).log()
        >>> (alignment,) = numbactc.forced_align(log_probs, torch.tensor([1, 1]), [3], [2])
        >>> ax = numbactc.plot_alignment(alignment.spans, log_probs.exp().T, symbols=["", "a"], frame_duration=0.04)
        >>> ax.get_xlabel()
        'time (s)'
        >>> matplotlib.pyplot.close(ax.figure)
    """
    image = _drawing.array_of("background", background, "(B, K)")
    time = TimeAxis(_seconds(frame_duration))
    frames = image.shape[1] if frames is None else frames
    _check_within(spans, frames, "spans")
    _check_within(words, frames, "words")
    ax = _drawing.axes_of(ax, min(16.0, max(6.0, 1.0 + 0.2 * len(spans))), 3.4)
    time.prepare(ax, frames)
    # a little lighter than black, so that colours stay visible on what is loud
    low, high = np.nanmin(image, initial=np.inf), np.nanmax(image, initial=-np.inf)
    ax.imshow(
        image, cmap="Greys", vmin=low, vmax=high + 0.25 * (high - low), aspect="auto", origin="lower",
        extent=(time.edge(0), time.edge(max(frames, 1)), 0, max(len(image), 1)),
    )  # fmt: skip

    tokens = []
    for i, span in enumerate(spans):
        begin, end, colour = time.edge(span.start), time.edge(span.end), COLOURS[i % 2]
        ax.axvspan(begin, end, color=colour, alpha=0.22, linewidth=0)
        name = _drawing.name_of(span.token, symbols)
        tokens.append(Label(name, begin, end, colour, 0.2 + 0.8 * span.confidence))
    boxes = [
        Label(_drawing.word_of(word.tokens, symbols), time.edge(word.start), time.edge(word.end), DARK)
        for word in words
    ]
    tiers = [Tier(tokens, fontsize=11, most_rows=3), Tier(boxes, fontsize=10, most_rows=3, boxed=True)]
    _drawing.draw_strip(ax, tiers)
    return ax


def _check_within(spans: Sequence[Any], frames: int, name: str) -> None:
    for i, span in enumerate(spans):
        if not 0 <= span.start <= span.end <= frames:
            raise ValueError(
                f"{name} must lie within the {frames} frames, got frames {span.start} to {span.end} at position {i}"
            )


def _seconds(frame_duration: float | None) -> float | None:
    return None if frame_duration is None else _validation.check_number("frame_duration", frame_duration, "positive")

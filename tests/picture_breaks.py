"""What `planted_breaks.py` plants in the enumeration of paths and in plots."""

from breaks import Break

ENUMERATION, PLOTTING, DRAWING, STATES = (
    f"numbactc/{name}.py" for name in ("enumeration", "plotting", "_drawing", "_states")
)

PICTURE_BREAKS = [
    Break(
        "paths: equal labels may touch",
        ENUMERATION,
        "unequal = (label != following for",
        "unequal = (True for",
        "test_enumeration.py -k collapse",
    ),
    Break(
        "paths: counted as if no label were repeated",
        ENUMERATION,
        "len(labels) - sum(",
        "len(labels) - 0 * sum(",
        "test_enumeration.py -k by_hand",
    ),
    Break(
        "paths: the worst one first",
        ENUMERATION,
        "(-path.log_prob, path.classes)",
        "(path.log_prob, path.classes)",
        "test_enumeration.py -k best_comes_first",
    ),
    Break(
        "paths: one more than the limit is allowed",
        ENUMERATION,
        "if number > limit:",
        "if number > limit + 1:",
        "test_enumeration.py -k the_limit_is",
    ),
    Break(
        "paths: a score of NaN taken for a number",
        ENUMERATION,
        "scores.isnan() | (scores",
        "(scores",
        "test_enumeration.py -k refused",
    ),
    Break(
        "pictures: a blank between equal labels may be skipped",
        STATES,
        "not in (blank, classes[s])",
        "not in (blank,)",
        "test_plotting.py -k moves_of_a_lattice",
    ),
    Break(
        "pictures: moves that lead nowhere are drawn",
        STATES,
        "if useful[t + 1, n]]",
        "]",
        "test_plotting.py -k moves_of_a_lattice",
    ),
    Break(
        "pictures: a path's labels lie a state too low",
        STATES,
        "2 * len(spelt) - (c != blank)",
        "2 * len(spelt)",
        "test_plotting.py -k lattice",
    ),
    Break(
        "pictures: the best path is not drawn",
        PLOTTING,
        "color=COLOURS[1], linewidth=3,",
        "color=COLOURS[1], linewidth=3, alpha=0,",
        "test_plotting.py -k looks_as_before",
    ),
    Break(
        "pictures: states are paler than they are probable",
        PLOTTING,
        'cmap="Blues", vmin=0, vmax=1, zorder=3',
        'cmap="Blues", vmin=0, vmax=2, zorder=3',
        "test_plotting.py -k looks_as_before",
    ),
    Break(
        "pictures: a spectrogram upside down",
        PLOTTING,
        'origin="lower"',
        'origin="upper"',
        "test_plotting.py -k looks_as_before",
    ),
    Break(
        "pictures: a frame's number at its left edge",
        DRAWING,
        "return self.edge(frame + 0.5)",
        "return self.edge(frame)",
        "test_plotting.py -k middle",
    ),
    Break(
        "pictures: labels that touch stay in one row",
        DRAWING,
        "if end <= left)",
        "if True)",
        "test_plotting.py -k never_touch",
    ),
    Break(
        "pictures: labels measured at another resolution",
        DRAWING,
        "GAP * ax.figure.dpi / 72",
        "GAP * ax.figure.dpi / 72 - 8",
        "test_plotting.py -k never_touch",
    ),
    Break(
        "pictures: the axes' width as it was before the layout",
        DRAWING,
        "    ax.figure.canvas.figure.draw_without_rendering()",
        "    pass",
        "test_plotting.py -k never_touch",
    ),
    Break(
        "pictures: every token as sure as the next",
        PLOTTING,
        "0.2 + 0.8 * span.confidence",
        "0.2 + 0.8",
        "test_plotting.py -k paler",
    ),
    Break(
        "pictures: logarithms drawn as if they were probabilities",
        DRAWING,
        "(array < 0) | (array > 1.001)",
        "array > 1.001",
        "test_plotting.py -k refused",
    ),
    Break(
        "pictures: dollars set mathematics",
        DRAWING,
        "            parse_math=False,  # a dollar is a character\n",
        "",
        "test_plotting.py -k dollar",
    ),
]

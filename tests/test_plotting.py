"""Plots show what they are given: against reference images, and by asking their artists.

    python -m pytest tests/test_plotting.py --renew-images       # draw the reference images again, then look at them
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

import numbactc
from image_comparison import STYLE, assert_looks_like
from numbactc import TokenSpan, WordSpan, _drawing, _states
from processes import run_python

SYMBOLS = ["", " ", *"abcdefghijklmnopqrstuvwxyz"]


def word(text: str, start: int, end: int) -> WordSpan:
    return WordSpan(tuple(TokenSpan(SYMBOLS.index(c), start, end, 1.0) for c in text), start, end, 1.0)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with plt.style.context("default"), plt.rc_context(STYLE):
        yield
        plt.close("all")


@pytest.fixture
def renew(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--renew-images"))


def axes(width: float = 6, height: float = 3, top: float = 0.72) -> Axes:
    """Axes at a fixed place: no layout engine, which would move them as text is measured by another FreeType."""
    figure, ax = plt.subplots(figsize=(width, height))
    figure.subplots_adjust(0.12, 0.18, 0.95, top)
    return ax


def labels_over(ax: Axes) -> list[Annotation]:
    return [text for strip in ax.child_axes for text in strip.texts if isinstance(text, Annotation)]


def texts_over(ax: Axes) -> list[str]:
    """From left to right."""
    return [text.get_text() for text in sorted(labels_over(ax), key=lambda text: text.xy[0])]


def speech(text: str, frames: int, frames_each: int = 2, gap: int = 3) -> tuple[np.ndarray, list[TokenSpan]]:
    """Probabilities as of a model that is sure, and where each character lies."""
    scores = np.zeros((frames, len(SYMBOLS)))
    scores[:, 0] = 4.0
    spans = []
    for i, character in enumerate(text):
        start = 1 + i * (frames_each + gap)
        token = SYMBOLS.index(character)
        scores[start : start + frames_each, token] = 5.0 + i % 3
        spans.append(TokenSpan(token, start, start + frames_each, 1.0 - 0.1 * (i % 5)))
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(1, keepdims=True), spans


def spectrogram(bands: int, columns: int) -> np.ndarray:
    return np.sin(np.arange(columns) / 9) * np.cos(np.arange(bands) / 5)[:, None]


# reference images


def lattice_of_a_word() -> Axes:
    states = np.linspace(0, 1, 8 * 7).reshape(8, 7) ** 2
    path = [0, 2, 2, 3, 0, 3, 0, 0]
    return numbactc.plot_lattice(states, [2, 3, 3], path, symbols=SYMBOLS, ax=axes(6, 4, 0.95))


def lattice_with_values() -> Axes:
    states = [[0.4, 0.6, 0.0], [0.1, 0.7, 0.2], [0.0, 0.25, 0.75]]
    return numbactc.plot_lattice(states, [1], quantity="alpha", show_values=True, ax=axes(4, 3, 0.95))


def posteriors_in_seconds() -> Axes:
    probabilities, _ = speech("peaks of words", 75)
    ax = numbactc.plot_posteriors(probabilities, symbols=SYMBOLS, frame_duration=0.04, ax=axes())
    ax.set_title("a title above the labels")
    return ax


def posteriors_as_an_image() -> Axes:
    probabilities, _ = speech("peaks", 30)
    return numbactc.plot_posteriors(probabilities, symbols=SYMBOLS, as_image=True, ax=axes(6, 3, 0.95))


def alignment_with_words() -> Axes:
    _, spans = speech("two words", 48)
    words = numbactc.group_words(spans, separator=SYMBOLS.index(" "))
    ax = numbactc.plot_alignment(
        spans, spectrogram(20, 96), words, frames=48, symbols=SYMBOLS, frame_duration=0.04, ax=axes()
    )
    ax.set(title="a title above the words", ylabel="mel band")
    return ax


def alignment_crowded() -> Axes:
    probabilities, spans = speech("crowded labels", 44, frames_each=1, gap=2)
    return numbactc.plot_alignment(spans, probabilities.T, symbols=SYMBOLS, ax=axes(2, 2.4, 0.66))


@pytest.mark.parametrize(
    "draw",
    [
        lattice_of_a_word,
        lattice_with_values,
        posteriors_in_seconds,
        posteriors_as_an_image,
        alignment_with_words,
        alignment_crowded,
    ],
    ids=lambda draw: draw.__name__,
)
def test_looks_as_before(draw: Callable[[], Axes], tmp_path: Path, renew: bool) -> None:
    figure = draw().get_figure()
    assert isinstance(figure, Figure)
    assert_looks_like(figure, draw.__name__, tmp_path, renew)


# what the artists say


@pytest.mark.parametrize("target", [[], [1], [1, 2], [1, 1], [2, 1, 1], [1, 2, 1]])
@pytest.mark.parametrize("T", range(1, 6))
def test_moves_of_a_lattice_are_those_of_all_its_paths(T: int, target: list[int]) -> None:
    used, visited = set(), np.zeros((T, 2 * len(target) + 1), bool)
    for path in numbactc.enumerate_alignments(torch.zeros(T, 3), target):
        states = _states.states_of(path.classes, target, 0, T)
        assert [_states.classes_of(target, 0)[s] for s in states] == list(path.classes)
        used |= {(t, states[t], states[t + 1]) for t in range(T - 1)}
        visited[range(T), states] = True
    moves, useful = _states.moves_of(_states.classes_of(target, 0), 0, T)
    assert set(moves) == used
    assert len(moves) == len(used)
    np.testing.assert_array_equal(useful, visited)


def test_a_lattice_draws_each_state_with_its_number_and_each_move() -> None:
    states = np.arange(15).reshape(5, 3) / 15
    path = [0, 1, 1, 0, 0]
    ax = numbactc.plot_lattice(states, [1], path, symbols=["", "a"])
    (discs,) = [artist for artist in ax.collections if isinstance(artist, PathCollection)]
    places, shades = np.asarray(discs.get_offsets()).astype(int), discs.get_array()
    assert shades is not None
    np.testing.assert_array_equal(shades, [states[t, s] for t, s in places])
    moves, useful = _states.moves_of([0, 1, 0], 0, 5)
    assert {(t, s) for t, s in places.tolist()} == set(zip(*np.nonzero(useful), strict=True))
    (lines,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    np.testing.assert_array_equal(lines.get_segments(), [[(t, s), (t + 1, following)] for t, s, following in moves])
    (walk,) = [line for line in ax.lines if line.get_linewidth() == 3]
    assert list(np.asarray(walk.get_ydata())) == [0, 1, 1, 2, 2]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["-", "a", "-"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the target is read downwards"


def test_lines_of_posteriors_are_the_numbers_at_the_middle_of_each_frame() -> None:
    probabilities = torch.tensor([[0.8, 0.2, 0.0], [0.3, 0.7, 0.0], [0.95, 0.02, 0.03]])
    ax = numbactc.plot_posteriors(probabilities, symbols=["", "a", "b"], frame_duration=0.5)
    assert len(ax.lines) == 2, "a class that is never probable is left out"
    for line, c in zip(ax.lines, [0, 1], strict=True):
        np.testing.assert_allclose(np.asarray(line.get_xdata()), [0.25, 0.75, 1.25])
        np.testing.assert_allclose(np.asarray(line.get_ydata()), probabilities[:, c])
    assert ax.get_xlim() == (0.0, 1.5)
    assert ax.get_xlabel() == "time (s)"
    assert texts_over(ax) == ["a"]


def test_frames_are_whole_numbers_at_their_middle() -> None:
    ax = numbactc.plot_posteriors([[0.8, 0.2], [0.3, 0.7]], threshold=0.75)
    (line,) = ax.lines
    assert list(np.asarray(line.get_xdata())) == [0, 1]
    assert ax.get_xlim() == (-0.5, 1.5)
    assert ax.get_xlabel() == "frame"
    assert all(tick == round(tick) for tick in ax.get_xticks())


def test_an_image_has_a_row_for_each_class_that_is_shown() -> None:
    probabilities, _ = speech("aba", 20)
    ax = numbactc.plot_posteriors(probabilities, symbols=SYMBOLS, as_image=True)
    (shown,) = ax.images
    np.testing.assert_allclose(np.asarray(shown.get_array()), probabilities[:, [0, 2, 3]].T)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["-", "a", "b"]


def test_names_of_many_classes_in_an_image_do_not_touch() -> None:
    ax = numbactc.plot_posteriors(np.eye(60), as_image=True, ax=axes())
    ax.figure.canvas.figure.draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in ax.get_yticklabels()]
    assert 5 < len(boxes) < 60
    for one, other in itertools.pairwise(boxes):
        assert not one.overlaps(other)


@pytest.mark.parametrize("frame_duration", [None, 0.04])
def test_spans_stand_where_their_frames_are(frame_duration: float | None) -> None:
    spans = [TokenSpan(2, 1, 3, 1.0), TokenSpan(1, 4, 5, 0.5), TokenSpan(3, 5, 9, 0.9)]
    ax = numbactc.plot_alignment(
        spans, spectrogram(4, 20), [word("a b", 1, 9)], frames=10, symbols=SYMBOLS, frame_duration=frame_duration
    )
    unit, shift = (1, -0.5) if frame_duration is None else (0.04, 0)
    expected = [[span.start * unit + shift, span.end * unit + shift] for span in spans]
    shaded = [patch.get_extents().transformed(ax.transData.inverted()).intervalx for patch in ax.patches]
    np.testing.assert_allclose(shaded, expected)
    np.testing.assert_allclose(ax.get_xlim(), [shift, 10 * unit + shift])
    (background,) = ax.images
    np.testing.assert_allclose(background.get_extent()[:2], ax.get_xlim())
    middles = {text.get_text(): text.xy[0] for text in labels_over(ax)}
    assert middles == pytest.approx({
        "a": 2 * unit + shift, "␣": 4.5 * unit + shift, "b": 7 * unit + shift, "a␣b": 5 * unit + shift
    })  # fmt: skip


def test_bars_are_the_paler_the_less_confident_a_token_is() -> None:
    spans = [TokenSpan(1, 0, 1, 1.0), TokenSpan(2, 2, 3, 0.5), TokenSpan(1, 4, 5, 0.0)]
    ax = numbactc.plot_alignment(spans, np.zeros((2, 6)))
    bars = [patch.get_alpha() for strip in ax.child_axes for patch in strip.patches]
    assert bars == pytest.approx([1.0, 0.6, 0.2])


@pytest.mark.parametrize("width", [2.0, 3.0, 5.0, 9.0])
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_labels_never_touch(width: float, layout: str | None) -> None:
    _, spans = speech("many letters with little room", 100, frames_each=1, gap=2)
    words = [word("many", 1, 12), word("letterswithlittle", 14, 20), word("room", 24, 90)]
    _, ax = plt.subplots(figsize=(width, 3), layout=layout)
    ax.set_ylabel("high\nenough\nto make\nthe axes\nnarrow")
    numbactc.plot_alignment(spans, spectrogram(5, 100), words, symbols=SYMBOLS, ax=ax)
    ax.set_title("over all of them")
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in labels_over(ax)]
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            assert not box.overlaps(other)
        assert box.y0 >= ax.bbox.y1, "labels are above the axes"
        assert box.y1 <= ax.title.get_window_extent().y0 + 1
    if width == 9.0:
        assert len(boxes) == len(spans) + len(words), "where there is room nothing is left out"


def test_names_of_words_and_of_wildcards() -> None:
    symbols = ["", "▁", "▁the", "re", "a"]
    spans = [TokenSpan(token, t, t + 1, 1.0) for t, token in enumerate([2, 3, -1, 4, 1, 4])]
    words = numbactc.group_words(spans, lengths=[2, 1, 3])
    ax = numbactc.plot_alignment(spans, np.zeros((2, 40)), words, symbols=symbols)
    assert sorted(texts_over(ax)) == sorted(["▁the", "re", "*", "a", "▁", "a", "there", "*", "a␣a"])
    plain = numbactc.plot_alignment(spans[:2], np.zeros((2, 40)), words[:1])
    assert "2 3" in texts_over(plain)


def test_a_dollar_is_a_character() -> None:
    """Between two of them matplotlib would set mathematics, or fail."""
    symbols = ["", "$", r"\frac$", "^$"]
    spans = [TokenSpan(token, 4 * t, 4 * t + 2, 1.0) for t, token in enumerate([1, 2, 1, 3])]
    axes = [
        numbactc.plot_alignment(spans, np.zeros((2, 60)), numbactc.group_words(spans, lengths=[4]), symbols=symbols),
        numbactc.plot_posteriors(np.full((3, 4), 0.25), symbols=symbols, as_image=True),
        numbactc.plot_lattice(np.zeros((4, 5)), [1, 2], symbols=symbols),
    ]
    for ax in axes:
        _drawing.lay_out(ax)
        drawn = [text for text in ax.figure.findobj(Text) if "$" in text.get_text()]
        assert drawn and not any(text.get_parse_math() for text in drawn)


def test_rows_are_the_lowest_that_are_free() -> None:
    extents = [(0.0, 4.0), (1.0, 2.0), (2.0, 3.0), (4.0, 5.0), (2.5, 6.0)]
    assert _drawing.rows_of(extents, most_rows=9) == [0, 1, 1, 0, 2]
    assert _drawing.rows_of(extents, most_rows=2) == [0, 1, 1, 0, None]


def test_peaks_are_the_runs_in_which_a_class_wins() -> None:
    ax = numbactc.plot_posteriors(np.eye(4)[[0, 1, 1, 0, 1, 2, 3, 0]], symbols=["", *"abc"])
    assert texts_over(ax) == ["a", "a", "b", "c"]


def test_the_callers_axes_are_drawn_into_and_given_back() -> None:
    _, (one, two, three) = plt.subplots(3, 1)
    probabilities, spans = speech("ab", 12)
    assert numbactc.plot_lattice(np.ones((3, 3)), [1], ax=one) is one
    assert numbactc.plot_posteriors(probabilities, ax=two) is two
    assert numbactc.plot_alignment(spans, probabilities.T, ax=three) is three
    assert len(plt.get_fignums()) == 1


def test_tensors_that_need_a_gradient_are_drawn_and_left_alone() -> None:
    probabilities = torch.full((4, 3), 0.3, dtype=torch.bfloat16, requires_grad=True)
    numbactc.plot_posteriors(probabilities)
    numbactc.plot_lattice(probabilities, torch.tensor([1]), torch.tensor([0, 0, 1, 0]))
    numbactc.plot_alignment([], probabilities.T)
    assert probabilities.grad is None


@pytest.mark.parametrize("frames", [0, 1])
def test_no_frames_or_one(frames: int) -> None:
    numbactc.plot_lattice(np.ones((frames, 3)), [1], [1] * frames if frames else None)
    numbactc.plot_lattice(np.ones((frames, 1)), [])
    for as_image in (False, True):
        ax = numbactc.plot_posteriors(np.ones((frames, 2)), as_image=as_image)
        ax.figure.canvas.draw()
    numbactc.plot_alignment([], np.zeros((3, frames)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbactc.plot_lattice(np.ones((4, 4)), [1]), r"states must have shape .* = \(T, 3\), got \(4, 4\)"),
        (lambda: numbactc.plot_lattice(-np.ones((4, 3)), [1]), r"states must be from 0 to 1, got -1 at \[0, 0\]"),
        (lambda: numbactc.plot_lattice(np.ones((4, 3)), [1], [1, 1]), "each of T = 4 frames, got 2"),
        (lambda: numbactc.plot_lattice(np.ones((2, 5)), [1, 1], [1, 1]), r"the target, \[1, 1\], got .* becomes \[1\]"),
        (lambda: numbactc.plot_lattice(np.ones((2, 3)), [3], symbols="-ab"), "got 3 symbols and class 3"),
        (lambda: numbactc.plot_posteriors(np.ones(4)), r"probabilities must have shape \(T, C\), got \(4,\)"),
        (lambda: numbactc.plot_posteriors(np.log(np.full((2, 2), 0.5))), r"got -0.69\d* at \[0, 0\]: logarithms"),
        (lambda: numbactc.plot_posteriors(np.ones((2, 2)), frame_duration=0.0), "frame_duration must be .* got 0.0"),
        (lambda: numbactc.plot_alignment([], np.ones(3)), r"background must have shape \(B, K\), got \(3,\)"),
        (lambda: numbactc.plot_alignment([TokenSpan(1, 2, 9, 1.0)], np.eye(8)), "the 8 frames, got frames 2 to 9"),
        (lambda: numbactc.plot_alignment([], np.eye(8), [word("a", 3, 2)]), "words .* got frames 3 to 2"),
        (lambda: numbactc.plot_alignment([], np.ones((2, 8)), frame_duration=-1), "frame_duration must be .* positive"),
    ],
)
def test_refused_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums(), "an error leaves no figure behind"


def test_without_matplotlib_the_message_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import numbactc\n"
        "try: numbactc.plot_posteriors([[1.0]])\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    assert run_python(script) == "plots need matplotlib: pip install 'numbactc[plot]'\n"

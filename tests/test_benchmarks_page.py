"""The page of the benchmarks: it says what the rows say, and nothing that they do not."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest

from benchmarks import __main__ as everything
from benchmarks import curves, findings, front, page, plot, report
from benchmarks.environment import describe
from benchmarks.report import Document
from benchmarks.rows import (
    OK,
    TIME_IS_UP,
    AccuracyRow,
    DeterminismRow,
    HostRow,
    MemoryRow,
    Row,
    SpeedRow,
    Spread,
    as_row,
)
from benchmarks.shapes import GROWTH, SHAPES, SWEEPS, TINY, Shape, growth_case, sweep_shapes

ABSENT, BROKEN = "not installed: absent", "failed: RuntimeError: exit status -11"
TIMES = {"numbactc": 1.0, "torch": 20.0, "optax": 4.0}
ERRORS = {"numbactc": 1e-7, "torch": 1e-3, "optax": 1.1e-3}


def speed_row(shape: Shape, peer: str, threads: int, what: str, factor: float = 1.0) -> Row:
    status = {"paddle": ABSENT, "tensorflow": BROKEN}.get(peer, OK)
    row = SpeedRow(shape.name, shape.T, shape.N, shape.C, shape.L, peer, None, threads, what, status)
    if status == OK:
        time = TIMES[peer] * factor * shape.T / 100 / threads
        spread, ratio = Spread(time, time, time), Spread(*[TIMES["torch"] / TIMES[peer]] * 3)
        row = dataclasses.replace(row, version="1.2.3", repeats=5, time_ms=spread, ratio=ratio)
    return as_row(row)


def accuracy_row(name: str, shape: Shape, peer: str) -> Row:
    status = {"paddle": ABSENT, "tensorflow": BROKEN}.get(peer, OK)
    row = AccuracyRow(name, shape.T, shape.N, shape.C, shape.L, 1.0, peer, None, status)
    if status == OK:
        row = dataclasses.replace(row, loss_nats=1.0, loss_error=ERRORS[peer] / 10, gradient_error=ERRORS[peer])
    return as_row(row)


@pytest.fixture
def document(whole: Document) -> Document:
    """One that a test may change."""
    return copy.deepcopy(whole)


@pytest.fixture(scope="module")
def whole() -> Document:
    """All parts: two peers with numbers beside numbactc, one that is not installed, one whose process died."""
    peers = ("numbactc", "torch", "optax", "paddle", "tensorflow")
    shapes = [SHAPES["text-line"], SHAPES["characters"]]
    passes = tuple(report.SPEED_TABLES)
    growth = [growth_case(frames) for frames in GROWTH]
    cases = [(case.name, case.shape) for case in growth] + [(f"{shape.name}, N(0, 1)", shape) for shape in shapes]
    few = Shape("few classes", 200, 8, 32, 30)
    memory = MemoryRow("long-audio", 1500, 16, 32, 250, "numbactc", "1.2.3", 2, OK, extra_bytes=2**20)
    bits = DeterminismRow(few.name, few.T, few.N, few.C, few.L, "numbactc", "1.2.3", 1, OK, 100, 1, 0, 0, 0)
    shares = (("_dispatch.forward", 0.5), ("elsewhere", 0.3), ("_dispatch.run", 0.2))
    return {
        "environment": describe("python -m benchmarks"),
        "speed": [speed_row(shape, peer, threads, what) for threads in (1, 2) for shape in shapes for what in passes
                  for peer in peers],
        "sweeps": [speed_row(shape, peer, 1, passes[0]) for shape in sweep_shapes().values() for peer in peers],
        "overhead": [speed_row(TINY, peer, 1, what, 0.1) for what in passes[:2] for peer in peers],
        "accuracy": [accuracy_row(name, shape, peer) for name, shape in cases for peer in peers],
        "memory": [as_row(dataclasses.replace(memory, extra_over_logits=0.5)),
                   as_row(dataclasses.replace(memory, peer="torch", extra_bytes=2**21, extra_over_logits=1.0))],
        "determinism": [as_row(bits), as_row(dataclasses.replace(bits, peer="optax", results=7, alone=3))],
        "host": [as_row(HostRow("numbactc", "1.2.3", OK, 1000, shares))],
        "startup": [
            {"cache": cache, "status": OK, "import_ms": 1.0, "first_call_ms": time, "second_call_ms": 1.0}
            for cache, time in (("cold", 12000.0), ("warm", 500.0))
        ],
    }  # fmt: skip


Write = Callable[[Document], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """The page of a document, by the command."""

    def text(document: Document) -> str:
        (tmp_path / "cpu.json").write_text(json.dumps(document))
        page.main(["--results", str(tmp_path), "--figures", str(tmp_path), "--out", str(tmp_path / "page.md")])
        return (tmp_path / "page.md").read_text()

    return text


def part_of(text: str, heading: str) -> str:
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


def change(document: Document, part: str, peer: str, **fields: Any) -> None:
    """Fields of all rows of a peer in a part."""
    for row in document[part]:
        if row["peer"] == peer:
            row.update(fields)


def test_every_peer_is_there_with_what_became_of_it(document: Document, write: Write) -> None:
    who = part_of(write(document), "Who")
    for name, fate in (("PyTorch", "1.2.3"), ("Paddle", ABSENT), ("TensorFlow", BROKEN)):
        assert any(name in line and fate in line for line in who.splitlines()), name
    assert "0 of" in next(line for line in who.splitlines() if "Paddle" in line)


def test_lost_rows_stay(document: Document, write: Write) -> None:
    rows = [row for row in document["sweeps"] if row["L"] == SWEEPS["L"][-1] and row["peer"] == "torch"]
    assert len(rows) == 1
    rows[0].update(status=TIME_IS_UP, time_ms=None, ratio=None)
    speed = part_of(write(document), "Speed")
    line = next(line for line in speed.splitlines() if line.startswith("| 256 ") and "left out" in line)
    assert line.count("not installed") == line.count("failed") == 1
    for name in ("paddle", "tensorflow"):
        change(document, "speed", name, status=TIME_IS_UP)
    assert part_of(write(document), "Speed").count("left out") > 8


def test_sentences_are_computed(document: Document, write: Write) -> None:
    text = write(document)
    assert "With 1 thread, PyTorch took 20 and optax took 4 times as long as numbactc." in text
    assert "numbactc 1.0e-07, PyTorch 1.0e-03 and optax 1.1e-03." in text
    assert "optax had up to 7 results for one call and depended on company." in text
    assert "padded, with any threads: numbactc." in text
    assert "compiles: 12 s. The first of a later process took 0.5 s." in text
    assert "2 threads made numbactc 2, PyTorch 2 and optax 2 times as fast." in text


def test_a_page_of_another_machine_says_what_was_found_there(document: Document, write: Write) -> None:
    """Nothing is taken for granted: here numbactc is slow, inexact, has other bits, and cannot run at some shapes."""
    assert part_of(write(document), "Where numbactc is not first").strip() == "In none of these rows."
    change(document, "speed", "numbactc", time_ms={"median": 50.0, "q1": 50.0, "q3": 50.0})
    change(document, "accuracy", "numbactc", gradient_error=0.5)
    change(document, "determinism", "numbactc", results=9)
    change(document, "memory", "numbactc", status=BROKEN, extra_bytes=None)
    text = write(document)
    lost = part_of(text, "Where numbactc is not first")
    assert "time, forward + backward from logits, 400, 16, 29, 100, 1 thread" in lost
    assert "error of the gradient, text-line, N(0, 1)" in lost
    assert f"| memory, long-audio | {BROKEN}" in " ".join(lost.split())
    assert "bits, results, few classes, 1 thread" in lost
    assert "numbactc had up to 9 results for one call." in text
    assert "any threads" not in text.split("`different results`")[0]
    assert "PyTorch took 0.6 to 1.6 and" in text


def test_a_host_without_its_rows_and_a_file_of_one_part(document: Document, write: Write) -> None:
    text = write(document)
    assert "| `_dispatch.py`       | 70 % " in text
    assert "PyTorch and the loop | 30 % " in text
    document["host"] = [as_row(HostRow("numbactc", None, "failed: no timer"))]
    assert "Where numbactc's time goes: failed." in write(document)
    text = write({"environment": document["environment"], "memory": document["memory"]})
    assert "## Memory" in text
    assert "## Exactness" not in text


def test_other_results_are_taken_in_where_they_are(document: Document, write: Write, tmp_path: Path) -> None:
    text = write(document)
    assert "No results of a GPU are here" in part_of(text, "On a GPU")
    assert "projection" not in text
    assert "Decoding and alignment" not in text
    (tmp_path / "gpu.md").write_text("# Benchmark results on a GPU\n\nA GPU.\n\n## Time\n\n| 1 |\n")
    (tmp_path / "head.md").write_text("# Title\n\nA head.\n")
    (tmp_path / "decode.md").write_text("# Title\n")
    text = write(document)
    assert part_of(text, "On a GPU").strip() == "A GPU.\n\n### Time\n\n| 1 |"
    assert part_of(text, "The projection and the loss in one").strip() == "A head."
    assert "(decode.md)" in part_of(text, "Decoding and alignment")


def test_parts_of_another_run_are_named(document: Document, write: Write) -> None:
    now = document["environment"]
    document["environments"] = {"speed": now, "memory": now | {"date": "yesterday", "commit": "f" * 40}}
    told = part_of(write(document), "When and where")
    assert told.count("is from another run") == 1
    assert "Part `memory` is from another run" in told
    assert "yesterday" in told
    assert "commit ffffffffff" in told


def test_explanations_are_those_of_the_guide(document: Document, write: Write) -> None:
    assert "warp-ctc" in part_of(write(document), "What is left out, and why")
    with pytest.raises(ValueError, match="there is no heading 'Nothing'"):
        page.section("## Something\n\ntext\n", "Nothing")


def test_the_front_page_has_its_parts_and_nothing_else_changes(
    document: Document, write: Write, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- figures -->\nold\n<!-- /figures -->\nb\n<!-- table -->\n<!-- /table -->\nc\n"
                      "<!-- losses -->\n<!-- /losses -->\nd\n")  # fmt: skip
    write(document)
    for _ in range(2):
        page.main(["--results", str(tmp_path), "--out", str(tmp_path / "page.md"), "--readme", str(readme)])
    text = readme.read_text()
    assert [line for line in text.splitlines() if len(line) == 1] == ["a", "b", "c", "d"]
    assert "old" not in text
    assert text.count("![") == 2
    assert "`python -m benchmarks`" in text
    assert [cell.strip() for cell in text.split("| 150, 40, 28, 40 ")[1].split("|")][1:7] == [
        "20", "20", "5", "not installed", "failed", "1.0e-07"
    ]  # fmt: skip
    assert "takes numbactc 2 us, PyTorch 40 us and optax 8 us." in text
    with pytest.raises(ValueError, match="one part between <!-- table -->"):
        front.renewed("no marks", {"table": ""})


def lines_of(figure: matplotlib.figure.Figure) -> list[dict[str, int]]:
    """Of each panel: the peers that have a line, and how many points."""
    return [{str(line.get_label()): len(line.get_xdata()) for line in axes.lines} for axes in figure.axes]  # type: ignore[arg-type]


def test_curves_have_every_point_and_a_name_each(
    document: Document, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[matplotlib.figure.Figure] = []
    monkeypatch.setattr(curves, "save", lambda figure, path: drawn.append(figure))
    lost = next(row for row in document["sweeps"] if row["peer"] == "torch" and row["C"] == SWEEPS["C"][-1])
    lost.update(status=TIME_IS_UP, time_ms=None)
    curves.sweeps_figure(document, tmp_path / "sweeps.png")
    curves.exactness_figure(document, tmp_path / "exactness.png")
    sweeps, exactness = drawn
    for found, (variable, values) in zip(lines_of(sweeps), SWEEPS.items(), strict=True):
        assert found == {"numbactc": len(values), "PyTorch": len(values) - (variable == "C"), "optax": len(values)}
    assert lines_of(exactness) == [dict.fromkeys(("numbactc", "PyTorch", "optax"), len(GROWTH))] * 2
    for axes in (*sweeps.axes, *exactness.axes):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert {text.get_text() for text in axes.texts} == {"numbactc", "PyTorch", "optax"}
        lows = sorted(text.get_window_extent().y0 for text in axes.texts)
        assert min(b - a for a, b in itertools.pairwise(lows)) > 8
    assert any("TensorFlow failed" in text.get_text() for text in sweeps.texts)


def test_figures_are_written(document: Document, tmp_path: Path) -> None:
    for draw, name in ((curves.sweeps_figure, "a.png"), (curves.exactness_figure, "b.png")):
        path = draw(document, tmp_path / "figures" / name)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 150_000


def test_a_figure_of_other_rows_does_not_stay(document: Document, tmp_path: Path) -> None:
    result = tmp_path / "cpu.json"
    result.write_text(json.dumps(document))
    names = ["cpu-speed.png", "cpu-accuracy.png", "cpu-sweeps.png", "cpu-exactness.png"]
    assert [path.name for path in plot.draw_figures(result, tmp_path)] == names
    for row in document["sweeps"]:
        row.update(status=TIME_IS_UP, time_ms=None)
    result.write_text(json.dumps(document))
    plot.draw_figures(result, tmp_path)
    assert [name for name in names if (tmp_path / name).exists()] == [name for name in names if "sweeps" not in name]
    figures = front.front_parts(tmp_path)["figures"]
    assert "cpu-speed.png" in figures
    assert "cpu-sweeps.png" not in figures


def test_names_are_apart_and_in_order() -> None:
    assert curves.apart([5.0, 100.0], 10) == [5, 100]
    assert curves.apart([50.0, 50.0, 53.0], 10) == [41, 51, 61]
    assert curves.apart([3.0, 1.0, 2.0, 50.0], 10) == [12, -8, 2, 50]
    assert curves.apart([], 10) == []


def test_limits_hold_the_values() -> None:
    assert curves.whole_powers([0.2, 900.0]) == pytest.approx((0.1, 1000))
    low, high = curves.whole_powers([1e-7])
    assert low < 1e-7 < high
    assert math.log10(high / low) <= 2


def test_a_median_that_is_not_ours_is_found() -> None:
    rows = [speed_row(TINY, peer, 1, "forward") for peer in TIMES]
    assert findings.not_first({"overhead": rows}) == []
    rows[2]["time_ms"] = rows[2]["time_ms"] | {"median": 0.001}
    (loss,) = findings.not_first({"overhead": rows})
    assert loss == ("time, forward from logits, 2, 1, 4, 1, 1 thread", "0.02 ms", "0.001 ms", "optax")
    assert findings.not_first({"overhead": [row for row in rows if row["peer"] != "numbactc"]}) == []


@pytest.mark.parametrize("gpu", [True, False])
def test_one_command_measures_and_writes_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpu: bool) -> None:
    calls: list[list[str]] = []
    commands: list[str] = []
    monkeypatch.setattr(everything, "has_gpu", lambda: gpu)

    def run_main(given: list[str], command: str) -> None:
        calls.append(given)
        commands.append(command)

    monkeypatch.setattr("benchmarks.run.main", run_main)
    monkeypatch.setattr("subprocess.run", lambda given, **_: calls.append(given))
    monkeypatch.setattr("benchmarks.page.main", calls.append)
    everything.main(["--budget", "10", "--results", str(tmp_path)])
    assert len(calls) == (3 if gpu else 2)
    assert calls[0][calls[0].index("--limit") + 1] == ("3.5" if gpu else "10")
    assert commands == [f"python -m benchmarks --budget 10 --results {tmp_path}"]
    if gpu:
        assert "benchmarks.gpu" in calls[1]
        assert str(tmp_path / "gpu.json") in calls[1]
    assert calls[-1][calls[-1].index("--results") + 1] == str(tmp_path)

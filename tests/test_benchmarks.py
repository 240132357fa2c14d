"""The benchmarks themselves: peers compute the same thing, no row goes missing, and figures are drawn from rows."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import accuracy, memory, plot, report, run, timing
from benchmarks.environment import ROOT, describe, title
from benchmarks.peers import PEERS, Calls, Peer, load_torch
from benchmarks.rows import OK, AccuracyRow, MemoryRow, SpeedRow, Spread, as_row
from benchmarks.shapes import MEMORY_SHAPES, SHAPES, Case, Problem, Shape, accuracy_cases, draw, tiny
from benchmarks.speed import measure_shape

SMALL = Shape("small", T=12, N=3, C=6, L=4, floor=2.0, aim=3.0)
ABSENT = Peer("absent", "Absent", ("no_such_module_anywhere",), load_torch)


def broken_load(_: Problem) -> Calls:
    """A peer that is installed and cannot run."""
    raise MemoryError("out of memory")


@pytest.fixture(scope="module")
def document() -> report.Document:
    """A whole result at a tiny size: every peer, one of them not installed, one failing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PEERS, "absent", ABSENT)
        patch.setitem(PEERS, "broken", Peer("broken", "Broken", ("numpy",), broken_load))
        names = list(PEERS)
        speed = measure_shape(SMALL, names, threads=1, rounds=5, budget_s=1.0)
        speed += [dataclasses.replace(row, threads=2, floor=None, aim=None) for row in speed]
        errors = accuracy.measure_case(Case("small", SMALL), names)
        extra = as_row(MemoryRow(SMALL.name, SMALL.T, SMALL.N, SMALL.C, SMALL.L, "numbactc", "0", 1, OK))
        extra |= {"logits_bytes": 2**20, "extra_bytes": 2**18, "extra_over_logits": 0.25, "bound": 0.25}
        return {
            "environment": describe("python -m benchmarks.run"),
            "speed": [as_row(row) for row in speed],
            "accuracy": [as_row(row) for row in errors],
            "memory": [extra, memory.measure(MEMORY_SHAPES[0], "absent", 1)],
            "startup": [],
        }


@pytest.mark.parametrize("name", [name for name in PEERS if name != "torch"])
def test_peers_compute_the_same(name: str) -> None:
    if PEERS[name].missing:
        pytest.skip(f"{name} is not installed")
    problem = draw(SMALL)
    expected_losses, expected_gradient = load_torch(problem, dtype="float64").evaluate()
    calls = PEERS[name].load(problem)
    losses, gradient = calls.evaluate()
    # float32 log-space rounds numbers near 20 nats (1e-6 each) a few times a frame: this tells right from wrong.
    np.testing.assert_allclose(losses, expected_losses, rtol=2e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-5)
    mean = float(np.mean(expected_losses / SMALL.L))
    assert float(np.asarray(calls.forward())) == pytest.approx(mean, rel=2e-6)


def test_forward_backward_starts_anew() -> None:
    calls = load_torch(draw(SMALL))
    first, second = calls.forward_backward(), calls.forward_backward()
    assert isinstance(first, torch.Tensor)
    assert isinstance(second, torch.Tensor)
    assert first is not second
    assert torch.equal(first, second)  # a gradient that piles up would be twice as large
    assert first.abs().max() > 0


def test_rows_have_all_fields(document: report.Document) -> None:
    for part, kind in (("speed", SpeedRow), ("accuracy", AccuracyRow), ("memory", MemoryRow)):
        for row in json.loads(json.dumps(document[part])):
            assert set(row) == {field.name for field in dataclasses.fields(kind)}
    assert len(document["speed"]) == 2 * 3 * (len(PEERS) + 2)  # threads, passes, peers
    for row in document["speed"]:
        assert (row["time_ms"] is not None) == (row["ratio"] is not None) == (row["status"] == OK)
        assert len(row["samples_ms"]) == row["repeats"]


def test_missing_and_failing_peers_keep_their_rows(document: report.Document) -> None:
    for part in ("speed", "accuracy", "memory"):
        found = [row for row in document[part] if row["peer"] == "absent"]
        assert found
        assert {row["status"] for row in found} == {"not installed: no_such_module_anywhere"}
    for part in ("speed", "accuracy"):
        found = [row for row in document[part] if row["peer"] == "broken"]
        assert {row["status"] for row in found} == {"failed: MemoryError: out of memory"}
    text = report.report(document)
    assert "not installed" in text
    assert "failed" in text


def test_figures_and_tables_are_written(document: report.Document, tmp_path: Path) -> None:
    result = tmp_path / "small.json"
    result.write_text(json.dumps(document))
    figures = plot.draw_figures(result, tmp_path / "figures")
    assert [path.name for path in figures] == ["small-speed.png", "small-accuracy.png"]
    for path in figures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 120_000
    text = report.write(result)
    assert text == (tmp_path / "small.md").read_text()
    assert "1 thread\n" in text
    assert "2 threads\n" in text
    scaling = text.split("over time on 2")[1].split("##")[0]
    assert "1.00" in scaling


def test_turns_and_ratios() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    samples = timing.take_turns(calls, rounds=6, budget_s=math.inf)
    assert order == list("ab" * 6)
    assert [len(times) for times in samples.values()] == [6, 6]
    assert timing.paired_ratio([2.0, 4.0, 8.0], [1.0, 1.0, 2.0]) == Spread(median=4.0, q1=3.0, q3=4.0)
    # No budget at all still leaves enough rounds for quartiles.
    assert len(timing.take_turns({"a": lambda: None}, rounds=50, budget_s=0.0)["a"]) == timing.MIN_ROUNDS


def test_threads_are_limited_before_a_framework_is_imported() -> None:
    code = "import sys, benchmarks.speed; sys.exit(bool({'torch', 'jax', 'numba'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_block_of_calls_warms_up_and_gives_the_time_of_one() -> None:
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        time.sleep(0.02 if len(calls) > 1 else 0.2)

    assert 20 <= timing.block_ms(call) < 100
    assert len(calls) > 3


def test_problems_are_reproducible_and_as_described() -> None:
    first, second = draw(SMALL, sigma=10.0), draw(SMALL, sigma=10.0)
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.logits.dtype == np.float32
    assert 8 < draw(SHAPES["characters"], sigma=10.0).logits.std() < 12
    unlikely = accuracy_cases([])[-1]
    problem = draw(unlikely.shape, unlikely.sigma, unlikely.wrong)
    assert problem.targets.min() >= 1
    assert problem.targets.max() < unlikely.shape.C - 1
    losses, _ = load_torch(problem, dtype="float64").evaluate()
    assert losses.min() > 3000 * np.log(10)  # below 1e-3000, every one of them
    assert tiny(SHAPES["pieces-5000"]).C == 5000


MARK = """
import numpy as np
from benchmarks import memory
np.ones(256 * 2**20, dtype=np.uint8).sum()  # an older, higher peak that the mark must forget
baseline, method = memory.start_mark()
block = np.ones(64 * 2**20, dtype=np.uint8)
print(memory.read_mark(method) - baseline, method)
"""


def test_memory_mark_sees_a_block_and_forgets_an_older_peak() -> None:
    # a fresh process, as for each row: garbage of other tests, freed while we look, would hide the block
    done = subprocess.run([sys.executable, "-c", MARK], cwd=ROOT, capture_output=True, check=True, text=True)
    grown, method = done.stdout.split(maxsplit=1)
    if method.startswith("VmHWM"):
        assert 0.9 * 64 * 2**20 < int(grown) < 1.5 * 64 * 2**20
    assert int(grown) >= 0


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = run.parse(["--shapes", "text-line,characters", "--parts", "speed"])
    assert (options.shapes, options.parts) == (["text-line", "characters"], ["speed"])
    assert run.thread_counts("1,1") == [1]
    with pytest.raises(SystemExit):
        run.parse(["--shapes", "no-such-shape"])
    assert "'no-such-shape' is not one of text-line" in capsys.readouterr().err


def test_environment_says_enough_and_not_too_much() -> None:
    environment = describe("python -m benchmarks.run")
    assert environment["versions"]["torch"] in title(environment)
    assert str(Path.cwd()) not in json.dumps(environment)

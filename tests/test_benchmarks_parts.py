"""The parts of the CPU's benchmark: sweeps, bits, the host, and processes that die or run out of time."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from benchmarks import accuracy, children, determinism, host, run, speed
from benchmarks.children import collect, until
from benchmarks.determinism import compare_threads, measure_peer
from benchmarks.peers import PEERS, Calls, Evaluation, Peer, load_torch
from benchmarks.report import ELSEWHERE
from benchmarks.rows import OK, TIME_IS_UP, Row
from benchmarks.shapes import (
    DETERMINISM_SHAPES,
    GROWTH,
    SHAPES,
    SWEEP_BASE,
    SWEEPS,
    TINY,
    VERY_LONG,
    Problem,
    Shape,
    accuracy_cases,
    draw,
    draw_ragged,
    growth_case,
    sweep_shapes,
)

SMALL = Shape("small", T=14, N=4, C=6, L=4)

Bits = Callable[[Problem], Evaluation]


def test_a_sweep_changes_one_size_and_passes_the_base() -> None:
    shapes = list(sweep_shapes().values())
    assert len({dataclasses.astuple(shape)[1:5] for shape in shapes}) == len(shapes)
    for variable, values in SWEEPS.items():
        assert SWEEP_BASE[variable] in values
        assert list(values) == sorted(values)
        others = {name: size for name, size in SWEEP_BASE.items() if name != variable}
        along = [shape for shape in shapes if all(getattr(shape, name) == size for name, size in others.items())]
        assert sorted(getattr(shape, variable) for shape in along) == list(values)
    assert len(shapes) == sum(map(len, SWEEPS.values())) - (len(SWEEPS) - 1)


def test_sweeps_have_an_alignment_and_fit_into_memory() -> None:
    for shape in (*sweep_shapes().values(), TINY, *DETERMINISM_SHAPES):
        assert shape.L * (1 + 2 / shape.C) < shape.T or shape.L == 1
        assert shape.logits_bytes <= 2**28
        assert speed.KNOWN.get(shape.name, shape) == shape


def test_errors_are_asked_at_ever_longer_targets() -> None:
    cases = accuracy_cases([])
    assert [case.shape.T for case in cases] == [*GROWTH, VERY_LONG.T, 1_000]
    for case in map(growth_case, GROWTH):
        assert (case.shape.N, case.shape.C, case.shape.L) == (VERY_LONG.N, VERY_LONG.C, case.shape.T // 20)
    assert dataclasses.replace(growth_case(VERY_LONG.T).shape, name=VERY_LONG.name) == VERY_LONG


def test_utterances_whose_bits_are_compared_have_different_lengths() -> None:
    for shape in DETERMINISM_SHAPES:
        problem = draw_ragged(shape)
        for lengths, size in ((problem.input_lengths, shape.T), (problem.target_lengths, shape.L)):
            assert len(set(lengths.tolist())) > 2
            assert size // 2 <= lengths.min() <= lengths.max() <= size
        np.testing.assert_array_equal(problem.logits, draw(shape).logits)


def peer_of(bits: Bits) -> Peer:
    """A peer that has these losses and gradients."""

    def load(problem: Problem) -> Calls:
        return Calls(lambda: None, lambda: None, lambda: bits(problem))

    return Peer("fake", "Fake", ("numpy",), load)


def steady(problem: Problem) -> Evaluation:
    return problem.logits[0, :, 0].copy(), problem.logits * np.float32(0.5)


def looks_at_company(problem: Problem) -> Evaluation:
    losses, gradient = steady(problem)
    return losses + np.float32(problem.logits.shape[1]), gradient


def looks_at_its_place(problem: Problem) -> Evaluation:
    losses, gradient = steady(problem)
    return losses, gradient + np.arange(problem.logits.shape[1], dtype=np.float32)[None, :, None]


def looks_at_padding(problem: Problem) -> Evaluation:
    losses, gradient = steady(problem)
    return losses, gradient * np.float32(problem.logits.shape[0])


def writes_behind_the_end(problem: Problem) -> Evaluation:
    losses, gradient = steady(problem)
    for n, length in enumerate(problem.input_lengths):
        gradient[length:, n] = np.random.default_rng().standard_normal()
    return losses, gradient


def draws_bits(problem: Problem) -> Evaluation:
    losses, gradient = steady(problem)
    gradient[3, -1, 2] += np.random.default_rng().standard_normal()
    return losses, gradient


@pytest.mark.parametrize(
    ("bits", "found"),
    [
        (steady, (1, 0, 0, 0)),
        (writes_behind_the_end, (1, 0, 0, 0)),
        (looks_at_company, (1, 4, 0, 0)),
        (looks_at_its_place, (1, 3, 4, 0)),
        (looks_at_padding, (1, 0, 0, 4)),
    ],
)  # fmt: skip
def test_bits_that_depend_on_something_are_counted(
    monkeypatch: pytest.MonkeyPatch, bits: Bits, found: tuple[int, ...]
) -> None:
    monkeypatch.setitem(PEERS, "fake", peer_of(bits))
    row = measure_peer(SMALL, "fake", threads=1, runs=5)
    assert row.status == OK
    assert (row.results, row.alone, row.order, row.padding) == found
    assert (row.runs, row.threads_differ, len(row.bits)) == (5, None, SMALL.N)


def test_different_results_of_one_call_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "fake", peer_of(draws_bits))
    row = measure_peer(SMALL, "fake", threads=1, runs=7)
    assert (row.runs, row.results) == (7, 7)
    times = iter([1.0, 0.0, 0.0, 0.0])
    assert measure_peer(SMALL, "fake", 1, 7, lambda: next(times)).runs == 2


def test_numbactc_has_one_result() -> None:
    row = measure_peer(SMALL, "numbactc", threads=1, runs=5)
    assert (row.results, row.alone, row.order, row.padding) == (1, 0, 0, 0)


def test_bits_of_different_threads_are_compared() -> None:
    one = {"shape": "a", "peer": "p", "threads": 1, "bits": ["1", "2", "3"], "threads_differ": None}
    two = one | {"threads": 2, "bits": ["1", "0", "0"]}
    lost = one | {"threads": 2, "peer": "q", "bits": []}
    assert [row["threads_differ"] for row in compare_threads([two, one, lost])] == [2, None, None]


def test_a_peer_without_bits_keeps_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(problem: Problem) -> Evaluation:
        raise MemoryError("out of memory")

    monkeypatch.setitem(PEERS, "fake", peer_of(broken))
    monkeypatch.setitem(PEERS, "absent", Peer("absent", "Absent", ("no_such_module",), load_torch))
    assert measure_peer(SMALL, "fake", 1, 5).status == "failed: MemoryError: out of memory"
    assert measure_peer(SMALL, "absent", 1, 5).status == "not installed: no_such_module"
    assert measure_peer(SMALL, "fake", 1, 5, lambda: 0.0).status == TIME_IS_UP


DIES = """
import os, time, sys
print('[{"a": 1}]', flush=True)
sys.stdout.write('[{"a"')
sys.stdout.flush()
time.sleep(60 * (sys.argv[1] == "--hang"))
os._exit(3)
"""


def test_rows_of_a_process_that_dies_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(children, "PATIENCE_S", 3.0)
    assert collect("dies", "--now") == ([{"a": 1}], "exit status 3")
    assert collect("dies", "--hang", limit_s=-1.0) == ([{"a": 1}], "it did not come to an end")


def test_what_a_dead_process_owes_are_rows_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataclasses.asdict(speed.lost_row(SHAPES["text-line"], "torch", 1, "forward", OK))

    def dies(module: str, *arguments: str, limit_s: float) -> tuple[list[Row], str | None]:
        if module == "benchmarks.speed":
            return [first | {"threads": int(arguments[1])}], "exit status -11"
        return [], "exit status -11"

    for module in (run, determinism, accuracy):
        monkeypatch.setattr(module, "collect", dies)
    monkeypatch.setattr(run, "cores", lambda: 2)
    why = "failed: RuntimeError: exit status -11"
    options = run.parse(["--shapes", "text-line,characters", "--peers", "torch,numbactc", "--no-extremes"])
    rows = run.measure_speed(options, 60.0)
    assert [row["status"] for row in rows].count(OK) == 2
    lost = [row for row in rows if row["status"] == why]
    assert {(row["shape"], row["peer"], row["threads"]) for row in lost} == {
        ("characters", peer, threads) for peer in ("torch", "numbactc") for threads in (1, 2)
    }
    assert len(lost) == 4 * len(speed.PASSES)
    assert {row["status"] for row in run.measure_sweeps(options, 60.0) if row["shape"] in sweep_shapes()} == {why}
    errors = run.measure_accuracy(options, 60.0)
    assert [row["status"] for row in errors] == [why] * (2 * 2 * 2)
    bits = run.measure_determinism(options, 60.0)
    assert [row["status"] for row in bits] == [why] * (2 * 2 * len(DETERMINISM_SHAPES))


def test_what_there_is_no_time_for_is_a_row() -> None:
    rows = speed.measure_shape(SMALL, ["torch", "numbactc"], 1, 5, 1.0, ["forward"], lambda: -1.0)
    assert [(row.peer, row.status) for row in rows] == [("torch", TIME_IS_UP), ("numbactc", TIME_IS_UP)]
    assert [row.status for row in accuracy.measure_case(growth_case(100), ["torch"], lambda: 0.0)] == [TIME_IS_UP]
    options = run.parse(["--shapes", "long-audio", "--peers", "torch"])
    assert [row["status"] for row in run.measure_memory(options, 0.0)] == [TIME_IS_UP]
    assert until(math.inf)() == math.inf
    assert until(-1.0)() < 0


def fake_part(name: str, asked: dict[str, float]) -> Callable[[object, float], list[Row]]:
    def measure(options: object, limit_s: float) -> list[Row]:
        asked[name] = limit_s
        if name == "stops":
            raise KeyboardInterrupt
        return []

    return measure


@pytest.mark.parametrize("kept", [{}, {"environments": {"memory": {"date": "then", "commit": "c", "command": "p"}}}])
def test_a_run_that_is_stopped_has_written_what_it_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: dict[str, object]
) -> None:
    asked: dict[str, float] = {}
    shares = {"startup": 1, "speed": 2, "stops": 3, "memory": 4}
    chosen = ",".join(name for name in shares if name != "memory")
    measures = {name: (share, fake_part(name, asked)) for name, share in shares.items()}
    monkeypatch.setattr(run, "MEASURES", measures)
    monkeypatch.setattr(run, "PARTS", tuple(shares))
    out = tmp_path / "cpu.json"
    environment = {"date": "then", "commit": "c" * 40, "command": "python"}
    out.write_text(json.dumps({"environment": environment, "speed": [1], "startup": [1], "memory": [], **kept}))
    with pytest.raises(KeyboardInterrupt):
        run.main(["--parts", chosen, "--limit", "1", "--out", str(out)], command="python -m benchmarks")
    document = json.loads(out.read_text())
    assert set(document) == {"environment", "environments", "memory", "startup", "speed"}
    assert document["environments"]["memory"]["date"] == "then"
    assert document["environments"]["speed"]["command"] == "python -m benchmarks"
    # shares of a minute: what startup has left goes on to the others
    assert asked["startup"] == pytest.approx(10, abs=1)
    assert asked["speed"] == pytest.approx(24, abs=1)
    assert asked["stops"] == pytest.approx(60, abs=1)


def test_a_sample_belongs_to_the_innermost_function_of_the_package() -> None:
    here = Path(__file__)
    name = "test_a_sample_belongs_to_the_innermost_function_of_the_package"
    frame = (lambda: sys._getframe())()
    assert host.place_of(frame, str(here.parent)) == f"{here.stem}.<lambda>"
    assert host.place_of(frame.f_back, str(here.parent)) == f"{here.stem}.{name}"
    assert host.place_of(frame, str(Path(np.__file__).parent)) == ELSEWHERE


def test_the_host_is_watched() -> None:
    row = host.measure_here(samples=20, limit_s=30.0)
    assert row.status == OK
    assert row.samples >= 20
    assert sum(share for _, share in row.shares) == pytest.approx(1, abs=0.01)
    assert len(row.shares) > 1
    assert host.watch(lambda: None, "", samples=10, limit_s=0.0).total() == 0


def test_a_watch_that_takes_longer_than_its_timer_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next sample would interrupt this one, and so on until the stack is full."""
    depths: list[int] = []

    def slow(frame: FrameType | None, package: str) -> str:
        depth = 0
        while frame is not None:
            depth, frame = depth + (frame.f_code.co_name == "slow"), frame.f_back
        depths.append(depth)
        end = time.monotonic() + 5 * host.EVERY_S
        while time.monotonic() < end:
            pass
        return "slow"

    monkeypatch.setattr(host, "place_of", slow)
    assert host.watch(lambda: None, "", samples=5, limit_s=30.0).total() >= 5
    assert set(depths) == {0}

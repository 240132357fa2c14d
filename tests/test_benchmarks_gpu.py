"""The GPU's benchmark as far as a CPU can run it: peers agree, rows are whole, tables are drawn from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import gpu, gpu_report
from benchmarks.environment import describe
from benchmarks.gpu_bits import BITS_SHAPES, bits_table, measure_bits
from benchmarks.gpu_peers import GPU_PEERS, OURS, GpuCalls, GpuPeer, ran_cudnn, ran_native, ran_ours
from benchmarks.gpu_tasks import TASKS
from benchmarks.peers import load_torch
from benchmarks.rows import OK, TIME_IS_UP, GpuRow, Spread, as_row
from benchmarks.shapes import GPU_SHAPES, Problem, Shape, draw
from benchmarks.timing import MIN_ROUNDS
from numbactc.kernels.cuda.launch import symbol
from numbactc.kernels.cuda.plan import Call, plan

SMALL = Shape("small", T=12, N=3, C=6, L=4)


def broken_load(problem: Problem, dtype: str, device: str) -> GpuCalls:
    raise MemoryError("out of memory")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """A whole result, measured on the CPU at a tiny size, where cuDNN cannot prove that it ran."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GPU_PEERS, "absent", GpuPeer("absent", "Absent", ("no_such_module",), broken_load))
        patch.setitem(GPU_PEERS, "broken", GpuPeer("broken", "Broken", ("numpy",), broken_load))
        everyone = [*GPU_PEERS, "torchaudio", "torch"]
        rows = gpu.measure_shape(SMALL, "float32", everyone, "cpu", rounds=5, budget_s=0.5)
        rows += gpu.measure_shape(SMALL, "bfloat16", [OURS, "torch-native"], "cpu", rounds=5, budget_s=0.5)
    machine = dict.fromkeys(("capability", "memory_gib", "cuda", "cudnn", "numba_cuda"), "0") | {"name": "none"}
    return {
        "environment": describe("python -m benchmarks.gpu") | {"gpu": machine},
        "copy_bytes_per_s": 1e12,
        "speed": [as_row(row) for row in gpu.compare(rows, 1e12)],
        "elapsed_s": 1.0,
    }


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_peers_of_a_task_find_the_same(task: str, dtype: str) -> None:
    """Spans of every label, tokens of every utterance."""
    results = []
    for peer in TASKS[task].values():
        if not peer.missing:
            results.append(peer.load(draw(SMALL), dtype, "cpu").calls[task]())
    assert len(results) == 2
    assert len(results[0]) == SMALL.N
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", list(GPU_PEERS))
def test_peers_compute_the_same(name: str, dtype: str) -> None:
    if GPU_PEERS[name].missing:
        pytest.skip(f"{name} is not installed")
    problem = draw(SMALL)
    rounded = torch.from_numpy(problem.logits).to(getattr(torch, dtype)).float().numpy()
    losses, gradient = load_torch(dataclasses.replace(problem, logits=rounded), dtype="float64").evaluate()
    mean, slope = float(np.mean(losses / SMALL.L)), gradient / SMALL.L / SMALL.N
    calls = GPU_PEERS[name].load(problem, dtype, "cpu")
    assert float(np.asarray(calls.calls["forward"]())) == pytest.approx(mean, rel=2e-6)
    loss, its_slope = calls.calls["forward_backward"]()
    calls.wait()
    if name == "optax":
        its_slope = np.asarray(its_slope, dtype=np.float32).transpose(1, 0, 2)
    else:
        loss, its_slope = loss.detach(), its_slope.float().numpy()
    np.testing.assert_allclose(its_slope, slope, rtol=0, atol=1e-5 if dtype == "float32" else 2e-3)
    assert float(np.asarray(loss)) == pytest.approx(mean, rel=2e-6)


def test_rows_are_whole(document: dict[str, Any]) -> None:
    rows = json.loads(json.dumps(document["speed"]))
    # float32: all peers, twice, and both peers of each task; bfloat16: numbactc and PyTorch twice, and who they are
    assert len(rows) == 2 * (len(GPU_PEERS) + 2) + 2 * 2 + 2 * 2 + 2 * 1
    for row in rows:
        assert set(row) == {field.name for field in dataclasses.fields(GpuRow)}
        assert (row["time_us"] is not None) == (row["host_us"] is not None) == (row["status"] == OK)
        assert len(row["samples_us"]) == row["repeats"]
    told = {row["peer"]: row["status"] for row in rows if row["dtype"] == "float32" and "forward" in row["what"]}
    assert told["absent"] == "not installed: no_such_module"
    assert told["broken"] == "failed: MemoryError: out of memory"
    assert told["torch-cudnn"].startswith("failed: RuntimeError: PyTorch, cuDNN did not run")
    assert told[OURS] == told["torch-native"] == OK


def test_ours_is_compared_with_the_fastest_peer() -> None:
    def row(peer: str, what: str, median: float, dtype: str = "float32") -> GpuRow:
        time = Spread(median, median, median)
        return GpuRow("pieces-5000", 400, 64, 5000, 40, dtype, peer, "0", what, OK, 5, time_us=time)

    rows = [row(OURS, "forward_backward", 10), row("a", "forward_backward", 50), row("b", "forward_backward", 30)]
    rows += [row("c", "forward_backward", 1, "bfloat16"), row("c", "forward", 1), row(OURS, "forward", 4)]
    compared = gpu.compare(rows, 4.8e12)
    assert (compared[0].ratio, compared[0].floor) == (3.0, GPU_SHAPES["pieces-5000"].floor)
    assert compared[0].bandwidth_us == pytest.approx(1e6 * 400 * 64 * 5000 * 12 / 4.8e12)
    assert compared[-1].ratio == 0.25
    assert compared[-1].floor is None
    assert all(other.ratio is None for other in compared[1:-1])


def test_tables(document: dict[str, Any], tmp_path: Path) -> None:
    ours = next(row for row in document["speed"] if row["peer"] == OURS and row["what"] == "forward_backward")
    ours |= {"kernels_us": [["numbactc_lattice_outer_float32", 1, 1.2], ["copy", 2, 1.0]], "peak_bytes": 3 * 2**20}
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(document))
    text = gpu_report.write(file)
    assert (tmp_path / "gpu.md").read_text() == text
    for told in ("12, 3, 6, 4", "bfloat16", "not installed", "failed", "1000 GB/s"):
        assert told in text
    lines = [line.split("|") for line in gpu_report.bounds_table(document["speed"]).splitlines()]
    assert [cell.strip() for cell in lines[2]][3] == "2.2"
    assert [cell.strip() for cell in lines[2]][5] == "100"  # 1.2 microseconds over 12 frames
    assert "3 " in gpu_report.memory_table(document["speed"], "forward_backward").splitlines()[2]
    for task in TASKS:
        table = gpu_report.speed_table(document["speed"], task, "time_us")
        assert all(peer.label in table for peer in TASKS[task].values())


def test_who_ran() -> None:
    native = ["void at::native::(anonymous namespace)::ctc_loss_log_alpha_gpu_kernel<float, long>(float*, long)"]
    cudnn = ["void cudnn::compute_alphas_and_betas<float>(cudnnCTCLossStruct, float const*, int const*)"]
    ours = [symbol(each.kernel) for each in plan(Call(9, 2, 5, 4, False, "float32", True, True)).forward]
    softmax = ["void softmax_warp_forward<float>"]
    for kernels, who in ((native, ran_native), (cudnn, ran_cudnn), (ours, ran_ours)):
        for ran in (ran_native, ran_cudnn, ran_ours):
            assert ran(kernels + softmax) == (ran is who)
            assert not ran(softmax)


def test_when_the_time_is_up_peers_are_left_out() -> None:
    """With a row that says so; what is measured are our own passes."""
    peers = ["torch-native", OURS, "torch"]
    rows = gpu.measure_shape(SMALL, "float32", peers, "cpu", rounds=9, budget_s=9.0, time_left=lambda: -1.0)
    assert {row.peer for row in rows} == set(peers)
    for row in rows:
        assert (row.status, row.repeats) == ((OK, MIN_ROUNDS) if row.peer == OURS else (TIME_IS_UP, 0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(SystemExit, match="there is none"):
        gpu.main([])


def test_different_results_of_a_step_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a peer whose gradient varies in one number, and of nobody else."""

    def varying(problem: Problem, dtype: str, device: str) -> GpuCalls:
        step = GPU_PEERS["torch-native"].load(problem, dtype, device).calls["forward_backward"]
        made: list[int] = []

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            loss, slope = step()
            made.append(1)
            slope[1, 2, 3] += len(made)
            return loss, slope

        return GpuCalls({"forward_backward": call}, lambda: None, lambda _: None)

    monkeypatch.setitem(GPU_PEERS, "varying", GpuPeer("varying", "Varying", ("numpy",), varying))
    monkeypatch.setitem(GPU_PEERS, "absent", GpuPeer("absent", "Absent", ("no_such_module",), broken_load))
    monkeypatch.setitem(GPU_PEERS, "broken", GpuPeer("broken", "Broken", ("numpy",), broken_load))
    rows = measure_bits([SMALL], "float32", list(GPU_PEERS), "cpu", runs=6)
    found = {row.peer: (row.runs, row.results) for row in rows if row.status == OK}
    assert found.pop("varying") == (6, 6)
    assert found[OURS] == found["torch-native"] == (6, 1)
    assert set(found.values()) == {(6, 1)}
    table = bits_table([dataclasses.asdict(row) for row in rows])
    for told in ("6 in 6", "1 in 6", "not installed", "failed"):
        assert told in table
    times = iter([1.0, 0.0])
    assert measure_bits([SMALL], "bfloat16", [OURS], "cpu", 6, lambda: next(times))[0].runs == 2
    assert measure_bits([SMALL], "float32", [OURS], "cpu", 6, lambda: 0.0)[0].status == TIME_IS_UP
    assert {shape.name for shape in BITS_SHAPES} <= set(GPU_SHAPES)

"""Threads change speed and nothing else; memory is handed on, never shared."""

import random
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import numbactc
from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits
from numbactc import _memory, _threads
from processes import run_python


@pytest.fixture(autouse=True)
def torch_threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The sets of utterances given to other threads, however small the work."""
    shares: list[np.ndarray] = []
    submit = _threads._submit

    def counted(run: Any, some: np.ndarray) -> Any:
        shares.append(some)
        return submit(run, some)

    monkeypatch.setattr(_threads, "SMALLEST_SHARE", 1)
    monkeypatch.setattr(_threads, "_submit", counted)
    return shares


def test_any_number_of_threads_gives_the_same_bits(entry: Loss, handed_over: list[np.ndarray]) -> None:
    batch = random_batch(30, 7, 12, 6)
    results = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        handed_over.clear()
        results.append(loss_and_gradient(entry, batch))
        # once forward, once backward, and one share stays with the caller
        assert len(handed_over) == 2 * (min(threads, 7) - 1)
    for losses, gradient in results[1:]:
        assert same_bits(losses, results[0][0])
        assert same_bits(gradient, results[0][1])


def test_small_work_stays_with_the_caller(handed_over: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "SMALLEST_SHARE", 10**12)
    torch.set_num_threads(8)
    loss_and_gradient(numbactc.ctc_loss, random_batch(30, 7, 12, 6))
    assert not handed_over


def test_torch_keeps_its_number_of_threads(handed_over: list[np.ndarray]) -> None:
    torch.set_num_threads(3)
    loss_and_gradient(numbactc.ctc_loss, random_batch(30, 7, 12, 6))
    assert torch.get_num_threads() == 3


def test_many_python_threads_at_once(entry: Loss, handed_over: list[np.ndarray]) -> None:
    """Batches large enough that their buffers are recycled, from more threads than there are cores."""
    torch.set_num_threads(2)
    batches = [random_batch(40 + n, 6, 90 + n, 9) for n in range(6)]
    alone = [loss_and_gradient(entry, batch) for batch in batches]
    start = threading.Barrier(len(batches))

    def work(batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
        start.wait()
        return [loss_and_gradient(entry, batch) for _ in range(8)]

    with ThreadPoolExecutor(len(batches)) as pool:
        together = list(pool.map(work, batches))
    for expected, results in zip(alone, together, strict=True):
        for losses, gradient in results:
            assert same_bits(losses, expected[0])
            assert same_bits(gradient, expected[1])


FORK = """
import os, signal, time, torch
import numbactc
from numbactc import _threads

_threads.SMALLEST_SHARE = 1
torch.set_num_threads(2)
torch.manual_seed(0)
logits = torch.randn(20, 4, 8)

def step():
    x = logits.clone().requires_grad_()
    losses = numbactc.ctc_loss_with_logits(x, torch.tensor([[1, 2, 2]] * 4), [20] * 4, [3] * 4, reduction="none")
    losses.backward(torch.ones(4))
    return losses.detach(), x.grad

before = step()
assert _threads._pool is not None, "nothing was handed over, so the fork proves nothing"
child = os.fork()
if child == 0:
    after = step()
    os._exit(0 if all(map(torch.equal, before, after)) else 3)
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        break
    time.sleep(0.01)
else:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise SystemExit("the child hung")
assert all(map(torch.equal, before, step())), "the parent"
print(os.waitstatus_to_exitcode(status))
"""


def test_works_in_a_forked_child() -> None:
    assert run_python(FORK) == "0\n"


def test_an_error_in_another_thread_reaches_the_caller() -> None:
    torch.set_num_threads(3)
    calling = threading.get_ident()

    def run(some: np.ndarray) -> None:
        if threading.get_ident() != calling:
            raise ArithmeticError("from a worker")

    with pytest.raises(ArithmeticError, match="from a worker"):
        _threads.share(run, 6, lambda: np.full(6, 10**9))


@pytest.mark.parametrize("failing", ["caller", "worker"])
def test_no_thread_still_runs_when_an_error_arrives(failing: str) -> None:
    """The caller may free what the others write to."""
    torch.set_num_threads(3)
    calling, failed, finished = threading.get_ident(), threading.Event(), []

    def run(some: np.ndarray) -> None:
        if (threading.get_ident() == calling) == (failing == "caller") and not failed.is_set():
            failed.set()
            raise ArithmeticError
        failed.wait(10)
        threading.Event().wait(0.1)
        finished.append(some)

    with pytest.raises(ArithmeticError):
        _threads.share(run, 6, lambda: np.full(6, 10**9))
    assert len(finished) == 2


def test_every_utterance_is_in_one_share() -> None:
    for _ in range(200):
        costs = np.array([random.randint(0, 100) for _ in range(random.randint(1, 30))])
        parts = random.randint(1, costs.size)
        shares = _threads.split(costs, parts)
        assert len(shares) == parts
        assert sorted(np.concatenate(shares).tolist()) == list(range(costs.size))
        assert all(share.dtype == np.int64 for share in shares)
        # the dearest first, each where least is: no share is above the average by more than one utterance
        assert max(costs[share].sum() for share in shares) <= costs.sum() / parts + costs.max()


SIZE = 1 << 15
"""Elements of float64: 256 KiB, well above what is left to malloc."""


@pytest.fixture
def purpose() -> Iterator[str]:
    """A purpose of buffers that nobody else has."""
    yield "of a test"
    _memory._buffers.pop("of a test", None)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_used_again_once_it_is_free(purpose: str) -> None:
    first = _memory.empty(purpose, (SIZE,), np.float64)
    at = address(first)
    del first
    assert address(_memory.empty(purpose, (SIZE // 4, 4), np.float64)) == at
    assert address(_memory.empty(purpose, (3 * SIZE // 2,), np.float32)) == at


def test_memory_in_use_is_not_used_again(purpose: str) -> None:
    first = _memory.empty(purpose, (2, SIZE), np.float64)
    row = torch.from_numpy(first)[1].view(4, -1)
    row.fill_(7.0)
    del first
    second = _memory.empty(purpose, (2, SIZE), np.float64)
    second.fill(0.0)
    assert bool((row == 7.0).all()), "a view that lived on was overwritten"


def test_no_two_arrays_share_memory(purpose: str) -> None:
    live: list[tuple[np.ndarray, float]] = []
    for step in range(300):
        if live and random.random() < 0.5:
            del live[random.randrange(len(live))]
        array = _memory.empty(purpose, (random.randint(SIZE // 4, SIZE),), np.float64)
        assert not any(np.shares_memory(array, other) for other, _ in live)
        array.fill(step)
        live.append((array, step))
        assert all(float(other.min()) == float(other.max()) == value for other, value in live)
        del array
        if len(live) > 6:
            live.clear()


def test_a_buffer_that_does_not_fit_is_let_go(purpose: str) -> None:
    _memory.empty(purpose, (SIZE,), np.float64)
    held = weakref.ref(_memory._buffers[purpose])
    assert held() is not None
    larger = _memory.empty(purpose, (4 * SIZE,), np.float64)
    assert held() is None, "a buffer that was too small is still held"
    del larger
    held = weakref.ref(_memory._buffers[purpose])
    _memory.empty(purpose, (SIZE,), np.float64)
    assert held() is None, "a small array sits in a buffer more than twice its size"


def test_a_buffer_in_use_belongs_to_its_users_alone_once_there_is_another(purpose: str) -> None:
    first = _memory.empty(purpose, (SIZE,), np.float64)
    held = weakref.ref(_memory._buffers[purpose])
    second = _memory.empty(purpose, (SIZE,), np.float64)
    assert not np.shares_memory(first, second)
    del first
    assert held() is None


def test_arrays_are_aligned(purpose: str) -> None:
    for extra in range(5):
        array = _memory.empty(purpose, (SIZE + 8 * extra,), np.float32)
        assert address(array) % _memory.ALIGNMENT == 0
        del array


def test_a_gradient_that_is_kept_is_not_overwritten(entry: Loss) -> None:
    batch = random_batch(60, 4, 200, 10)
    _, first = loss_and_gradient(entry, batch)
    kept = first.clone()
    for _ in range(3):
        loss_and_gradient(entry, random_batch(60, 4, 200, 10))
    assert same_bits(first, kept)

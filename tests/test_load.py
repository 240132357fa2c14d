"""Many at once, and calls that are cut short: threads, worker processes, Ctrl-C, the end of the interpreter.

    python -m pytest tests/test_load.py --seconds 60       as long as that for each test that goes on for a while
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import numbactc
from batches import Batch, loss_and_gradient, random_batch, same_bits
from processes import run_python

THREADS = 16


def outcome(batch: Batch) -> list[torch.Tensor]:
    """Both losses and gradients, an alignment, posteriors and texts of a batch."""
    found = [*loss_and_gradient(numbactc.ctc_loss, batch), *loss_and_gradient(numbactc.ctc_loss_with_logits, batch)]
    log_probs = batch.scores.log_softmax(-1)
    found += [alignment.path for alignment in numbactc.forced_align(log_probs, *batch.arguments())]
    found += numbactc.posteriors(log_probs, *batch.arguments())
    found += [hypotheses[0].tokens for hypotheses in numbactc.beam_search_decode(log_probs, beam_size=4)]
    return found


def test_sixteen_python_threads(seconds: float) -> None:
    """Each with batches of its own size, small and large, on two threads of torch: all bits are those of one caller."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    batches = [random_batch(20 + 9 * n, 1 + n % 5, 8 + 31 * (n % 4), 7) for n in range(THREADS)]
    alone = [outcome(batch) for batch in batches]
    end, start = time.monotonic() + seconds, threading.Barrier(THREADS)

    def work(first: int) -> int:
        start.wait()
        for calls in range(10**9):
            n = (first + calls) % THREADS
            found = outcome(batches[n])
            assert all(map(same_bits, found, alone[n]))
            if time.monotonic() > end:
                return calls + 1
        raise AssertionError

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            calls = list(pool.map(work, range(THREADS)))
    finally:
        torch.set_num_threads(before)
    assert min(calls) >= 1


WORKERS = """
import sys, torch, numbactc
from torch.utils.data import DataLoader, Dataset

class Losses(Dataset):
    "Each item is a loss, its gradient and an alignment, made in the process that is asked."
    def __len__(self):
        return 12
    def __getitem__(self, n):
        generator = torch.Generator().manual_seed(n)
        scores = torch.randn(30 + n, 1, 9, generator=generator).requires_grad_()
        target = torch.tensor([[1, 2, 2, 8]])
        loss = numbactc.ctc_loss_with_logits(scores, target, [30 + n], [4])
        loss.backward()
        [alignment] = numbactc.forced_align(scores, target, [30 + n], [4])
        return torch.tensor([loss.item(), float(scores.grad.abs().sum()), alignment.score], dtype=torch.float64)

def main():
    torch.set_num_threads(2)
    here = torch.stack([Losses()[n] for n in range(12)])
    for context in ("fork", "spawn"):
        loader = DataLoader(Losses(), batch_size=3, num_workers=2, multiprocessing_context=context)
        assert torch.equal(torch.cat(list(loader)), here), context
    print("equal")

if __name__ == "__main__":
    main()
"""


def test_workers_of_a_data_loader(tmp_path: Any) -> None:
    """Forked after use and spawned: what they compute has the bits of the process that asked."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    assert run_python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')") == "equal\n"


INTERRUPTED = """
import os, signal, sys, threading, torch, numbactc
from numbactc import _threads

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with Ctrl-C ignored
_threads.SMALLEST_SHARE = 1
torch.set_num_threads({threads})
torch.manual_seed(0)

def call(frames):
    generator = torch.Generator().manual_seed(frames)
    scores = torch.randn(frames, 4, 400, generator=generator).requires_grad_()
    targets = torch.randint(1, 400, (4, frames // 4), generator=generator)
    loss = numbactc.ctc_loss_with_logits(scores, targets, [frames] * 4, [frames // 4] * 4)
    loss.backward()
    return loss.item(), scores.grad

small = call(40)
call(1200)
interrupts = 0
for n in range(10):
    done = threading.Event()
    timer = threading.Timer(0.01 + 0.03 * n, lambda: done.is_set() or os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        while True:
            call(1200)
    except KeyboardInterrupt:
        interrupts += 1
    done.set()
    timer.join()
    again = call(40)
    assert again[0] == small[0] and torch.equal(again[1], small[1])
print(interrupts)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_in_a_call_leaves_everything_usable(threads: int) -> None:
    """Ten of them, at moments from 10 to 280 ms into calls of some 50 ms."""
    assert run_python(INTERRUPTED.format(threads=threads)) == "10\n"


LEFT_BEHIND = """
import sys, threading, time, torch, numbactc
from numbactc import _threads

_threads.SMALLEST_SHARE = 1
torch.set_num_threads(2)
started = threading.Event()

def work():
    scores = torch.randn(1500, 4, 200)
    targets = torch.randint(1, 200, (4, 300))
    started.set()
    for _ in range(3):
        numbactc.ctc_loss_with_logits(scores, targets, [1500] * 4, [300] * 4)
        numbactc.forced_align(scores, targets, [1500] * 4, [300] * 4)
    print("all came back")

threading.Thread(target=work).start()
started.wait()
print("the end")
"""


def test_the_interpreter_ends_during_a_call() -> None:
    """Another thread is in a call, and then begins one more: it is waited for."""
    assert run_python(LEFT_BEHIND) == "the end\nall came back\n"

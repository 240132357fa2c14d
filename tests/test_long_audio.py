"""Long recordings: the forward states that are left out to save memory come back with the same bits."""

import random
import sys

import pytest
import torch

import numbactc
from batches import Batch, Loss, loss_and_gradient, random_target
from numbactc.kernels.cpu import lattice
from processes import run_python

pytestmark = pytest.mark.cpu_only


def drawn(T: int, scale: float, masked: bool) -> Batch:
    """Two utterances, the second half as long; neighbours among the labels are often the same."""
    C = random.randint(2, 40)
    lengths = [T, max(1, T // 2)]
    scores = torch.randn(T, 2, C) * scale
    if masked:
        scores[torch.rand(T, 2, C) < 0.05] = -torch.inf
    return Batch(scores, [random_target(random.randint(0, t // 2), C, 0, t) for t in lengths], lengths)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("loss", [numbactc.ctc_loss_with_logits, numbactc.ctc_loss])
def test_states_that_were_left_out_come_back_with_the_same_bits(
    loss: Loss, scale: float, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for T in (1, 16, 17, 100, 500, random.randint(1, 1000)):
        batch = drawn(T, scale, masked)
        everything = loss_and_gradient(loss, batch)
        with monkeypatch.context() as patch:
            patch.setattr(lattice, "CHECKPOINT_BYTES", 1)
            some = loss_and_gradient(loss, batch)
        for one, other in zip(everything, some, strict=True):
            assert torch.equal(one.view(torch.int32), other.view(torch.int32))


MEMORY = """
import resource, torch, numbactc
torch.set_num_threads(1)
T, L = 20_000, 6_000
scores = torch.randn(T, 1, 30, requires_grad=True)
targets = torch.randint(1, 30, (1, L))
numbactc.ctc_loss_with_logits(scores[:10], targets[:, :2], [10], [2]).backward()
with open("/proc/self/statm") as statm:
    now = int(statm.read().split()[0]) * resource.getpagesize()
limit = now + 60_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
loss = numbactc.ctc_loss_with_logits(scores, targets, [T], [L])
loss.backward()
try:
    torch.empty(60_000_000)
except RuntimeError:
    print(loss.isfinite().item(), "with a limit that holds")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for its address space")
def test_minutes_of_dense_text_take_less_than_60_megabytes() -> None:
    """T = 20,000, L = 6,000, in a process that may not have more, gradient included; all states would take 240 MB."""
    assert run_python(MEMORY) == "True with a limit that holds\n"

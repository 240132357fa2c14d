"""Memory is recycled from call to call; nobody who still holds a part of it may notice."""

import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from batches import Loss, loss_and_gradient, random_batch, same_bits
from numbactc import _dispatch, _memory

HOLDERS = {
    "gradient": lambda gradient: gradient,
    "one-frame": lambda gradient: gradient[7],
    "flat-view": lambda gradient: gradient.view(-1)[5::3],
    "detached": lambda gradient: gradient.detach(),
    "storage": lambda gradient: torch.empty(0).set_(gradient.untyped_storage()),
    "numpy": lambda gradient: gradient.numpy(),
    "numpy-view": lambda gradient: gradient.numpy()[3:, 1],
    "dlpack": lambda gradient: torch.utils.dlpack.from_dlpack(gradient),
    "numpy-dlpack": lambda gradient: np.from_dlpack(gradient),
}


def large_call(entry: Loss) -> torch.Tensor:
    """A gradient of 480 kB, whatever its numbers: large enough to be recycled."""
    return loss_and_gradient(entry, random_batch(100, 4, 300, 20))[1]


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS.keys())
def test_what_a_caller_holds_is_not_recycled(entry: Loss, holder: Callable[[torch.Tensor], object]) -> None:
    """However little of a gradient is kept, and in whatever form, later calls write elsewhere."""
    held = holder(large_call(entry))
    numbers = torch.as_tensor(held)
    before = numbers.clone()
    assert before.any()
    for _ in range(3):
        large_call(entry)
    assert torch.equal(numbers, before)


def test_gradients_of_many_calls_live_side_by_side(entry: Loss) -> None:
    gradients = [large_call(entry) for _ in range(4)]
    copies = [gradient.clone() for gradient in gradients]
    del gradients[1]
    del copies[1]
    gradients.append(large_call(entry))
    assert all(same_bits(gradient, copied) for gradient, copied in zip(gradients, copies, strict=False))
    assert len({gradient.data_ptr() for gradient in gradients}) == 4


def test_graphs_that_wait_for_backward_keep_what_they_need(entry: Loss) -> None:
    """Two forwards, a third that comes and goes, then both backwards in the order of their forwards."""
    batches = [random_batch(100, 4, 300, 20) for _ in range(2)]
    leaves = [batch.scores.clone().requires_grad_() for batch in batches]
    losses = [entry(leaf, *batch.arguments(), reduction="sum") for leaf, batch in zip(leaves, batches, strict=True)]
    entry(leaves[0], *batches[0].arguments())
    large_call(entry)
    for loss in losses:
        loss.backward()
    for leaf, batch in zip(leaves, batches, strict=True):
        assert leaf.grad is not None
        assert same_bits(leaf.grad, loss_and_gradient(entry, batch)[1])


def test_a_loss_that_is_kept_after_backward_keeps_nothing_large(entry: Loss) -> None:
    """`total = total + loss`, a habit of training loops, must not hold every step's posteriors."""
    batch = random_batch(200, 4, 300, 20)
    held = []
    for _ in range(2):
        leaf = batch.scores.clone().requires_grad_()
        held.append(entry(leaf, *batch.arguments(), reduction="sum"))
        posteriors = weakref.ref(_memory._buffers["posteriors"])
        held[-1].backward()
    loss_and_gradient(entry, batch)
    assert posteriors() is _memory._buffers["posteriors"], "memory of a step that is over was not free"


@pytest.mark.parametrize("sizes", [(300, 20), (20, 300), (300, 299)], ids=str)
def test_recycled_memory_of_another_size(entry: Loss, sizes: tuple[int, int]) -> None:
    for C in sizes:
        batch = random_batch(100, 4, C, 15)
        first = loss_and_gradient(entry, batch)
        second = loss_and_gradient(entry, batch)
        assert same_bits(first[0], second[0])
        assert same_bits(first[1], second[1])


def test_memory_that_numbactc_asks_for_is_poisoned() -> None:
    """The fixture of conftest.py works, or many a test could not fail: no leftovers, no zeros, from any source."""
    namespace = {"__name__": "numbactc.anything", "torch": torch}
    exec("floats, integers = torch.empty(3), torch.empty(3, dtype=torch.int32)", namespace)
    floats, integers = namespace["floats"], namespace["integers"]
    assert isinstance(floats, torch.Tensor)
    assert isinstance(integers, torch.Tensor)
    assert floats.isnan().all()
    assert (integers.abs() > 1_000_000).all()
    assert np.isnan(vars(_dispatch)["np"].empty(3)).all()
    for size in (3, 300_000):
        assert np.isnan(_memory.empty("a test", (size,), np.float32)).all()

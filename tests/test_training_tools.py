"""What training loops wrap around a model and its loss: DDP, checkpointing, autocast, export."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import numbactc
from batches import Batch, Loss, random_batch, same_bits
from closeness import with_logits
from processes import REPOSITORY, TIMEOUT_S

MODULES = [numbactc.CTCLoss, numbactc.CTCLossWithLogits]


class Recogniser(nn.Module):
    """A model with its loss inside, as Hugging Face's have it."""

    def __init__(self, loss: nn.Module, sizes: tuple[int, int] = (4, 6)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.projection, self.loss = nn.Linear(*sizes), loss

    def forward(self, frames: Tensor, *rest: Any) -> Tensor:
        scores = self.projection(frames)
        loss: Tensor = self.loss(scores if isinstance(self.loss, MODULES[1]) else scores.log_softmax(-1), *rest)
        return loss

    def gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters() if parameter.grad is not None]


@pytest.fixture(params=MODULES, ids=lambda module: module.__name__)
def model(request: pytest.FixtureRequest) -> Recogniser:
    return Recogniser(request.param())


@pytest.fixture
def batch() -> Batch:
    return random_batch(10, 4, 6, 3)


REPLICA = """
import sys, torch
from torch import distributed, nn
from test_training_tools import MODULES, Recogniser
store, rank, result = sys.argv[1:]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=2)
frames, targets, *lengths = torch.load(f"{result}.batch")
half = slice(2 * int(rank), 2 * int(rank) + 2)
gradients = []
for module in MODULES:
    model = nn.parallel.DistributedDataParallel(Recogniser(module()))
    model(frames[:, half], targets[half], *(each[half] for each in lengths)).backward()
    gradients += model.module.gradients()
torch.save(gradients, f"{result}.{rank}")
distributed.destroy_process_group()
"""


def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path: Path, batch: Batch) -> None:
    """DistributedDataParallel over gloo: half of the utterances each; the mean of two means is that of all."""
    call, truth = (torch.randn(10, 4, 4), *batch.arguments()), []
    for module in MODULES:
        alone = Recogniser(module())
        alone(*call).backward()
        truth += alone.gradients()
    torch.save(call, tmp_path / "result.batch")
    paths = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REPLICA, tmp_path / "store", str(rank), tmp_path / "result"],
            env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for process in processes:
            _, told = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 0, told
    finally:
        for process in processes:
            process.kill()
    first, second = (torch.load(tmp_path / f"result.{rank}") for rank in range(2))
    for one, other, whole in zip(first, second, truth, strict=True):
        assert same_bits(one, other)
        torch.testing.assert_close(one, whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_the_loss_and_what_is_before_it(model: Recogniser, batch: Batch, use_reentrant: bool) -> None:
    """The forward half runs again in backward: the same bits."""
    frames = torch.randn(10, 4, 4, requires_grad=True)
    model(frames, *batch.arguments()).backward()
    truth = [*model.gradients(), frames.grad]
    frames.grad = None
    model.zero_grad()
    loss: Any = checkpoint(model, frames, *batch.arguments(), use_reentrant=use_reentrant)
    loss.backward()
    for one, other in zip([*model.gradients(), frames.grad], truth, strict=True):
        assert one is not None and other is not None
        assert same_bits(one, other)


def test_saved_tensors_may_be_moved_away_and_back(entry: Loss, batch: Batch) -> None:
    """As hooks that offload activations do."""
    scores = batch.scores.clone().requires_grad_()
    entry(scores, *batch.arguments()).backward()
    truth, scores.grad = scores.grad, None
    with torch.autograd.graph.save_on_cpu():
        entry(scores, *batch.arguments()).backward()
    assert truth is not None and scores.grad is not None
    assert same_bits(scores.grad, truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(model: Recogniser, batch: Batch, dtype: torch.dtype) -> None:
    """The loss and the parameters' gradients are float32, and near those without autocast."""
    frames = torch.randn(10, 4, 4)
    model(frames, *batch.arguments()).backward()
    truth = model.gradients()
    model.zero_grad()
    with torch.autocast("cpu", dtype=dtype):
        loss = model(frames, *batch.arguments())
    assert loss.dtype == torch.float32
    loss.backward()
    for one, other in zip(model.gradients(), truth, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("strict", [False, True])
def test_export(model: Recogniser, batch: Batch, strict: bool) -> None:
    call = torch.randn(10, 4, 4), *batch.arguments()
    exported = torch.export.export(model, call, strict=strict)
    assert any("numbactc.ctc" in str(node.target) for node in exported.graph.nodes)
    other = random_batch(10, 4, 6, 3, ragged=False)
    call = torch.randn(10, 4, 4), *other.arguments()
    torch.testing.assert_close(exported.module()(*call), model(*call))


def test_who_watches_operators_sees_the_loss(entry: Loss, batch: Batch) -> None:
    """A trace once held the losses of the call that it was made from, as constants."""
    graph = make_fx(lambda *call: entry(*call, reduction="none"))(batch.scores, *batch.arguments())
    assert torch.ops.numbactc.ctc.default in [node.target for node in graph.graph.nodes]
    other = random_batch(10, 4, 6, 3, ragged=False)
    truth = entry(other.scores, *other.arguments(), reduction="none")
    assert same_bits(graph(other.scores, *other.arguments()), truth)
    assert with_logits(entry) == (truth >= 0).all()

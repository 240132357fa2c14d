"""What only a GPU can show: nothing waits for it, graphs, streams, devices, the same bits every time, bad arguments.

`make test-gpu` runs these after the other tests have run on the GPU. Where there is none they are skipped.
"""

import gc
import importlib
import random
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import devices
import numbactc
import stub_driver
from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits
from processes import run_python

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]

SHAPES = [(20, 3, 7, 5), (400, 4, 29, 100), (300, 3, 1024, 60), (64, 2, 5000, 20), (900, 2, 30, 400)]
"""T, N, C, L: one warp and several, small and large rows, rows in and out of step with 16 bytes."""

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

CAN_COMPILE_C = stub_driver.COMPILER is not None and Path(sysconfig.get_path("include"), "Python.h").exists()


class Inputs:
    """A batch on the GPU in static memory, as a captured graph wants it."""

    def __init__(self, batch: Batch, device: str = "cuda", width: int | None = None) -> None:
        self.scores = batch.scores.to(device).requires_grad_()
        extra = 0 if width is None else width - max(batch.target_lengths)
        self.targets = batch.padded(extra=extra).to(device)
        self.input_lengths = torch.tensor(batch.input_lengths, device=device)
        self.target_lengths = torch.tensor(batch.target_lengths, device=device)
        self.blank = batch.blank

    def fill(self, batch: Batch) -> None:
        """New data where the old was."""
        other = Inputs(batch, width=self.targets.shape[1])
        with torch.no_grad():
            self.scores.copy_(other.scores)
        self.targets.copy_(other.targets)
        self.input_lengths.copy_(other.input_lengths)
        self.target_lengths.copy_(other.target_lengths)

    def step(self, entry: Loss, **options: Any) -> tuple[Tensor, Tensor]:
        """Losses (N,) and their gradient, by one forward and one backward."""
        arguments = self.targets, self.input_lengths, self.target_lengths
        losses = entry(self.scores, *arguments, blank=self.blank, reduction="none", **options)
        (gradient,) = torch.autograd.grad(losses, self.scores, torch.ones_like(losses))
        return losses.detach(), gradient


def same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return all(same_bits(x.cpu(), y.cpu()) for x, y in zip(a, b, strict=True))


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise wherever PyTorch knows that the host waits for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("where", ["on the GPU", "lists", "on the CPU"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_host_never_waits(entry: Loss, shape: tuple[int, ...], where: str, reduction: str) -> None:
    batch = random_batch(*shape)
    inputs = Inputs(batch)
    targets: Any = inputs.targets
    lengths: list[Any] = [inputs.input_lengths, inputs.target_lengths]
    if where != "on the GPU":
        lengths = [batch.input_lengths, batch.target_lengths]
    if where == "on the CPU":
        targets, lengths = batch.padded(), [torch.tensor(each) for each in lengths]
    inputs.step(entry)  # compiles
    with no_waiting():
        loss = entry(inputs.scores, targets, *lengths, reduction=reduction, zero_infinity=True)
        loss.sum().backward()
    assert inputs.scores.grad is not None
    assert inputs.scores.grad.isfinite().all()


def test_what_would_wait_is_noticed() -> None:
    """The switch that the test before relies on does switch."""
    with no_waiting(), pytest.raises(RuntimeError, match=r"(?i)synchroniz"):
        torch.ones(3, device="cuda").sum().item()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_graph_replayed_on_new_data(entry: Loss, shape: tuple[int, ...]) -> None:
    """New scores, new lengths, new targets in the same memory, with no call of ours in between."""
    T, N, C, L = shape
    inputs = Inputs(random_batch(*shape), width=L)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        inputs.step(entry)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = inputs.step(entry)
    for _ in range(3):
        inputs.fill(random_batch(T, N, C, random.randint(1, L)))
        graph.replay()
        assert same(results, inputs.step(entry))
    with torch.no_grad():
        inputs.targets.fill_(C)  # no such label: as bad in a graph as anywhere
    graph.replay()
    assert same(results, inputs.step(entry))


def test_graph_with_lengths_on_the_cpu_is_refused(entry: Loss) -> None:
    batch = random_batch(20, 3, 7, 5)
    inputs = Inputs(batch)
    inputs.step(entry)
    lengths = batch.input_lengths, batch.target_lengths
    something = torch.zeros(1, device="cuda")  # PyTorch warns of a graph that is empty
    with pytest.raises(RuntimeError, match="while a graph is captured"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        something.add_(1)
        entry(inputs.scores, inputs.targets, *lengths)
    with pytest.raises(RuntimeError, match="check=True"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        something.add_(1)
        inputs.step(entry, check=True)


def test_first_use_while_a_graph_is_captured_is_refused() -> None:
    script = (
        "import torch, numbactc\n"
        "scores = torch.zeros(8, 1, 5, device='cuda')\n"
        "targets, lengths = torch.tensor([[1]], device='cuda'), torch.tensor([8], device='cuda')\n"
        "labels = torch.tensor([1], device='cuda')\n"
        "try:\n"
        "    with torch.cuda.graph(torch.cuda.CUDAGraph()):\n"
        "        numbactc.ctc_loss(scores, targets, lengths, labels)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    assert "before the capture" in run_python(script)


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_on_a_side_stream(entry: Loss, shape: tuple[int, ...]) -> None:
    """Scores that the side stream is still busy with: a kernel on any other stream would read what is not there yet."""
    inputs, stream = Inputs(random_batch(*shape)), torch.cuda.Stream()
    truth = inputs.step(entry)
    with torch.no_grad():
        copied, _ = inputs.scores.clone(), inputs.scores.fill_(torch.nan)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        with torch.no_grad():
            inputs.scores.copy_(copied)
        results = inputs.step(entry)
    stream.synchronize()
    assert same(results, truth)


def test_two_streams_at_once(entry: Loss) -> None:
    all_inputs = [Inputs(random_batch(*shape)) for shape in SHAPES[:2] * 4]
    truths = [inputs.step(entry) for inputs in all_inputs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    results = []
    for i, inputs in enumerate(all_inputs):
        with torch.cuda.stream(streams[i % 2]):
            results.append(inputs.step(entry))
    torch.cuda.synchronize()
    for result, truth in zip(results, truths, strict=True):
        assert same(result, truth)


def test_two_threads_at_once(entry: Loss) -> None:
    """Also a thread's first touch of the GPU: it has no CUDA context until someone makes it current."""
    inputs = Inputs(random_batch(400, 4, 29, 100))
    truth, results = inputs.step(entry), []

    def work() -> None:
        for _ in range(20):
            results.append(inputs.step(entry))

    devices.in_two_threads(work)
    assert len(results) == 40
    assert all(same(result, truth) for result in results)


def test_autocast() -> None:
    projection, frames = nn.Linear(8, 6, device="cuda"), torch.randn(16, 2, 8, device="cuda")
    arguments = torch.tensor([[1, 2, 2], [5, 4, 3]], device="cuda"), [16, 12], [3, 3]
    with torch.autocast("cuda", dtype=torch.bfloat16):
        logits = projection(frames)
        logits.retain_grad()
        loss = numbactc.ctc_loss_with_logits(logits, *arguments)
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    loss.backward()
    upcast = logits.detach().float().requires_grad_()
    truth = numbactc.ctc_loss_with_logits(upcast, *arguments)
    truth.backward()
    assert upcast.grad is not None
    assert same((loss.detach(), logits.grad), (truth.detach(), upcast.grad.bfloat16()))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_on_a_device_other_than_the_current_one(entry: Loss) -> None:
    batch = random_batch(400, 4, 29, 100)
    truth = Inputs(batch).step(entry)
    assert same(Inputs(batch, "cuda:1").step(entry), truth)
    assert torch.cuda.current_device() == 0
    inputs = Inputs(batch, "cuda:1")
    with pytest.raises(ValueError, match="targets must be on cuda:1"):
        entry(inputs.scores, inputs.targets.to("cuda:0"), inputs.input_lengths, inputs.target_lengths)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_hundred_runs_have_the_same_bits(entry: Loss, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = Inputs(random_batch(*shape, dtype=dtype))
    first, *others = (inputs.step(entry) for _ in range(100))
    for result in others:
        assert torch.equal(result[0], first[0])
        assert torch.equal(result[1], first[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_utterance_has_the_same_bits_in_any_company(
    entry: Loss, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Alone, in a batch, in a batch of another order, with wider targets and more frames."""
    batch = random_batch(*shape, dtype=dtype)
    losses, gradient = Inputs(batch).step(entry)
    N = len(batch.targets)
    for n in range(N):
        frames = batch.input_lengths[n]
        alone = Inputs(batch.select([n])).step(entry)
        assert same((losses[n : n + 1], gradient[:frames, n : n + 1]), alone)
    order = list(range(N))[::-1]
    turned = Batch(
        batch.scores[:, order], [batch.targets[n] for n in order], [batch.input_lengths[n] for n in order], batch.blank
    )
    assert same(Inputs(turned, width=600).step(entry), (losses[order], gradient[:, order]))
    longer = Batch(torch.cat([batch.scores, batch.scores]), batch.targets, batch.input_lengths, batch.blank)
    losses_again, gradient_again = Inputs(longer).step(entry)
    assert same((losses_again, gradient_again[: shape[0]]), (losses, gradient))


BAD: list[tuple[str, Callable[[Inputs], Tensor], str]] = [
    ("label too large", lambda x: x.targets[1, 0].fill_(7), "got 7 at position 0 of utterance 1"),
    ("label negative", lambda x: x.targets[1, 1].fill_(-1), "got -1 at position 1 of utterance 1"),
    ("label far away", lambda x: x.targets[1, 0].fill_(2**40), "of utterance 1"),
    ("label is the blank", lambda x: x.targets[1, 0].fill_(0), "not the blank"),
    ("target too long", lambda x: x.target_lengths[1].fill_(99), "got 99 for utterance 1"),
    ("target length negative", lambda x: x.target_lengths[1].fill_(-1), "got -1 for utterance 1"),
    ("too many frames", lambda x: x.input_lengths[1].fill_(21), "got 21 for utterance 1"),
    ("frames negative", lambda x: x.input_lengths[1].fill_(-(2**40)), "for utterance 1"),
]


@pytest.mark.parametrize(("spoil", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_values_on_the_gpu(entry: Loss, spoil: Callable[[Inputs], Tensor], message: str) -> None:
    """NaN and a gradient of 0 for that utterance, not one bit of another; with check=True an error that names it."""
    batch = Batch(torch.randn(20, 3, 7), [[1, 2], [3, 4, 4], [5]], [20, 19, 18])
    truth, inputs = Inputs(batch).step(entry), Inputs(batch)
    spoil(inputs)
    losses, gradient = inputs.step(entry)
    assert losses[1].isnan()
    assert not gradient[:, 1].any()
    others = [0, 2]
    assert same((losses[others], gradient[:, others]), (truth[0][others], truth[1][:, others]))
    with pytest.raises(ValueError, match=message):
        inputs.step(entry, check=True)


def test_concatenated_targets_that_do_not_add_up(entry: Loss) -> None:
    inputs = Inputs(Batch(torch.randn(20, 2, 7), [[1, 2], [3]], [20, 19]))
    inputs.targets = torch.tensor([1, 2, 3, 4], device="cuda")
    losses, gradient = inputs.step(entry)
    assert losses.isnan().all()
    assert not gradient.any()
    with pytest.raises(ValueError, match=r"sum\(target_lengths\) = 3 labels, got 4"):
        inputs.step(entry, check=True)


def test_offsets_beyond_32_bits(entry: Loss) -> None:
    extent = 2**31 + 64
    if torch.cuda.mem_get_info()[0] < 3 * 2 * extent:
        pytest.skip("the GPU has less than 13 GB free")
    batch = random_batch(9, 1, 6, 5, dtype=torch.bfloat16)
    far = torch.empty(extent, dtype=torch.bfloat16, device="cuda").as_strided((9, 1, 6), (2**28, 6, 1))
    far.copy_(batch.scores)
    near = Inputs(batch)
    rest = near.targets, near.input_lengths, near.target_lengths
    assert same((entry(far, *rest, reduction="none"),), (entry(near.scores.detach(), *rest, reduction="none"),))


def test_memory_is_given_back(entry: Loss) -> None:
    inputs = Inputs(random_batch(400, 4, 29, 100))
    inputs.step(entry)
    gc.collect()
    before = torch.cuda.memory_allocated()
    for _ in range(50):
        inputs.step(entry)
        entry(inputs.scores, inputs.targets, inputs.input_lengths, inputs.target_lengths)  # a graph without backward
    gc.collect()
    assert torch.cuda.memory_allocated() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_simulator_is_right_about_the_gpu(
    entry: Loss, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """Everything that is proven without a GPU rests on it. Bits may differ where a GPU rounds exp and log otherwise."""
    if not devices.CAN_SIMULATE:
        pytest.skip("the simulator needs greenlet")
    batch = random_batch(40, 3, 7, 5, dtype=dtype)
    on_gpu = Inputs(batch).step(entry)
    importlib.import_module("simulated").install(monkeypatch)
    simulated = loss_and_gradient(entry, batch)
    record_property("same_bits", same(on_gpu, simulated))
    bound = {torch.float32: 1e-6, torch.float64: 1e-13, torch.bfloat16: 4e-3}[dtype]
    for actual, expected in zip(on_gpu, simulated, strict=True):
        torch.testing.assert_close(actual.cpu(), expected, rtol=bound, atol=bound)


@pytest.mark.skipif(not CAN_COMPILE_C, reason="Inductor starts kernels from C: no compiler, or no Python.h")
@pytest.mark.filterwarnings("ignore")  # Inductor's own
def test_compiled_into_one_graph(entry: Loss) -> None:
    inputs = Inputs(random_batch(40, 3, 7, 5))
    truth = inputs.step(entry)
    torch._dynamo.reset()
    compiled = torch.compile(lambda scores, *rest, **options: entry(scores * 1.0, *rest, **options), fullgraph=True)
    losses, gradient = inputs.step(compiled)
    torch.testing.assert_close((losses, gradient), truth, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("keep", [False, True])
def test_opcheck(keep: bool) -> None:
    inputs = Inputs(random_batch(9, 3, 5, 4))
    scores = inputs.scores if keep else inputs.scores.detach()
    rest = inputs.targets, inputs.input_lengths, inputs.target_lengths, 0, True, False, False, keep
    torch.library.opcheck(torch.ops.numbactc.ctc.default, (scores, *rest))

"""What PyTorch's losses are said to get wrong on a GPU, looked at: nothing is claimed about a peer that was not seen
here.

Each test writes down what it saw, in the report of the run and, with OBSERVATIONS=file.json, in a file. It passes
whatever the answer is, and fails only if there is none, as when cuDNN did not run where it was to be looked at.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from processes import REPOSITORY, TIMEOUT_S

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]

Observe = Callable[..., None]


@pytest.fixture
def observe(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Observe:
    def write_down(**seen: Any) -> None:
        print(request.node.name, seen)
        for name, value in seen.items():
            record_property(name, value)
        if path := os.environ.get("OBSERVATIONS"):
            file = Path(path)
            everything = json.loads(file.read_text()) if file.exists() else {}
            everything[request.node.name] = seen | {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
            file.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")

    return write_down


def batch(T: int = 50, N: int = 4, C: int = 20, L: int = 10) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log_probs, targets, and lengths with the last utterance shorter, on the GPU."""
    log_probs = torch.randn(T, N, C, device="cuda").log_softmax(-1).requires_grad_()
    input_lengths = torch.full((N,), T, dtype=torch.int32, device="cuda")
    input_lengths[-1] = T // 2
    target_lengths = torch.full((N,), L, dtype=torch.int32, device="cuda")
    return log_probs, torch.randint(1, C, (N, L), dtype=torch.int32, device="cuda"), input_lengths, target_lengths


def for_cudnn(arguments: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Targets as cuDNN takes them with lengths on the GPU: 1-D int32 (since PyTorch 2.5)."""
    log_probs, targets, input_lengths, target_lengths = arguments
    return log_probs, targets.flatten(), input_lengths, target_lengths


def torch_step(arguments: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    losses = torch.nn.functional.ctc_loss(*arguments, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), arguments[0])
    return losses.detach(), gradient


def kernels_of(run: Callable[[], object]) -> list[str]:
    """Names of what ran on the GPU."""
    run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    return [event.name for event in seen.events() if event.device_type == DeviceType.CUDA]


def is_cudnn(names: list[str]) -> bool:
    """cuDNN's kernels, not PyTorch's own, whose names say ctc_loss_log_alpha and the like."""
    return not any("ctc_loss_" in name for name in names) and any("ctc" in name.lower() for name in names)


def fill_allocator_with_nan() -> None:
    """The next tensors lie in memory full of NaN: what is not written shows."""
    blocks = [torch.full((1 << size,), torch.nan, device="cuda") for size in range(8, 22) for _ in range(4)]
    del blocks


def test_which_calls_run_cudnn(observe: Observe) -> None:
    arguments = batch()
    padded, flat = kernels_of(lambda: torch_step(arguments)), kernels_of(lambda: torch_step(for_cudnn(arguments)))
    assert padded and flat
    observe(padded=is_cudnn(padded), one_dimensional_int32=is_cudnn(flat), kernels=sorted(set(flat)))


def test_cudnn_gradient_of_padded_frames(observe: Observe) -> None:
    arguments = for_cudnn(batch())
    fill_allocator_with_nan()
    _, gradient = torch_step(arguments)
    beyond = gradient[25:, -1]
    observe(
        all_zero=not beyond.any().item(),
        finite=beyond.isfinite().all().item(),
        largest=str(beyond.abs().max().item()),
    )


def test_cudnn_gradient_of_an_infeasible_target(observe: Observe) -> None:
    """More labels than frames."""
    log_probs, targets, input_lengths, target_lengths = batch()
    input_lengths[-1] = 4
    fill_allocator_with_nan()
    losses, gradient = torch_step(for_cudnn((log_probs, targets, input_lengths, target_lengths)))
    observe(
        loss=str(losses[-1].item()),
        gradient_is_zero=not gradient[:, -1].any().item(),
        gradient_is_finite=gradient[:, -1].isfinite().all().item(),
    )


@pytest.mark.parametrize("T", [255, 256, 1024])
@pytest.mark.parametrize("form", ["padded", "concatenated"])
def test_torch_under_capture(observe: Observe, T: int, form: str) -> None:
    """In a process of its own, which a failed assertion on the device would leave unusable."""
    script = (
        "import torch\n"
        f"T, padded = {T}, {form == 'padded'}\n"
        "x = torch.randn(T, 2, 20, device='cuda').log_softmax(-1).requires_grad_()\n"
        "targets = torch.randint(1, 20, (2, 10), dtype=torch.int32, device='cuda')\n"
        "targets = targets if padded else targets.flatten()\n"
        "lengths = [torch.full((2,), n, dtype=torch.int32, device='cuda') for n in (T, 10)]\n"
        "def step():\n"
        "    loss = torch.nn.functional.ctc_loss(x, targets, *lengths, reduction='sum')\n"
        "    return loss.detach(), torch.autograd.grad(loss, x)[0]\n"
        "stream = torch.cuda.Stream()\n"
        "with torch.cuda.stream(stream):\n"
        "    truth = step()\n"
        "torch.cuda.synchronize()\n"
        "graph = torch.cuda.CUDAGraph()\n"
        "with torch.cuda.graph(graph):\n"
        "    result = step()\n"
        "graph.replay()\n"
        "torch.cuda.synchronize()\n"
        "print('captured, and equal:', all(torch.equal(a, b) for a, b in zip(result, truth)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY, timeout=TIMEOUT_S, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = (done.stdout.strip() if done.returncode == 0 else done.stderr.strip()).splitlines()
    observe(outcome=told[-1][:300] if told else f"exit status {done.returncode}")


@pytest.mark.parametrize("form", ["padded", "concatenated"])
def test_copies_to_the_host(observe: Observe, form: str) -> None:
    """With everything on the GPU, each copy from it is a wait."""
    import numbactc

    arguments = batch() if form == "padded" else for_cudnn(batch())
    torchs = kernels_of(lambda: torch_step(arguments))

    def our_step() -> None:
        losses = numbactc.ctc_loss(*arguments, reduction="none")
        torch.autograd.grad(losses.sum(), arguments[0])

    ours = kernels_of(our_step)
    counts = {name: sum("DtoH" in each for each in names) for name, names in (("torch", torchs), ("ours", ours))}
    observe(**counts)
    assert counts["ours"] == 0


@pytest.mark.parametrize("form", ["padded", "concatenated"])
@pytest.mark.parametrize("T", [50, 1000])
def test_bits_over_a_hundred_runs(observe: Observe, form: str, T: int) -> None:
    arguments = batch(T=T, L=40, C=8)
    arguments = arguments if form == "padded" else for_cudnn(arguments)
    first, *others = (torch_step(arguments) for _ in range(100))
    different = sum(not (torch.equal(a, first[0]) and torch.equal(b, first[1])) for a, b in others)
    observe(runs_that_differ_from_the_first=different)

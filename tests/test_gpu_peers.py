"""What PyTorch's losses are said to get wrong on a GPU, looked at: nothing is claimed about a peer that was not seen
here.

Each test writes down what it saw, in the report of the run and, with OBSERVATIONS=file.json, in a file. It passes
whatever the answer is, and fails only if there is none, as when cuDNN did not run where it was to be looked at.
"""

import itertools
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

from benchmarks.gpu_peers import ran_cudnn, ran_native
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
    names: list[str] = []
    for _ in range(3):  # the first profile of a process may come too late for the first kernels
        # with acc_events: without it a profile begins with a warning
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as seen:
            run()
            torch.cuda.synchronize()
        names = [event.name for event in seen.events() if event.device_type == DeviceType.CUDA]
        if names:
            break
    assert names, "the profiler saw nothing run on the GPU"
    return names


def assert_runs_cudnn(arguments: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    names = kernels_of(lambda: torch_step(arguments))
    assert ran_cudnn(names), f"cuDNN did not run, but {', '.join(names)}"


def fill_allocator_with_nan() -> None:
    """The next tensors lie in memory full of NaN: what is not written shows."""
    blocks = [torch.full((1 << size,), torch.nan, device="cuda") for size in range(8, 22) for _ in range(4)]
    del blocks


def test_which_calls_run_cudnn(observe: Observe) -> None:
    arguments = batch()
    padded, flat = kernels_of(lambda: torch_step(arguments)), kernels_of(lambda: torch_step(for_cudnn(arguments)))
    observe(padded=ran_cudnn(padded), one_dimensional_int32=ran_cudnn(flat), kernels=sorted(set(flat)))
    assert ran_native(padded) != ran_cudnn(padded)
    assert ran_native(flat) != ran_cudnn(flat)


def test_cudnn_gradient_of_padded_frames(observe: Observe) -> None:
    arguments = for_cudnn(batch())
    assert_runs_cudnn(arguments)
    fill_allocator_with_nan()
    _, gradient = torch_step(arguments)
    beyond = gradient[25:, -1]
    observe(
        all_zero=not beyond.any().item(),
        finite=beyond.isfinite().all().item(),
        largest=str(beyond.abs().max().item()),
    )


def test_cudnn_gradient_of_an_infeasible_target(observe: Observe) -> None:
    """One label ten times in ten frames, which would need nine blanks between. PyTorch itself takes targets that have
    more labels than there are frames.
    """
    log_probs, targets, input_lengths, target_lengths = batch()
    input_lengths[-1] = 10
    targets[-1] = 1
    arguments = for_cudnn((log_probs, targets, input_lengths, target_lengths))
    assert_runs_cudnn(arguments)
    fill_allocator_with_nan()
    losses, gradient = torch_step(arguments)
    observe(
        loss=str(losses[-1].item()),
        gradient_is_zero=not gradient[:, -1].any().item(),
        gradient_is_finite=gradient[:, -1].isfinite().all().item(),
    )


CAPTURES = list(itertools.product(["padded", "concatenated"], [255, 256, 1024]))
"""Forms of targets, and frames."""


@pytest.fixture(scope="module")
def captures() -> dict[tuple[str, int], tuple[int, str, str]]:
    """Exit status and output of a process for each case, which a failed assertion on the device would leave unusable;
    all at once, for each takes seconds to begin.
    """
    script = (
        "import sys, torch\n"
        "T, padded = int(sys.argv[2]), sys.argv[1] == 'padded'\n"
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
    processes = {
        (form, T): subprocess.Popen(
            [sys.executable, "-c", script, form, str(T)],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for form, T in CAPTURES
    }  # fmt: skip
    try:
        told = {case: process.communicate(timeout=TIMEOUT_S) for case, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    return {case: (processes[case].returncode, *told[case]) for case in CAPTURES}


@pytest.mark.parametrize(("form", "T"), CAPTURES)
def test_torch_under_capture(
    observe: Observe, captures: dict[tuple[str, int], tuple[int, str, str]], form: str, T: int
) -> None:
    status, output, errors = captures[form, T]
    told = (output if status == 0 else errors).strip().splitlines()
    observe(outcome=told[-1][:300] if told else f"exit status {status}")


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

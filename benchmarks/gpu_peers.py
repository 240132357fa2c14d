"""Who is measured on a GPU. As in `peers.py` a peer makes calls of a `Problem`; here they return before the work ends.

All start at the same logits on the device, float32 or bfloat16, and compute `mean over N of loss / L`, or its gradient
with respect to the logits. PyTorch's losses take neither raw scores nor bfloat16: each is given its own log_softmax, in
float32. Lengths and targets lie where the peer wants them, and are put there before anything is timed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers import version_of
from benchmarks.shapes import Problem

Call = Callable[[], Any]


@dataclass(frozen=True)
class GpuCalls:
    """Calls by name, without arguments. `forward` returns the loss, `forward_backward` (loss, gradient of the logits).

    `wait` returns when all that was called has been done. `peak_bytes` is what a call takes beyond what lies there
    before it, its result included, or None where the peer cannot tell; it is asked with the name of a call.
    """

    calls: Mapping[str, Call]
    wait: Callable[[], None]
    peak_bytes: Callable[[str], int | None]


@dataclass(frozen=True)
class GpuPeer:
    name: str
    label: str
    modules: tuple[str, ...]
    load: Callable[[Problem, str, str], GpuCalls]
    """Called with the problem, the dtype's name and the device's."""
    must_run: Callable[[list[str]], bool] | None = None
    """Given the names of the kernels that ran: whether this is the peer that it claims to be. Where it is None, nobody
    looks: a peer of a hundred thousand kernels takes seconds to be profiled.
    """

    @property
    def missing(self) -> list[str]:
        """The modules that are not installed; empty when the peer can be measured."""
        return [module for module in self.modules if importlib.util.find_spec(module) is None]

    @property
    def version(self) -> str | None:
        return None if self.missing else version_of(self.modules[0])


def torch_calls(torch: Any, device: str, calls: Mapping[str, Call], forget: Callable[[], None]) -> GpuCalls:
    """Calls of PyTorch, with what its allocator says; `forget` frees what the call before has left."""
    on_gpu = device.startswith("cuda")

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    def peak_bytes(what: str) -> int | None:
        if not on_gpu:
            return None
        forget()
        wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        calls[what]()
        wait()
        return int(torch.cuda.max_memory_allocated() - before)

    return GpuCalls(calls, wait, peak_bytes)


def _loss_calls(problem: Problem, dtype: str, device: str, bind: Callable[[Any], Callable[[Any], Any]]) -> GpuCalls:
    """Calls of `bind(torch)(logits)`, a mean loss."""
    torch = importlib.import_module("torch")
    logits = torch.from_numpy(problem.logits).to(device=device, dtype=getattr(torch, dtype)).requires_grad_()
    loss_of = bind(torch)

    def forward() -> Any:
        with torch.no_grad():
            return loss_of(logits)

    def forward_backward() -> Any:
        logits.grad = None
        loss = loss_of(logits)
        loss.backward()
        return loss, logits.grad

    def forget() -> None:
        logits.grad = None

    return torch_calls(torch, device, {"forward": forward, "forward_backward": forward_backward}, forget)


def load_numbactc(problem: Problem, dtype: str, device: str) -> GpuCalls:
    """`numbactc.ctc_loss_with_logits`, lengths and targets on the GPU."""

    def bind(torch: Any) -> Callable[[Any], Any]:
        loss_function = importlib.import_module("numbactc").ctc_loss_with_logits
        arrays = problem.targets, problem.input_lengths, problem.target_lengths
        rest = [torch.from_numpy(array).to(device) for array in arrays]
        return lambda logits: loss_function(logits, *rest)

    return _loss_calls(problem, dtype, device, bind)


def load_torch_native(problem: Problem, dtype: str, device: str) -> GpuCalls:
    """`log_softmax`, then `ctc_loss` with padded int64 targets on the GPU: PyTorch's own kernels."""

    def bind(torch: Any) -> Callable[[Any], Any]:
        arrays = problem.targets, problem.input_lengths, problem.target_lengths
        rest = [torch.from_numpy(array).to(device) for array in arrays]
        return lambda logits: torch.nn.functional.ctc_loss(
            logits.log_softmax(-1, dtype=torch.float32), *rest
        )

    return _loss_calls(problem, dtype, device, bind)


def load_torch_cudnn(problem: Problem, dtype: str, device: str) -> GpuCalls:
    """The same under cuDNN's conditions: blank 0, 1-D int32 targets on the CPU, lengths as lists, all of length T."""

    def bind(torch: Any) -> Callable[[Any], Any]:
        targets = torch.from_numpy(problem.targets.astype(np.int32).reshape(-1))
        lengths = problem.input_lengths.tolist(), problem.target_lengths.tolist()
        return lambda logits: torch.nn.functional.ctc_loss(
            logits.log_softmax(-1, dtype=torch.float32), targets, *lengths
        )

    return _loss_calls(problem, dtype, device, bind)


def ran_cudnn(kernels: list[str]) -> bool:
    """cuDNN's ran, which take a `cudnnCTCLossStruct`, and PyTorch's own, `ctc_loss_log_alpha` and the like, did not."""
    return not any("ctc_loss_" in name for name in kernels) and any("cudnnCTC" in name for name in kernels)


def ran_native(kernels: list[str]) -> bool:
    """PyTorch's own ran; where the profiler sees no kernels at all, nothing speaks against it."""
    return not kernels or any("ctc_loss_" in name for name in kernels)


def ran_ours(kernels: list[str]) -> bool:
    """Kernels by the names that `numbactc.kernels.cuda.launch.symbol` gives them; no kernels as above."""
    return not kernels or any("numbactc_lattice_" in name for name in kernels)


def load_optax(problem: Problem, dtype: str, device: str) -> GpuCalls:
    """`optax.ctc_loss` under `jax.jit`, compiled for this shape; its logits lie as (N, T, C) from the start."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    try:
        place = jax.devices("cuda" if device.startswith("cuda") else device)[0]
    except RuntimeError as error:
        raise ModuleNotFoundError(f"jax finds no GPU: {error}") from error

    def put(array: Any) -> Any:
        return jax.device_put(jax.numpy.asarray(array), place)

    logits = put(jax.numpy.asarray(np.ascontiguousarray(problem.logits.transpose(1, 0, 2)), dtype=dtype))
    targets = put(problem.targets.astype(np.int32))
    frames, labels = problem.logits.shape[0], problem.targets.shape[1]
    logit_paddings = put((np.arange(frames) >= problem.input_lengths[:, None]).astype(np.float32))
    label_paddings = put((np.arange(labels) >= problem.target_lengths[:, None]).astype(np.float32))
    weights = put((1 / np.maximum(problem.target_lengths, 1)).astype(np.float32))
    rest = (logit_paddings, targets, label_paddings)

    def mean(logits: Any, *rest: Any) -> Any:
        return (optax.ctc_loss(logits.astype("float32"), *rest, blank_id=0) * weights).mean()

    functions = {"forward": mean, "forward_backward": jax.value_and_grad(mean)}
    last: list[Any] = []

    @functools.cache
    def compiled(name: str) -> Any:
        return jax.jit(functions[name]).lower(logits, *rest).compile()

    def call(name: str) -> Any:
        last[:] = [compiled(name)(logits, *rest)]
        return last[0]

    def peak_bytes(what: str) -> int | None:
        analysis = compiled(what).memory_analysis()
        return None if analysis is None else analysis.temp_size_in_bytes + analysis.output_size_in_bytes

    return GpuCalls(
        calls={"forward": lambda: call("forward"), "forward_backward": lambda: call("forward_backward")},
        wait=lambda: jax.block_until_ready(last) and None,
        peak_bytes=peak_bytes,
    )


OURS = "numbactc"

GPU_PEERS: dict[str, GpuPeer] = {
    peer.name: peer
    for peer in (
        GpuPeer(OURS, "numbactc", ("numbactc", "numba", "torch"), load_numbactc, ran_ours),
        GpuPeer("torch-native", "PyTorch", ("torch",), load_torch_native, ran_native),
        GpuPeer("torch-cudnn", "PyTorch, cuDNN", ("torch",), load_torch_cudnn, ran_cudnn),
        GpuPeer("optax", "optax", ("optax", "jax"), load_optax),
    )
}

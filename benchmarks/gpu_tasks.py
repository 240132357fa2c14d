"""Who is measured on a GPU at what follows training: forced alignment of a batch, and greedy decoding.

All start at the same log-probabilities (T, N, C) on the device, float32 or bfloat16, and end with Python's lists on the
host. Targets and lengths lie where the peer wants them before anything is timed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu_peers import OURS, Call, GpuCalls, GpuPeer, torch_calls
from benchmarks.shapes import Problem

Bind = Callable[[Any], Call]
"""From log-probabilities to a call without arguments."""


def _task_calls(problem: Problem, dtype: str, device: str, task: str, bind: Bind) -> GpuCalls:
    torch = importlib.import_module("torch")
    logits = torch.from_numpy(problem.logits).to(device)
    log_probs = logits.log_softmax(-1).to(getattr(torch, dtype))
    del logits
    return torch_calls(torch, device, {task: bind(log_probs)}, forget=lambda: None)


def load_our_aligner(problem: Problem, dtype: str, device: str) -> GpuCalls:
    """`numbactc.forced_align`, the whole batch in one call."""
    torch, align = importlib.import_module("torch"), importlib.import_module("numbactc").forced_align
    rest = [torch.from_numpy(array) for array in (problem.targets, problem.input_lengths, problem.target_lengths)]

    def bind(log_probs: Any) -> Call:
        return lambda: [[tuple(span[:3]) for span in found.spans] for found in align(log_probs, *rest)]

    return _task_calls(problem, dtype, device, "forced_align", bind)


def load_torchaudio_aligner(problem: Problem, dtype: str, device: str) -> GpuCalls:
    """`torchaudio.functional.forced_align` and `merge_tokens`, one utterance a call, which is all that it takes."""
    torch, functional = importlib.import_module("torch"), importlib.import_module("torchaudio.functional")
    targets = torch.from_numpy(problem.targets.astype(np.int32)).to(device)
    frames = torch.from_numpy(problem.input_lengths.astype(np.int32)).to(device)
    counts = torch.from_numpy(problem.target_lengths.astype(np.int32)).to(device)

    def bind(log_probs: Any) -> Call:
        def align() -> Any:
            wide, found = log_probs.float(), []  # it takes no bfloat16
            for n in range(wide.shape[1]):
                one = wide[:, n : n + 1].transpose(0, 1).contiguous()
                path, scores = functional.forced_align(one, targets[n : n + 1], frames[n : n + 1], counts[n : n + 1])
                spans = functional.merge_tokens(path[0].cpu(), scores[0].exp().cpu())
                found.append([(int(span.token), int(span.start), int(span.end)) for span in spans])
            return found

        return align

    return _task_calls(problem, dtype, device, "forced_align", bind)


def load_our_greedy(problem: Problem, dtype: str, device: str) -> GpuCalls:
    """`numbactc.greedy_decode`: tokens, and also the frames in which they begin, and scores."""
    greedy, lengths = importlib.import_module("numbactc").greedy_decode, problem.input_lengths.tolist()

    def bind(log_probs: Any) -> Call:
        return lambda: [path.tokens.tolist() for path in greedy(log_probs, lengths)]

    return _task_calls(problem, dtype, device, "greedy_decode", bind)


def load_torch_greedy(problem: Problem, dtype: str, device: str) -> GpuCalls:
    """argmax, `unique_consecutive` of each utterance, and blanks left out: tokens alone."""
    torch, lengths = importlib.import_module("torch"), problem.input_lengths.tolist()

    def bind(log_probs: Any) -> Call:
        def decode() -> Any:
            runs = [
                torch.unique_consecutive(row[:length])
                for row, length in zip(log_probs.argmax(-1).T, lengths, strict=True)
            ]
            return [run[run != 0].tolist() for run in runs]

        return decode

    return _task_calls(problem, dtype, device, "greedy_decode", bind)


TASKS: dict[str, dict[str, GpuPeer]] = {
    "forced_align": {
        OURS: GpuPeer(OURS, "numbactc", ("numbactc", "numba", "torch"), load_our_aligner),
        "torchaudio": GpuPeer("torchaudio", "torchaudio", ("torchaudio",), load_torchaudio_aligner),
    },
    "greedy_decode": {
        OURS: GpuPeer(OURS, "numbactc", ("numbactc", "torch"), load_our_greedy),
        "torch": GpuPeer("torch", "argmax, unique_consecutive", ("torch",), load_torch_greedy),
    },
}
"""The peers of each task, by name."""

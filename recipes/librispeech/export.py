"""A checkpoint as TorchScript, features included: samples in, log-probabilities out, no file of this recipe needed.

python export.py --checkpoint exp/demo/best.pt --out demo.ts

    import json, torch
    about = {"about.json": ""}
    model = torch.jit.load("demo.ts", _extra_files=about)
    about = json.loads(about["about.json"])           # sample_rate in Hz, frame_seconds, labels: 0 is the blank
    log_probs = model(samples)                        # (S,) float32 in [-1, 1] to (T, C)
    paths = numbactc.greedy_decode(log_probs)

C++ loads it with torch::jit::load. The scores are compared with the checkpoint's own before the file is written.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from recogniser import Recogniser

SECONDS = (0.1, 0.73, 1.0, 3.99, 12.0, 31.0)  # the lengths at which scores are compared
TOLERANCE = 1e-4  # nats


class Scorer(nn.Module):
    """(S,) samples to (T, C) log-probabilities; S at least 1."""

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.log_mel, self.model = recogniser.log_mel, recogniser.model

    def forward(self, samples: Tensor) -> Tensor:
        # counted, not len(samples): tracing would write down the example's own length
        length = torch.ones_like(samples, dtype=torch.int64).sum()[None]
        logits, _ = self.model(*self.log_mel(samples[None], length))
        log_probs: Tensor = logits[:, 0].log_softmax(-1)
        return log_probs


def traced(recogniser: Recogniser) -> torch.jit.ScriptModule:
    """The same as TorchScript."""
    example = torch.randn(recogniser.sample_rate, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        # of PyTorch's own checks of an LSTM's input, which are not traced, and that tracing is to go away some day
        warnings.simplefilter("ignore")
        module: torch.jit.ScriptModule = torch.jit.trace(Scorer(recogniser).eval(), example, check_trace=False)
    return module


def largest_difference(module: torch.jit.ScriptModule, recogniser: Recogniser) -> float:
    """In nats, between its scores and the checkpoint's, over noise of all ``SECONDS``; infinite if shapes differ."""
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for seconds in SECONDS:
        samples = 0.1 * torch.randn(round(seconds * recogniser.sample_rate), generator=generator)
        with torch.no_grad():
            found, expected = module(samples), recogniser.scores(samples)
        if found.shape != expected.shape:
            return float("inf")
        worst = max(worst, (found - expected).abs().max().item())
    return worst


def export(path: Path, out: Path) -> float:
    """Write ``out`` and return the largest difference; where that is too large, RuntimeError and no file."""
    recogniser = Recogniser(path)
    module = traced(recogniser)
    difference = largest_difference(module, recogniser)
    if not difference <= TOLERANCE:
        raise RuntimeError(f"exported scores must be within {TOLERANCE:g} of the checkpoint's, got {difference:g}")
    about = {
        "sample_rate": recogniser.sample_rate,
        "frame_seconds": recogniser.frame_seconds,
        "labels": recogniser.tokens.labels,
    }
    partial = out.with_name(out.name + ".partial")
    torch.jit.save(module, partial, _extra_files={"about.json": json.dumps(about)})
    os.replace(partial, out)
    return difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    difference = export(args.checkpoint, args.out)
    shown = ", ".join(f"{seconds:g}" for seconds in SECONDS)
    print(f"{args.out}: within {difference:.1e} of the checkpoint's log-probabilities at {shown} seconds")


if __name__ == "__main__":
    main()

"""Runs of training, here or in processes of their own.

There: `python runs.py RECIPE_HOME config.yaml [what to do]`, under torchrun or not.

`kill=K:WHEN` ends the process by SIGKILL in step K: WHEN is "step", before the weights move, or "save", while last.pt
is being written. `fail=R:K` raises in process R in step K, `end=R:K` ends it by SIGKILL there.
`seen=1` writes who trained on what to RECIPE_HOME/seen-R.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "librispeech"))

import config as configs
import train
from common import checkpoint, training
from config import Config
from data import Batch
from prepare import prepare_subset
from trainer import Trainer

Batches = Sequence[tuple[int, Batch]]


def prepared(config: Config) -> Config:
    for subset in ("train", "dev", "test"):
        prepare_subset(subset, config)
    return config


def trained(config: Config) -> Trainer:
    """A run begun, or continued, in this process."""
    trainer = Trainer(config)
    trainer.resume()
    if not trainer.finished:
        training.train(trainer)
    return trainer


def command(home: Path, config: Config, *plans: str, processes: int = 1) -> list[str]:
    """What runs training in other processes."""
    path = home / f"{config.name}.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return [sys.executable, *torchrun, __file__, str(home), str(path), *plans]


def kill(step: int, when: str) -> None:
    train_step, save = Trainer.train_step, checkpoint.save
    now = 0

    def before(self: Trainer, batches: Batches, progress: float) -> float:
        nonlocal now
        now = self.step + 1
        if when == "step" and now == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(self, batches, progress)

    def half_written(path: Path, content: dict[str, Any]) -> None:
        if when == "save" and now == step and path.name == "last.pt":
            path.with_name(path.name + ".partial").write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        save(path, content)

    Trainer.train_step, checkpoint.save = before, half_written  # type: ignore[assignment, method-assign]


def fail(rank: int, step: int, killed: bool = False) -> None:
    train_step = Trainer.train_step

    def failing(self: Trainer, batches: Batches, progress: float) -> float:
        if self.processes.rank == rank and self.step + 1 == step:
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise MemoryError("planted")
        return train_step(self, batches, progress)

    Trainer.train_step = failing  # type: ignore[assignment, method-assign]


def write_what_is_seen(home: Path) -> None:
    train_step = Trainer.train_step
    seen: list[Any] = []

    def watched(self: Trainer, batches: Batches, progress: float) -> float:
        names = [[number, [u.id for u in batch.utterances]] for number, batch in batches]
        loss = train_step(self, batches, progress)
        gradient = [] if self.model.head.bias.grad is None else self.model.head.bias.grad.tolist()
        seen.append({"epoch": self.epoch, "batches": names, "loss": loss, "gradient": gradient})
        (home / f"seen-{self.processes.rank}.json").write_text(json.dumps(seen))
        return loss

    Trainer.train_step = watched  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    home, path, *rest = sys.argv[1:]
    configs.RECIPE = Path(home)
    plans = {name: value.split(":") for name, value in (word.split("=") for word in rest)}
    if "kill" in plans:
        kill(int(plans["kill"][0]), plans["kill"][1])
    if "fail" in plans:
        fail(int(plans["fail"][0]), int(plans["fail"][1]))
    if "end" in plans:
        fail(int(plans["end"][0]), int(plans["end"][1]), killed=True)
    if "seen" in plans:
        write_what_is_seen(Path(home))
    sys.argv = ["train.py", "--config", path]
    train.main()

"""torchrun: two processes take the steps of one, lose and repeat nothing, and do not outlive each other."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common import checkpoint
from config import Config
from runs import command, prepared, trained, write_what_is_seen
from trainer import Trainer

Make = Callable[..., Config]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.utils.tensorboard"),
]

# three batches an epoch, so in its second step one process has none; dropout and SpecAugment draw
WORDS = ["train.batch_seconds=2.5", "train.threads=1", "optim.clip=1e9"]


def read(path: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(path.read_text())
    return content


def test_two_processes_take_the_steps_of_one(tiny: Make, recipe_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = prepared(tiny("name=two", "train.steps=5", *WORDS))
    done = subprocess.run(
        command(recipe_home, together, "seen=1", processes=2), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    first, second = read(recipe_home / "seen-0.json"), read(recipe_home / "seen-1.json")

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", Trainer.train_step)
        write_what_is_seen(recipe_home)
        one = trained(prepared(tiny("name=one", "train.steps=5", "train.accumulate=2", *WORDS)))
    alone = read(recipe_home / "seen-0.json")

    assert len(alone) == len(first) == len(second) == 5
    for a, b, both in zip(first, second, alone, strict=True):
        assert sorted(a["batches"] + b["batches"]) == both["batches"]
        assert a["gradient"] == b["gradient"]
        assert a["loss"] == b["loss"] == pytest.approx(both["loss"], rel=1e-5)
    torch.testing.assert_close(
        torch.tensor(first[0]["gradient"]), torch.tensor(alone[0]["gradient"]), atol=1e-7, rtol=1e-5
    )

    epoch = [step for step in first + second if step["epoch"] == 0]
    seen = Counter(name for step in epoch for _, names in step["batches"] for name in names)
    assert seen == Counter(u.id for u in one.train_set)
    assert min(len(step["batches"]) for step in epoch) == 0  # the case that makes others wait for ever

    names = {path.name for path in together.exp.iterdir()}
    assert names == {"config.yaml", "log", "tensorboard", "last.pt", "best.pt"}
    assert len(list((together.exp / "tensorboard").iterdir())) == 1
    log = (together.exp / "log").read_text()
    assert [line.split()[1:3] for line in log.splitlines() if "dev loss" in line] == [
        ["epoch", f"{n},"] for n in (1, 2, 2)
    ]

    # one process takes up the middle of an epoch that two had begun, with as many batches a step as they had
    state = checkpoint.load(together.exp / "last.pt")
    assert (state["epoch"], state["batch"]) == (2, 2)
    rest = trained(tiny("name=two", "train.steps=6", "train.accumulate=2", *WORDS))
    assert (rest.epoch, rest.batch) == (3, 0)


def test_a_process_that_dies_ends_the_others_with_a_message(tiny: Make, recipe_home: Path) -> None:
    config = prepared(tiny("name=two", "train.epochs=2", *WORDS))
    done = subprocess.run(
        command(recipe_home, config, "fail=1:3", processes=2), capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    assert "MemoryError: planted" in done.stderr
    assert "process 0 of 2 cannot reach the others; has one of them ended?" in (config.exp / "log").read_text()

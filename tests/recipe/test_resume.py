"""A run that was killed, at any moment, ends in the bits of one that was not; one may begin where another ended."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common import checkpoint
from config import Config
from runs import command, prepared, trained
from trainer import Trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.utils.tensorboard"),
]

# everything that draws: speeds, throats, SpecAugment, dropout; eleven batches an epoch, two a step
WORDS = [
    "train.epochs=4",
    "train.threads=1",
    "train.batch_seconds=2",
    "train.accumulate=2",
    "data.speeds=[0.9,1.0]",
    "features.warp=0.1",
    "data.train=train,train",
]

KILLS = [
    # plan, minutes between checkpoints, then (step, epoch, batch) of the one that is left
    ("kill=9:step", 0.0, (8, 1, 4)),  # in the middle of the second epoch
    ("kill=15:save", 0.0, (14, 2, 4)),  # while a checkpoint of the third was being written
    ("kill=20:step", 60.0, (18, 3, 0)),  # some steps after the last checkpoint
]


def test_a_run_killed_three_times_ends_in_the_same_bits(tiny: Callable[..., Config], recipe_home: Path) -> None:
    whole = trained(prepared(tiny("name=whole", *WORDS)))
    prepared(tiny("name=killed", *WORDS))
    for plan, save_minutes, there in KILLS:
        config = tiny("name=killed", f"train.save_minutes={save_minutes}", *WORDS)
        done = subprocess.run(command(recipe_home, config, plan), capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        state = checkpoint.load(config.exp / "last.pt")
        assert (state["step"], state["epoch"], state["batch"]) == there
    resumed = trained(config)
    assert len(resumed.losses) == 2
    assert (resumed.step, resumed.losses, resumed.recent) == (whole.step, whole.losses, whole.recent)
    assert resumed.rates == whole.rates
    for ours, theirs in [(resumed.model, whole.model), (resumed.average.module, whole.average.module)]:
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_run_begins_with_the_weights_of_another_and_goes_on_with_its_own(tiny: Callable[..., Config]) -> None:
    first = trained(prepared(tiny("name=first", "train.steps=4"))).config.exp / "best.pt"
    words = ["name=second", "train.steps=2", "model.dropout=0.4", "optim.lr=1e-3"]
    config = prepared(tiny(*words, f"train.init={first}"))
    trainer = Trainer(config)
    trainer.resume()
    theirs = checkpoint.load(first)["model"]
    for model in (trainer.model, trainer.average.module):
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.state_dict().items())
    assert (trainer.step, trainer.seconds, trainer.rates) == (0, 0.0, [])

    learnt = trained(config).model.state_dict()
    resumed = Trainer(tiny(*words, "train.init=moved.pt"))  # nobody asks for it again
    resumed.resume()
    assert all(torch.equal(tensor, learnt[name]) for name, tensor in resumed.model.state_dict().items())
    assert not all(torch.equal(tensor, theirs[name]) for name, tensor in learnt.items())


def test_weights_of_another_model_or_other_tokens_are_refused(tiny: Callable[..., Config]) -> None:
    first = trained(prepared(tiny("name=first", "train.steps=1"))).config.exp / "best.pt"
    for words, rule in [
        (["model.hidden=32"], "train.init must be a checkpoint of this run's model"),
        (["data.alphabet= EFHNORTUW"], "train.init must be a checkpoint with the tokens of this run"),
    ]:
        config = prepared(tiny("name=second", f"train.init={first}", "train.steps=1", *words))
        with pytest.raises(ValueError, match=rule):
            Trainer(config).resume()

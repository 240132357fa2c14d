"""A run that was killed, at any moment, ends in the bits of one that was not; one may begin where another ended."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import vocabulary
from common import checkpoint
from common.reporting import summary
from config import Config
from normalisation import prepare_statistics
from prepare import fingerprint
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


def test_weights_that_would_mean_something_else_are_refused(tiny: Callable[..., Config], recipe_home: Path) -> None:
    first = trained(prepared(tiny("name=first", "train.steps=1"))).config.exp / "best.pt"
    content = checkpoint.load(first)
    checkpoint.save(recipe_home / "foreign.pt", {"model": content["model"]})
    (recipe_home / "text.pt").write_text("no checkpoint")
    for path, word, rule in [
        (first, "model.hidden=32", "of this run's model, got .*size mismatch for project.weight"),
        (first, "data.alphabet= EFHNORTUW", "with the tokens of this run, got others in"),
        (first, "model.strides=[4,1]", r"with model.strides=\[4, 1\], got \[2, 2\] in"),
        (first, "features.mel_scale=slaney", "with features.mel_scale='slaney', got 'htk' in"),
        (recipe_home / "foreign.pt", "model.layers=1", "of this recipe, got .* without 'config'"),
        (recipe_home / "text.pt", "model.layers=1", "text.pt must be a checkpoint of tensors and plain types"),
        (recipe_home / "missing.pt", "model.layers=1", "No such file or directory: .*missing.pt"),
    ]:
        config = prepared(tiny("name=second", f"train.init={path}", "train.steps=1", word))
        with pytest.raises(ValueError, match=f"^train.init must be a checkpoint.*{rule}"):
            Trainer(config).resume()


def test_a_run_begun_with_other_weights_keeps_their_normalisation(tiny: Callable[..., Config]) -> None:
    words = ["features.normalise=global", "train.steps=1"]
    first = prepared(tiny("name=first", *words))
    theirs = prepare_statistics(first)
    path = trained(first).config.exp / "best.pt"
    second = prepared(tiny("name=second", f"train.init={path}", *words))
    ours = second.manifests / "statistics.json"
    prepare_statistics(second)
    ours.write_text(json.dumps(json.loads(ours.read_text()) | {"statistics": (theirs + 1).tolist()}))
    trained(second)
    for content in (checkpoint.load(second.exp / name) for name in ("best.pt", "last.pt")):
        torch.testing.assert_close(content["statistics"], theirs)
    resumed = Trainer(second)
    resumed.resume()
    assert resumed.log_mel.statistics is not None
    torch.testing.assert_close(resumed.log_mel.statistics, theirs)


def test_a_run_begun_with_other_weights_has_their_pieces(tiny: Callable[..., Config]) -> None:
    words = ["data.alphabet= EFHNORTUW", "data.bpe=14", "train.steps=1"]
    first = prepared(tiny("name=first", *words))
    vocabulary.prepare_pieces(first)
    path = trained(first).config.exp / "best.pt"
    words.append("data.train=dev")  # whose texts are made others
    chapter = first.root / "dev" / "7" / "1" / "7-1.trans.txt"
    chapter.write_text(chapter.read_text().replace("ONE", "TWO").replace("THREE", "TWO"))
    second = prepared(tiny("name=second", f"train.init={path}", *words))
    # what other pieces have dropped must be found again
    marks = [fingerprint(chapter, tiny("name=new", f"train.init={init}", *words), training=True) for init in ("", path)]
    assert marks[0] != marks[1]
    vocabulary.prepare_pieces(second)
    assert trained(second).tokens.state() == checkpoint.load(path)["tokens"]

    again = prepared(tiny("name=second", *words))  # the same run, whatever is asked now
    vocabulary.prepare_pieces(again)
    Trainer(again).resume()
    assert vocabulary.read_tokens(again).state() == checkpoint.load(path)["tokens"]

    alone = prepared(tiny("name=alone", *words))
    vocabulary.prepare_pieces(alone)
    assert vocabulary.read_tokens(alone).state() != checkpoint.load(path)["tokens"]
    with pytest.raises(ValueError, match=r"train.init must be a checkpoint with data.bpe=12"):
        vocabulary.prepare_pieces(prepared(tiny("name=alone", *words, "data.bpe=12", f"train.init={path}")))
    assert (alone.manifests / "bpe.json").exists()  # nothing was learnt anew


def test_the_report_tells_where_a_run_began_and_went_on(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = trained(prepared(tiny("name=first", "train.steps=3"))).config.exp / "best.pt"
    monkeypatch.setenv("RECIPE_COMMAND", "begin")
    trained(prepared(tiny("name=second", f"train.init={first}", "train.steps=2")))
    trained(tiny("name=second", f"train.init={first}", "train.steps=2"))  # finished: no leg of its own
    monkeypatch.setenv("RECIPE_COMMAND", "stop at once")
    stopped = Trainer(tiny("name=second", "train.steps=4"))
    stopped.resume()
    stopped.save()
    monkeypatch.setenv("RECIPE_COMMAND", "go on")
    config = trained(tiny("name=second", "train.init=another.pt", "train.steps=4")).config
    assert "train.init=another.pt is not read" in caplog.text
    for content in (checkpoint.load(config.exp / name) for name in ("best.pt", "last.pt")):
        assert content["config"]["train"]["init"] == str(first)  # what it did begin with
    state = checkpoint.load(config.exp / "last.pt")
    told = summary(config, state, [], 1)
    assert "stop at once" not in told and "- command: `begin`" in told and "- from step 2 on: command `go on`\n" in told
    assert f"- begun with the weights of {first}, epoch 1, step 3, " in told
    before = {key: value for key, value in state.items() if key not in ("legs", "origin")}
    before["environment"] = {key: value for key, value in state["legs"][0].items() if key != "step"}
    assert "- command: `begin`" in summary(config, before, [], 1)  # of a checkpoint from before there were legs


def test_a_setting_newer_than_the_checkpoint_counts_as_its_default(tiny: Callable[..., Config]) -> None:
    path = trained(prepared(tiny("train.steps=1"))).config.exp / "last.pt"
    state = checkpoint.load(path)
    del state["config"]["features"]["warp"]
    checkpoint.save(path, state)
    Trainer(tiny("train.steps=1")).resume()
    with pytest.raises(ValueError, match=r"features\.warp=0\.0, got 0\.2"):
        Trainer(tiny("train.steps=1", "features.warp=0.2")).resume()
    state["config"]["features"]["gone"] = 1
    checkpoint.save(path, state)
    with pytest.raises(ValueError, match=r"last\.pt must have settings of this version: unknown key 'features\.gone'"):
        Trainer(tiny("train.steps=1")).resume()

"""The model, training, resuming, evaluating: on a language of four tones."""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
import torch

import evaluate
import report
from common import checkpoint
from common.batches import collate
from common.optimisation import averaging, learning_rate
from common.rates import line, read_trn
from config import Config
from data import Batch, SpeechDataset
from features import LogMel
from manifest import read_manifests
from prepare import prepare_subset
from runs import prepared, trained
from tones import TEXTS
from trainer import Trainer
from transcribe import Transcriber
from vocabulary import read_tokens

Make = Callable[..., Config]
pytestmark = [
    # TensorBoard's own, on Python 3.12 and NumPy 2.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.utils.tensorboard"),
]


def test_learning_rate_warms_up_to_its_peak_and_ends_at_zero() -> None:
    rates = [learning_rate(p / 100, 1.0, 0.1) for p in range(101)]
    assert rates[10] == max(rates) == 1.0
    assert 0 < rates[0] <= 0.01
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert rates[:11] == sorted(rates[:11])


def test_averaged_weights_start_at_the_first_step_and_then_forget_slowly() -> None:
    update = averaging(0.9)
    average = [torch.tensor([0.0])]
    update(average, [torch.tensor([1.0])], torch.tensor(0))
    assert average[0].item() == pytest.approx(0.9)  # the random start is nearly gone
    update(average, [torch.tensor([2.0])], torch.tensor(10_000))
    assert average[0].item() == pytest.approx(0.9 * 0.9 + 0.1 * 2.0)


def test_training_hears_other_throats_and_masks_that_differ_between_views(tiny: Make) -> None:
    def scores(*words: str, draw: str = "1 0 0", views: int = 1) -> torch.Tensor:
        trainer = Trainer(prepared(tiny("features.freq_masks=0", "features.time_masks=0", *words)))
        trainer.model.eval()  # no dropout
        batch = collate([trainer.data_sets()[0][0]])
        batch.draws = [draw]
        with torch.no_grad():
            return trainer.all_scores(batch, views)[0][-1]

    plain = scores()
    assert torch.equal(plain, scores(draw="1 0 1"))
    masks = [[f"features.{kind}_masks=3", f"features.{kind}_width=15"] for kind in ("freq", "time")]
    for words in (["features.warp=0.3"], *masks):
        heard = scores(*words)
        assert not torch.equal(heard, plain)
        assert not torch.equal(heard, scores(*words, draw="1 0 1"))
        both = scores(*words, views=2)
        assert not torch.equal(both[:, 0], both[:, 1])


def test_training_learns_the_tones_end_to_end(tiny: Make) -> None:
    config = prepared(tiny("train.epochs=40", "data.train=train,train,train", "features.n_mels=40"))
    trainer = trained(config)
    first, last = trainer.rates[0], trainer.rates[-1]
    assert last[1] < 0.3 * first[1]
    (result,) = evaluate.evaluate(config.exp / "best.pt", config)
    assert result["WER"]["percent"] <= 20
    assert result["WER"]["total"] == sum(len(t.split()) for t in TEXTS)
    out = config.exp / "decode_test_greedy"
    assert (out / "ref.trn").read_text().splitlines()[1] == "TWO TWO (7-1-0001)"
    assert len((out / "hyp.trn").read_text().splitlines()) == len(TEXTS)

    hypotheses = read_trn(out / "hyp.trn")
    transcriber = Transcriber(config.exp / "best.pt")
    for utterance in read_manifests(config, ["test"])[:3]:
        assert transcriber(utterance.audio_filepath)[0] == hypotheses[utterance.id]

    assert report.report(config) in (config.exp / "report.md").read_text()
    text = (config.exp / "report.md").read_text()
    for name in ("curves", "alignment-best", "alignment-median", "alignment-worst"):
        assert f"({name}.png)" in text
        assert (config.exp / f"{name}.png").stat().st_size > 5000
    assert line("WER", result["WER"]) in text
    assert "hidden: 24" in text
    assert "commit: " in text


@pytest.mark.parametrize("count", [0, 2])
def test_the_first_epochs_go_from_short_to_long_where_that_is_asked_for(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    config = prepared(tiny("train.epochs=3", "train.batch_seconds=3", f"train.sorted_epochs={count}"))
    original = Trainer.train_step
    heard: list[list[float]] = [[], [], []]

    def step(self: Trainer, batches: Sequence[tuple[int, Batch]], progress: float) -> float:
        heard[self.epoch] += [u.duration for _, batch in batches for u in batch.utterances]
        return original(self, batches, progress)

    monkeypatch.setattr(Trainer, "train_step", step)
    trained(config)
    assert [durations == sorted(durations) for durations in heard] == [epoch < count for epoch in range(3)]


def test_resumed_run_ends_in_the_same_weights(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(prepared(tiny("name=whole", "train.epochs=3", "data.speeds=[0.9,1.0]")))
    config = prepared(tiny("name=parts", "train.epochs=3", "data.speeds=[0.9,1.0]"))
    original = Trainer.train_step

    def interrupted(self: Trainer, batches: Sequence[tuple[int, Batch]], progress: float) -> float:
        if self.step == 3:  # the first step of the second epoch
            signal.raise_signal(signal.SIGINT)
        return original(self, batches, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", interrupted)
        assert not trained(config).finished
    state = checkpoint.load(config.exp / "last.pt")
    assert (state["epoch"], state["batch"], state["step"]) == (1, 1, 4)
    parts = trained(config)
    assert parts.rates == whole.rates
    for a, b in zip(parts.average.parameters(), whole.average.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_finished_run_stays_finished_until_the_budget_grows(tiny: Make) -> None:
    config = prepared(tiny("train.epochs=1"))
    first = trained(config)
    again = Trainer(config)
    again.resume()
    assert again.finished
    assert again.seconds == first.seconds
    longer = Trainer(tiny("train.epochs=2"))
    longer.resume()
    assert not longer.finished
    assert longer.step == first.step


def test_other_settings_are_not_resumed_in_silence(tiny: Make) -> None:
    trained(prepared(tiny("train.epochs=1")))
    with pytest.raises(ValueError, match=r"model\.hidden=24, got 32"):
        Trainer(tiny("train.epochs=1", "model.hidden=32")).resume()


def test_other_data_is_not_resumed_in_silence(tiny: Make) -> None:
    config = prepared(tiny("train.epochs=1"))
    trained(config)
    next(config.root.glob("train/*/*/*.flac")).unlink()
    prepare_subset("train", config)
    with pytest.raises(ValueError, match="other utterances"):
        Trainer(config).resume()


def test_checkpoints_hold_tensors_and_plain_types_only(tiny: Make) -> None:
    config = prepared(tiny("train.epochs=1"))
    trained(config)
    for name in ("last.pt", "best.pt"):
        content = torch.load(config.exp / name, weights_only=True)
        assert content["config"]["features"]["n_mels"] == 20
    assert not list(config.exp.glob("*.partial"))


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "last.pt", {"step": 1})

    def full(_content: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(28, "disk full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk full"):
        patched.setattr(torch, "save", full)
        checkpoint.save(tmp_path / "last.pt", {"step": 2})
    assert checkpoint.load(tmp_path / "last.pt") == {"step": 1}


def training_set(config: Config) -> SpeechDataset:
    tokens, log_mel = read_tokens(config), LogMel(config.features)
    return SpeechDataset(read_manifests(config, ["train"]), config, tokens, log_mel, training=True)


def spoiled(config: Config, spoil: Callable[[Batch], None]) -> Batch:
    """Three utterances, of which ``spoil`` changes the second."""
    dataset = training_set(config)
    batch = collate([dataset[n] for n in range(3)])
    spoil(batch)
    return batch


def with_nan(batch: Batch) -> None:
    batch.inputs[1, 5] = torch.nan


def with_a_target_that_does_not_fit(batch: Batch) -> None:
    first, _, third = batch.targets.split(batch.target_lengths.tolist())
    batch.targets = torch.cat([first, torch.ones(90, dtype=torch.int32), third])
    batch.target_lengths[1] = 90


@pytest.mark.parametrize(("spoil", "value"), [(with_nan, "nan"), (with_a_target_that_does_not_fit, "inf")])
def test_an_utterance_without_finite_loss_is_left_out_and_named(
    tiny: Make, caplog: pytest.LogCaptureFixture, spoil: Callable[[Batch], None], value: str
) -> None:
    config = prepared(tiny("train.epochs=1", "model.dropout=0", "features.freq_masks=0", "features.time_masks=0"))
    batch = spoiled(config, spoil)
    assert [u.id for u in batch.only([2, 0]).utterances] == ["7-1-0002", "7-1-0000"]
    trainer, without = Trainer(config), Trainer(config)
    with caplog.at_level(logging.WARNING):
        loss = trainer.train_step([(0, batch)], 0.5)
    assert caplog.messages == [f"step 1: left out 7-1-0001, its loss is {value}"]
    assert loss == pytest.approx(without.train_step([(0, batch.only([0, 2]))], 0.5), rel=1e-6)
    for ours, theirs in zip(trainer.model.parameters(), without.model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-5)


def test_a_step_with_no_finite_loss_at_all_changes_nothing(tiny: Make, caplog: pytest.LogCaptureFixture) -> None:
    config = prepared(tiny("train.epochs=1"))
    trainer = Trainer(config)
    before = [p.clone() for p in trainer.model.parameters()]
    with caplog.at_level(logging.WARNING):
        assert math.isnan(trainer.train_step([(0, spoiled(config, with_nan).only([1]))], 0.5))
    assert "left out 7-1-0001, its loss is nan" in caplog.text
    for a, b in zip(before, trainer.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_without_finite_gradient_is_skipped_and_named(tiny: Make, caplog: pytest.LogCaptureFixture) -> None:
    config = prepared(tiny("train.epochs=1"))
    trainer = Trainer(config)
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.model.head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with caplog.at_level(logging.WARNING):
        assert math.isnan(trainer.train_step([(0, spoiled(config, lambda _: None))], 0.5))
    assert caplog.messages == ["skipped step 1 with gradient inf: 7-1-0000 7-1-0001 7-1-0002"]
    for a, b in zip(before, trainer.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("options", ["", "model.layers=2 model.inter_layers=[1] loss.consistency=0.2"])
def test_accumulated_batches_have_the_gradient_of_one_large_batch(tiny: Make, options: str) -> None:
    quiet = ["model.dropout=0", "features.freq_masks=0", "features.time_masks=0", "optim.clip=1e9"]
    config = prepared(tiny("train.epochs=1", *quiet, *options.split()))
    dataset = training_set(config)
    items = [dataset[n] for n in range(len(dataset))]
    large, small = Trainer(config), Trainer(config)
    loss = large.train_step([(0, collate(items))], 0.5)
    # of one, five and two utterances: a mean of means would be another number
    parts = [(0, collate(items[:1])), (1, collate(items[1:6])), (2, collate(items[6:]))]
    assert small.train_step(parts, 0.5) == pytest.approx(loss, rel=1e-6)
    for ours, theirs in zip(small.model.parameters(), large.model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_a_clip_of_zero_leaves_the_gradient_as_it_is(tiny: Make) -> None:
    config = prepared(tiny("train.epochs=1", "optim.clip=0"))
    free, loose = Trainer(config), Trainer(tiny("train.epochs=1", "optim.clip=1e9"))
    for trainer in (free, loose):
        trainer.train_step([(0, spoiled(config, lambda _: None))], 0.5)
    for ours, theirs in zip(free.model.parameters(), loose.model.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None and ours.grad.any()
        assert torch.equal(ours.grad, theirs.grad)


def test_patience_ends_a_run_that_no_longer_improves(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [120.0, 60.0, 50.0, 70.0, 50.0, 60.0, 60.0, 40.0]
    found = ({"WER": {"percent": error}, "CER": {"percent": 10.0}} for error in errors)
    monkeypatch.setattr("common.trainer.error_rates", lambda *_: next(found))
    config = prepared(tiny("train.epochs=8", "train.patience=2"))
    trainer = trained(config)
    assert [wer for _, _, wer, _ in trainer.rates] == [120.0, 60.0, 50.0, 70.0, 50.0, 60.0, 60.0]
    assert trainer.finished
    assert checkpoint.load(config.exp / "best.pt")["epoch"] == 5  # as good as the third, and trained for longer
    again = Trainer(config)
    again.resume()
    assert again.finished
    patient = Trainer(tiny("train.epochs=8", "train.patience=3"))
    patient.resume()
    assert not patient.finished


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train.epochs=-3", "train.minutes, train.epochs or train.steps must be positive, got 0, -3 and 0"),
        ("train.epochs=1 train.batch_seconds=0", "train.batch_seconds, or train.batch_columns, must be positive"),
        ("train.epochs=1 optim.warmup=-1", "optim.warmup must be from 0 to less than 1, got -1"),
        ("train.epochs=1 optim.warmup=1", "optim.warmup must be from 0 to less than 1, got 1"),
        ("train.epochs=1 optim.clip=-1", "optim.clip must not be negative, got -1"),
        ("train.epochs=1 optim.average=1.5", "optim.average must be from 0 to 1, got 1.5"),
        ("train.epochs=1 data.noise=. data.noise_share=50", "data.noise_share must be from 0 to 1, got 50"),
        ("train.epochs=1 features.time_masks=-2", "features.time_masks must not be negative, got -2"),
        ("train.epochs=1 features.freq_width=-1", "features.freq_width must not be negative, got -1"),
        ("train.epochs=1 train.accumulate=0", "train.accumulate must be positive, got 0"),
        ("train.epochs=1 train.device=tpu", "train.device must be auto, cuda or one of cpu.*got 'tpu'"),
        ("train.epochs=1 train.device=cuda:99", "train.device must be auto, cuda or one of cpu.*got 'cuda:99'"),
        ("train.epochs=1 train.precision=half", "train.precision must be auto, float32 or bfloat16, got 'half'"),
    ],
)
def test_a_run_that_cannot_start_is_an_error_that_names_the_setting(tiny: Make, words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained(prepared(tiny(*words.split())))


def test_a_budget_of_steps_ends_within_an_epoch_and_a_larger_one_goes_on_there(tiny: Make) -> None:
    short = trained(prepared(tiny("train.steps=4")))
    assert (short.step, short.epoch, short.batch, len(short.rates)) == (4, 1, 1, 2)
    longer = trained(tiny("train.steps=5"))
    assert (longer.step, longer.epoch, longer.batch) == (5, 1, 2)


def test_minutes_of_a_budget_begin_after_the_step_that_compiles(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    now, rates = 0.0, list[float]()
    train_step = Trainer.train_step

    def slow_at_first(self: Trainer, batches: Sequence[tuple[int, Batch]], progress: float) -> float:
        nonlocal now
        now += 1000.0 if not rates or self.step == 5 else 1.0
        loss = train_step(self, batches, progress)
        rates.append(self.optimizer.param_groups[0]["lr"])
        return loss

    monkeypatch.setattr(Trainer, "train_step", slow_at_first)
    monkeypatch.setattr("common.training.time", SimpleNamespace(perf_counter=lambda: now))
    words = "train.epochs=0", "optim.warmup=0.4"
    first = trained(prepared(tiny(*words, f"train.minutes={4 / 60}")))  # four seconds
    assert (first.step, first.seconds) == (5, 4.0)
    assert rates[0] == rates[1] < rates[2]  # the warm-up has not gone by
    again = trained(tiny(*words, f"train.minutes={6 / 60}"))  # another process compiles too
    assert (again.step, again.seconds) == (8, 6.0)


def test_a_file_that_vanished_is_reported_and_counts_as_deleted(tiny: Make) -> None:
    config = prepared(tiny("train.epochs=1"))
    trained(config)
    Path(read_manifests(config, ["test"])[0].audio_filepath).unlink()
    (result,) = evaluate.evaluate(config.exp / "best.pt", config)
    assert result["unreadable"] == 1
    assert result["WER"]["total"] == sum(len(t.split()) for t in TEXTS)
    assert (config.exp / "decode_test_greedy" / "hyp.trn").read_text().startswith(" (7-1-0000)")


def test_texts_that_do_not_fit_are_scored_and_results_say_what_they_are_without(
    tiny: Make, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny("train.steps=1")
    for subset in ("dev", "test"):
        transcripts = next(config.root.glob(f"{subset}/*/*/*.trans.txt"))
        rows = transcripts.read_text().replace("7-1-0000 ONE", "7-1-0000 ONE" + 20 * " TWO")
        transcripts.write_text(rows.replace("7-1-0001 TWO TWO", "7-1-0001 2 2"))
    with caplog.at_level(logging.INFO):
        ((_, loss, _, _),) = trained(prepared(config)).rates
    assert 0 < loss < 100
    assert "dev loss without 1 of 7: their texts have more tokens than fit" in caplog.messages
    (result,) = evaluate.evaluate(config.exp / "best.pt", config)
    assert (result["utterances"], result["left out"], result["unreadable"]) == (7, 1, 0)
    assert result["WER"]["total"] == sum(len(t.split()) for t in TEXTS) + 20 - 2
    assert "7 utterances of 1 speaker, greedy, 1 left out, see test.dropped.txt\n" in capsys.readouterr().out
    report.report(config)
    for name in ("best", "median", "worst"):
        assert (config.exp / f"alignment-{name}.png").exists()
    (config.manifests / "test.dropped.txt").write_text("")
    assert evaluate.evaluate(config.exp / "best.pt", config)[0]["left out"] == 0  # not the one that was kept


def test_transcribe_names_a_file_it_cannot_read_and_goes_on(tiny: Make, tmp_path: Path) -> None:
    config = prepared(tiny("train.epochs=1"))
    trained(config)
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    good = read_manifests(config, ["test"])[0].audio_filepath
    script = Path(report.__file__).with_name("transcribe.py")
    files = [str(tmp_path / "bad.wav"), good]
    command = [sys.executable, str(script), "--checkpoint", str(config.exp / "best.pt"), *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "bad.wav" in done.stderr
    assert done.stdout.startswith(f"{good}: ")

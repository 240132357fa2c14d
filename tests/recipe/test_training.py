"""The model, training, resuming, evaluating: on a language of four tones."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import checkpoint
import evaluate
import report
from config import Config
from data import Batch, SpeechDataset, collate, read_manifests
from model import AcousticModel, output_frames
from optimisation import averaging, learning_rate
from prepare import prepare_subset
from rates import line, read_trn
from tones import TEXTS
from train import train
from trainer import Trainer
from transcribe import transcribe

Make = Callable[..., Config]
pytestmark = [
    # TensorBoard's own, on Python 3.12 and NumPy 2.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.utils.tensorboard"),
]


def prepared(config: Config) -> Config:
    for subset in ("train", "dev", "test"):
        prepare_subset(subset, config)
    return config


def trained(config: Config) -> Trainer:
    trainer = Trainer(config)
    trainer.resume()
    if not trainer.finished:
        train(trainer)
    return trainer


def batch_of(config: Config, utterances: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([61, 7, 1, 40, 33][:utterances])
    features = torch.randn(utterances, 61, config.features.n_mels, generator=generator)
    return features, lengths


@pytest.mark.parametrize("strides", [[2, 2], [2, 1], [3]])
def test_scores_do_not_depend_on_the_batch(strides: list[int]) -> None:
    config = Config()
    config.model.hidden = config.model.channels = 32
    config.model.strides = strides
    torch.manual_seed(1)
    model = AcousticModel(config.features, config.model, 9).eval()
    features, lengths = batch_of(config, 5)
    logits, input_lengths = model(features, lengths)
    assert input_lengths.tolist() == [output_frames(n, strides) for n in lengths.tolist()]
    for n, length in enumerate(lengths.tolist()):
        alone, frames = model(features[n : n + 1, :length], lengths[n : n + 1])
        assert alone.shape[0] == frames.item() == input_lengths[n]
        torch.testing.assert_close(alone[:, 0], logits[: frames.item(), n], atol=1e-5, rtol=0)


def test_padding_is_never_read() -> None:
    config = Config()
    config.model.hidden = config.model.channels = 16
    model = AcousticModel(config.features, config.model, 5).eval()
    features, lengths = batch_of(config, 2)
    before, frames = model(features, lengths)
    features[1, 7:] = 1e4
    after, _ = model(features, lengths)
    torch.testing.assert_close(after[: frames[1], 1], before[: frames[1], 1], atol=0, rtol=0)


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


def test_training_learns_the_tones_end_to_end(tiny: Make) -> None:
    config = prepared(tiny("train.epochs=40", "data.train=train,train,train"))
    trainer = trained(config)
    first, last = trainer.rates[0], trainer.rates[-1]
    assert last[1] < 0.3 * first[1]
    (result,) = evaluate.evaluate(config.exp / "best.pt", config)
    assert result["WER"]["percent"] <= 20
    assert result["WER"]["total"] == sum(len(t.split()) for t in TEXTS)
    out = config.exp / "decode_test_greedy"
    assert (out / "ref.trn").read_text().splitlines()[1] == "TWO TWO (7-1-0001)"
    assert len((out / "hyp.trn").read_text().splitlines()) == len(TEXTS)

    model, saved, content = checkpoint.load_model(config.exp / "best.pt")
    tokens = checkpoint.tokens_of(content)
    utterances = read_manifests(config, ["test"])
    hypotheses = read_trn(out / "hyp.trn")
    for utterance in utterances[:3]:
        assert transcribe(Path(utterance.audio_filepath), model, tokens, saved) == hypotheses[utterance.id]

    report.plot_curves(checkpoint.load(config.exp / "last.pt"), config.exp / "curves.png")
    report.plot_alignment(utterances[1], model, tokens, saved, config.exp / "alignment.png")
    assert (config.exp / "curves.png").stat().st_size > 5000
    assert (config.exp / "alignment.png").stat().st_size > 5000
    text = report.report_text(saved, checkpoint.load(config.exp / "last.pt"), [result], 1000)
    assert line("WER", result["WER"]) in text
    assert "commit: " in text


def test_resumed_run_ends_in_the_same_weights(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(prepared(tiny("name=whole", "train.epochs=3", "data.speeds=[0.9,1.0]")))
    config = prepared(tiny("name=parts", "train.epochs=3", "data.speeds=[0.9,1.0]"))
    original = Trainer.train_step

    def interrupted(self: Trainer, batch: Batch, progress: float) -> float:
        if self.step == 3:  # the first step of the second epoch
            signal.raise_signal(signal.SIGINT)
        return original(self, batch, progress)

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

    def full(_content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk full"):
        patched.setattr(torch, "save", full)
        checkpoint.save(tmp_path / "last.pt", {"step": 2})
    assert checkpoint.load(tmp_path / "last.pt") == {"step": 1}


def test_a_batch_without_finite_loss_is_skipped_and_named(tiny: Make, caplog: pytest.LogCaptureFixture) -> None:
    config = prepared(tiny("train.epochs=1"))
    utterances = read_manifests(config, ["train"])
    batch = collate([SpeechDataset(utterances[:1], config, [1.0], pytest.fail)[0]])
    batch.targets, batch.target_lengths = torch.ones(90, dtype=torch.int32), torch.tensor([90])
    trainer = Trainer(config)
    before = [p.clone() for p in trainer.model.parameters()]
    with caplog.at_level(logging.WARNING):
        trainer.train_step(batch, 0.5)
    assert f"skipped a batch with loss inf: {utterances[0].id}" in caplog.text
    for a, b in zip(before, trainer.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_file_that_vanished_is_reported_and_counts_as_deleted(tiny: Make) -> None:
    config = prepared(tiny("train.epochs=1"))
    trained(config)
    Path(read_manifests(config, ["test"])[0].audio_filepath).unlink()
    (result,) = evaluate.evaluate(config.exp / "best.pt", config)
    assert result["unreadable"] == 1
    assert result["WER"]["total"] == sum(len(t.split()) for t in TEXTS)
    assert (config.exp / "decode_test_greedy" / "hyp.trn").read_text().startswith(" (7-1-0000)")


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

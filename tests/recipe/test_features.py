"""Features and augmentation: the same alone and in a batch, and for the same draws."""

from __future__ import annotations

import random
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
import torchaudio

import normalisation
from augmentation import Noise, SpecAugment, VocalTract, change_speed, stretch
from common.config import overridden
from config import Config, DataConfig, FeatureConfig
from features import LogMel, mirrored, read_audio
from manifest import Utterance
from tones import tones

LENGTHS = [16000, 200, 4000, 1, 12345, 159]


def speech(length: int, seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Utterances of several lengths, with NaN behind each."""
    samples = torch.full((len(LENGTHS), max(LENGTHS)), torch.nan)
    for n, length in enumerate(LENGTHS):
        samples[n, :length] = speech(length, n)
    return samples, torch.tensor(LENGTHS)


def statistics(config: FeatureConfig) -> torch.Tensor | None:
    values = torch.stack([torch.linspace(-9, -5, config.n_mels), torch.linspace(1, 2, config.n_mels)])
    return values if config.normalise == "global" else None


@pytest.mark.parametrize("normalise", ["utterance", "global"])
def test_features_are_the_same_alone_and_in_a_batch_and_padding_is_zero(normalise: str) -> None:
    config = FeatureConfig(normalise=normalise)
    log_mel = LogMel(config, statistics(config))
    features, lengths = log_mel(*batch())
    assert lengths.tolist() == [length // 160 + 1 for length in LENGTHS]
    assert features.shape == (len(LENGTHS), 101, 64)
    for n, frames in enumerate(lengths.tolist()):
        alone = log_mel.one(speech(LENGTHS[n], n))
        torch.testing.assert_close(features[n, :frames], alone, atol=1e-5, rtol=0)
        assert features[n, frames:].eq(0).all()


def test_ends_are_mirrored_as_torch_does() -> None:
    samples, lengths = batch()
    padded = mirrored(samples, lengths, 150)
    for n in (0, 1, 2, 4, 5):
        expected = torch.nn.functional.pad(speech(LENGTHS[n], n)[None], (150, 150), mode="reflect")[0]
        assert torch.equal(padded[n, : len(expected)], expected)
    assert padded[3, :301].eq(samples[3, 0]).all()  # one sample has no mirror image but itself


def test_features_are_torchaudios_with_each_band_normalised() -> None:
    samples = speech(8000, 7)
    power = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=64)(samples)
    expected = (power + 1e-6).log().T
    expected = (expected - expected.mean(0)) / (expected.std(0, correction=0) + 1e-2)
    torch.testing.assert_close(LogMel(FeatureConfig()).one(samples), expected, atol=1e-5, rtol=0)


def test_librosas_mel_scale_and_norm_can_be_asked_for() -> None:
    samples = speech(8000, 8)
    config = FeatureConfig(mel_scale="slaney", mel_norm="slaney")
    ours, _ = LogMel(config).log_mel(samples[None], torch.tensor([8000]))
    theirs = librosa.feature.melspectrogram(
        y=samples.numpy(), sr=16000, n_fft=400, hop_length=160, n_mels=64, pad_mode="reflect"
    )
    np.testing.assert_allclose(ours[0].T.exp().numpy() - 1e-6, theirs, rtol=1e-3, atol=1e-6)


def test_features_in_the_place_of_samples_pass_as_they_are() -> None:
    features, lengths = torch.randn(2, 5, 64), torch.tensor([5, 3])
    after, frames = LogMel(FeatureConfig())(features, lengths)
    assert after is features and frames is lengths


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        (FeatureConfig(normalise="batch"), None, "features.normalise must be utterance or global, got 'batch'"),
        (FeatureConfig(normalise="global"), None, "statistics must be given .* got none"),
        (FeatureConfig(), torch.zeros(2, 64), "statistics must be given .* got some"),
        (FeatureConfig(n_fft=401), None, "features.n_fft must be even, got 401"),
    ],
)
def test_features_that_cannot_be_are_refused(config: FeatureConfig, given: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMel(config, given)


def write_set(folder: Path, config: Config, lengths: list[int]) -> list[Utterance]:
    utterances = []
    for n, length in enumerate(lengths):
        soundfile.write(folder / f"{n}.wav", (speech(length, n) * 10**n).numpy(), 16000, subtype="FLOAT")
        utterances.append(Utterance(str(folder / f"{n}.wav"), length / 16000, "ONE", "7"))
    return utterances


def test_global_statistics_normalise_the_training_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = overridden(Config(), ["features.normalise=global"])
    utterances = write_set(tmp_path, config, [16000, 5000, 24000])
    missing = Utterance(str(tmp_path / "missing.wav"), 1.0, "ONE", "7")
    log_mel = LogMel(config.features, normalisation.measured([*utterances, missing], config))
    assert "left out of the statistics" in capsys.readouterr().out
    samples = [read_audio(u.audio_filepath, 16000) for u in utterances]
    features = torch.cat([log_mel.one(s) for s in samples])
    assert features.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(64), atol=1e-2, rtol=0)
    assert log_mel.one(samples[0]).mean() < log_mel.one(samples[2]).mean() - 1  # the louder voice stays louder


def augmented(draws: list[str], config: FeatureConfig | None = None) -> torch.Tensor:
    features = torch.ones(len(draws), 200, 64)
    lengths = torch.tensor([200, 100, 40, 4][: len(draws)])
    masks = SpecAugment(config or FeatureConfig(time_width=30, freq_width=20))
    masked: torch.Tensor = masks(features, lengths, draws)
    return masked


def test_masks_come_from_the_utterances_own_draw() -> None:
    first = augmented(["1 0 0", "1 0 1", "1 0 2"])
    assert torch.equal(first[:2], augmented(["1 0 0", "1 0 1"]))  # not from its batch
    again = augmented(["1 1 0", "1 0 1"])
    assert not torch.equal(first[0], again[0])  # another epoch
    assert torch.equal(first[1], again[1])


def test_masks_are_as_many_and_as_wide_as_the_settings_say() -> None:
    config = FeatureConfig(freq_masks=1, freq_width=5, time_masks=1, time_width=1000)
    widths, spans = set(), set()
    for epoch in range(300):
        masked = augmented([f"{epoch}", f"{epoch} b"], config)[1, :100] == 0
        widths.add(int(masked.all(0).sum()))
        spans.add(int(masked.all(1).sum()))
    assert widths == set(range(6))
    assert spans == set(range(21))  # a fifth of its 100 frames


def test_stretches_reach_both_ends() -> None:
    draw = random.Random(0)
    found = [stretch(6, 2, draw) for _ in range(300)]
    assert {start for start, stop in found if stop > start} == set(range(6))
    assert max(stop for _, stop in found) == 6


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_changes_length_and_pitch_together(speed: float) -> None:
    samples = torch.from_numpy(tones("ONE").astype(np.float32))[:8000]
    changed = change_speed(samples, speed)
    assert len(changed) == pytest.approx(8000 / speed, abs=1)
    spectrum = torch.fft.rfft(changed).abs()
    assert spectrum.argmax().item() * 16000 / len(changed) == pytest.approx(300 * speed, abs=3)


def peaks(features: torch.Tensor) -> torch.Tensor:
    """(N, T, F) to (N,): the band, in fractions, in the middle of what stands out."""
    return (features.mean(1) * torch.arange(features.shape[2])).sum(1) / features.mean(1).sum(1)


@pytest.mark.parametrize("frequency", [500.0, 1500.0, 3000.0])
def test_another_throat_moves_what_was_at_a_frequency_by_its_factor(frequency: float) -> None:
    throats, draws = VocalTract(FeatureConfig(warp=0.2)), [f"1 0 {n}" for n in range(60)]
    # a hill of bands around the frequency, which interpolation leaves a hill
    hill = torch.exp(-0.5 * ((torch.arange(64) - np.interp(frequency, throats.centres, np.arange(64))) / 3) ** 2)
    moved = throats(hill.expand(60, 5, 64).float(), draws)
    found = frequency / np.interp(peaks(moved).numpy(), np.arange(64), throats.centres)  # the factors
    assert 0.79 < found.min() < 0.85 and 1.15 < found.max() < 1.21
    again = throats(hill.expand(2, 5, 64).float(), draws[3:5])
    torch.testing.assert_close(again, moved[3:5])  # from its own draw, not from its batch
    assert not torch.equal(throats(hill.expand(1, 5, 64).float(), ["1 1 3"])[0], moved[3])  # another epoch


@pytest.mark.parametrize("warp", [0.3, 0.9])
def test_throats_keep_the_order_of_bands_and_both_ends(warp: float) -> None:
    throats, draws = VocalTract(FeatureConfig(warp=warp)), [str(n) for n in range(50)]
    read = throats(torch.arange(64.0).expand(50, 1, 64), draws)[:, 0]  # from where each band is read
    assert (read.diff() >= 0).all() and (read[:, 32:].diff() > 0).all()
    assert read.min() >= 0 and read[:, 0].max() < 1 and read[:, 63].min() > 60 and read.max() <= 63
    assert read[:, 40].std() > 1
    features = torch.randn(50, 7, 64)
    assert VocalTract(FeatureConfig())(features, draws) is features  # no warp, no work


@pytest.mark.parametrize("warp", [-0.1, 1.0])
def test_a_warp_must_leave_frequencies_in_order(warp: float) -> None:
    with pytest.raises(ValueError, match=r"features\.warp must be from 0 to less than 1"):
        VocalTract(FeatureConfig(warp=warp))


def noises(folder: Path) -> DataConfig:
    soundfile.write(folder / "long.wav", speech(44100, 1).numpy(), 22050)
    soundfile.write(folder / "short.flac", speech(800, 2).numpy(), 16000)
    return DataConfig(noise=str(folder), noise_share=1.0, noise_snr=[5.0, 15.0])


def test_noise_has_the_drawn_ratio_and_is_the_same_for_the_same_draw(tmp_path: Path) -> None:
    noise = Noise(noises(tmp_path), 16000, pytest.fail)
    samples, ratios = speech(16000, 3), []
    for k in range(40):
        noisy = noise.add(samples, random.Random(k))
        assert torch.equal(noisy, noise.add(samples, random.Random(k)))
        ratios.append(10 * (samples.square().sum() / (noisy - samples).square().sum()).log10().item())
    assert 4.99 <= min(ratios) < 7 and 13 < max(ratios) <= 15.01


def test_noise_is_heard_as_often_as_asked(tmp_path: Path) -> None:
    config = noises(tmp_path)
    config.noise_share = 0.25
    noise, samples = Noise(config, 16000, pytest.fail), speech(400, 3)
    heard = sum(not torch.equal(noise.add(samples, random.Random(k)), samples) for k in range(400))
    assert 70 < heard < 130


def test_silence_has_no_ratio_on_either_side(tmp_path: Path) -> None:
    config = noises(tmp_path)
    noise = Noise(config, 16000, pytest.fail)
    assert noise.add(torch.zeros(1000), random.Random(1)).eq(0).all()
    for path in noise.files:
        soundfile.write(path, np.zeros(5000), 16000)
    samples = speech(1000, 4)
    assert torch.equal(noise.add(samples, random.Random(1)), samples)
    assert torch.equal(noise.add(torch.zeros(1000), random.Random(1)), torch.zeros(1000))


def test_noise_files_that_cannot_be_opened_are_reported(tmp_path: Path) -> None:
    config = noises(tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    reports: list[str] = []
    assert len(Noise(config, 16000, reports.append).files) == 2
    assert len(reports) == 1 and "bad.wav" in reports[0]
    with pytest.raises(ValueError, match=r"data\.noise must be a folder with audio in it, got '/nowhere'"):
        Noise(DataConfig(noise="/nowhere"), 16000, pytest.fail)
    with pytest.raises(ValueError, match=r"data\.noise_snr must be .* got \[9.0, 3.0\]"):
        Noise(DataConfig(noise=str(tmp_path), noise_snr=[9.0, 3.0]), 16000, pytest.fail)


def test_a_cut_file_and_one_that_is_far_too_long_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.flac", tones("ONE TWO"), 16000)
    with pytest.raises(RuntimeError, match=r"too long: 1\.20 s, at most 0\.1"):
        read_audio(tmp_path / "x.flac", 16000, max_seconds=0.1)
    whole = (tmp_path / "x.flac").read_bytes()
    (tmp_path / "x.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError):
        read_audio(tmp_path / "x.flac", 16000)

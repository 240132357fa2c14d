"""Audio to log-mel features: reading any format, the spectrogram, normalisation, SpecAugment.

Shapes: S samples, T frames, F mel bands, N utterances.
"""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor, nn

from config import FeatureConfig


def read_audio(path: str | Path, sample_rate: int) -> Tensor:
    """The samples of a FLAC, WAV, MP3 or Ogg file, mixed to one channel and resampled: (S,) float32 in [-1, 1].

    Raises OSError or RuntimeError where that cannot be done.
    """
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if len(mono) == 0 or not np.isfinite(mono).all():
        raise RuntimeError(f"{path} must hold samples, all of them numbers")
    if rate != sample_rate:
        mono = librosa.resample(mono, orig_sr=rate, target_sr=sample_rate)
    return torch.from_numpy(mono)


def change_speed(samples: Tensor, speed: float) -> Tensor:
    """Play (S,) faster (> 1) or slower: tempo and pitch move together, as on a tape."""
    if speed == 1.0:
        return samples
    resampled: Tensor = torchaudio.functional.resample(samples, round(100 * speed), 100)
    return resampled


class LogMel(nn.Module):
    """(S,) samples to (T, F) features, T = S // hop_length + 1; each band has mean 0 and deviation 1.

    Statistics are the utterance's own: a voice's colour and a microphone's gain drop out, no batch or corpus enters.
    The mel scale is torchaudio's default (HTK), which librosa's default is not.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            config.sample_rate, n_fft=config.n_fft, hop_length=config.hop_length, n_mels=config.n_mels
        )

    def forward(self, samples: Tensor) -> Tensor:
        log_mel: Tensor = (self.mel(samples) + 1e-6).log()
        mean = log_mel.mean(-1, keepdim=True)
        deviation = log_mel.std(-1, keepdim=True, correction=0)
        return ((log_mel - mean) / (deviation + 1e-2)).T.contiguous()


class SpecAugment(nn.Module):
    """Bands and stretches of time set to 0, the mean; each utterance of (N, T, F) draws its own (Park et al. 2019)."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        masking = torchaudio.transforms
        self.masks = nn.Sequential(
            *[masking.FrequencyMasking(config.freq_width, iid_masks=True) for _ in range(config.freq_masks)],
            *[masking.TimeMasking(config.time_width, iid_masks=True, p=0.2) for _ in range(config.time_masks)],
        )

    def forward(self, features: Tensor) -> Tensor:
        masked: Tensor = self.masks(features.transpose(1, 2).unsqueeze(1))
        return masked.squeeze(1).transpose(1, 2)

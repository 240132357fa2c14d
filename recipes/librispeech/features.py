"""Audio to log-mel features: reading any format, the spectrogram, normalisation.

Shapes: S samples, T frames, F mel bands, N utterances.
"""

from __future__ import annotations

import math
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor, nn

from config import FeatureConfig

FORMATS = [".flac", ".wav", ".mp3", ".ogg", ".opus"]


def read_audio(path: str | Path, sample_rate: int, max_seconds: float = math.inf) -> Tensor:
    """The samples of a FLAC, WAV, MP3 or Ogg file, mixed to one channel and resampled: (S,) float32 in [-1, 1].

    Raises OSError or RuntimeError where that cannot be done; RuntimeError, before anything is decoded, where the file
    says that it is more than a second longer than ``max_seconds``.
    """
    with soundfile.SoundFile(path) as file:
        rate, promised = file.samplerate, file.frames
        if promised / rate > max_seconds + 1:  # headers of some formats are a little off
            raise RuntimeError(f"too long: {promised / rate:.2f} s, at most {max_seconds:g}")
        mono = file.read(dtype="float32", always_2d=True).mean(axis=1)
    if len(mono) == 0 or not np.isfinite(mono).all():
        raise RuntimeError(f"{path} must hold samples, all of them numbers")
    if rate != sample_rate:
        mono = librosa.resample(mono, orig_sr=rate, target_sr=sample_rate)
    return torch.from_numpy(mono)


def mirrored(samples: Tensor, lengths: Tensor, width: int) -> Tensor:
    """(N, S) to (N, S + 2 width): each utterance goes on backwards at its own two ends, as in torch.stft.

    What stands behind an utterance in the batch is not read; a mirror image that is longer than the utterance stays at
    its first sample.
    """
    place = torch.arange(-width, samples.shape[1] + width, device=samples.device).abs()[None]
    last = lengths[:, None] - 1
    return samples.gather(1, torch.where(place > last, 2 * last - place, place).clamp(min=0))


class LogMel(nn.Module):
    """Padded samples (N, S) and lengths (N,) in samples to normalised features (N, T, F) and lengths (N,) in frames.

    There are length // hop_length + 1 frames, each the logarithm of 1e-6 plus the power of a Hann window in triangular
    bands from 0 Hz to half the sample rate; behind an utterance's frames are zeros. It takes place where the samples
    are, in float32, and an utterance's features do not depend on its batch. Features (N, T, F) in the place of samples
    pass as they are.

    With ``features.normalise`` "utterance" each band has mean 0 and deviation 1 over the utterance: a voice's colour
    and a microphone's gain drop out. With "global", ``statistics`` (2, F) are the mean and deviation to take, those of
    the training speech, which ``normalisation.py`` measures.
    """

    statistics: Tensor | None

    def __init__(self, config: FeatureConfig, statistics: Tensor | None = None) -> None:
        super().__init__()
        if config.normalise not in ("utterance", "global"):
            raise ValueError(f"features.normalise must be utterance or global, got {config.normalise!r}")
        if (statistics is None) == (config.normalise == "global"):
            given = "none" if statistics is None else "some"
            raise ValueError(f"statistics must be given for features.normalise=global only, got {given}")
        if config.n_fft % 2:
            raise ValueError(f"features.n_fft must be even, got {config.n_fft}")
        self.hop_length, self.margin = config.hop_length, config.n_fft // 2
        self.mel = torchaudio.transforms.MelSpectrogram(
            config.sample_rate, n_fft=config.n_fft, hop_length=config.hop_length, n_mels=config.n_mels, center=False,
            mel_scale=config.mel_scale, norm=config.mel_norm or None,
        )  # fmt: skip
        self.register_buffer("statistics", statistics, persistent=False)

    def log_mel(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features before normalisation, and their lengths; what stands behind an utterance's frames is undefined."""
        with torch.autocast(samples.device.type, enabled=False):
            power: Tensor = self.mel(mirrored(samples, lengths, self.margin))
        return (power + 1e-6).log().transpose(1, 2), lengths // self.hop_length + 1

    @torch.no_grad()
    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if inputs.dim() == 3:
            return inputs, lengths
        features, lengths = self.log_mel(inputs, lengths)
        frames = lengths[:, None, None]
        valid = torch.arange(features.shape[1], device=features.device)[None, :, None] < frames
        if self.statistics is not None:
            mean, deviation = self.statistics
            return (features - mean) * valid / (deviation + 1e-2), lengths
        mean = (features * valid).sum(1, keepdim=True) / frames
        centred = (features - mean) * valid
        deviation = (centred.square().sum(1, keepdim=True) / frames).sqrt()
        return centred / (deviation + 1e-2), lengths

    def one(self, samples: Tensor) -> Tensor:
        """(S,) to (T, F), where this module is."""
        samples = samples.to(self.mel.spectrogram.window.device)
        features: Tensor = self(samples[None], torch.tensor([len(samples)], device=samples.device))[0]
        return features[0]

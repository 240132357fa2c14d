"""What training does to an utterance: speed, noise, another throat, masks.

Each draw is given its numbers: the same twice is the same.

Shapes: S samples, T frames, F mel bands, N utterances.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn

from config import DataConfig, FeatureConfig
from features import FORMATS


def change_speed(samples: Tensor, speed: float) -> Tensor:
    """Play (S,) faster (> 1) or slower: tempo and pitch move together, as on a tape."""
    if speed == 1.0:
        return samples
    resampled: Tensor = torchaudio.functional.resample(samples, round(100 * speed), 100)
    return resampled


class Noise:
    """Pieces of the audio files under ``data.noise``, at a drawn ratio of signal to noise.

    Files that cannot be opened are reported and not used; ValueError if none is left.
    """

    def __init__(self, config: DataConfig, sample_rate: int, report: Callable[[str], None]) -> None:
        self.share, self.sample_rate = config.noise_share, sample_rate
        if not 0 <= config.noise_share <= 1:
            raise ValueError(f"data.noise_share must be from 0 to 1, got {config.noise_share}")
        if len(config.noise_snr) != 2 or config.noise_snr[0] > config.noise_snr[1]:
            raise ValueError(f"data.noise_snr must be the lowest and the highest in decibel, got {config.noise_snr}")
        self.lowest, self.highest = config.noise_snr
        self.files: list[Path] = []
        for path in sorted(p for p in Path(config.noise).rglob("*") if p.suffix in FORMATS):
            try:
                with soundfile.SoundFile(path) as file:
                    if not file.frames:
                        raise RuntimeError("no samples")
                self.files.append(path)
            except (OSError, RuntimeError) as error:
                report(f"left out noise {path}: {error}")
        if not self.files:
            raise ValueError(f"data.noise must be a folder with audio in it, got {config.noise!r}")

    def piece(self, count: int, draw: random.Random) -> Tensor:
        """(count,) samples from a random place of a random file, repeated where the file is short."""
        path = draw.choice(self.files)
        with soundfile.SoundFile(path) as file:
            wanted = -(-count * file.samplerate // self.sample_rate)
            file.seek(draw.randrange(max(1, file.frames - wanted + 1)))
            mono = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        if len(mono) == 0:
            raise RuntimeError(f"{path} must hold samples, got none")
        if file.samplerate != self.sample_rate:
            mono = librosa.resample(mono, orig_sr=file.samplerate, target_sr=self.sample_rate)
        noise = torch.from_numpy(mono)
        return noise.repeat(-(-count // len(noise)))[:count]

    def add(self, samples: Tensor, draw: random.Random) -> Tensor:
        """(S,) with noise in it, or as it is, as often as ``data.noise_share`` says; OSError or RuntimeError where
        the drawn file cannot be read."""
        if draw.random() >= self.share:
            return samples
        noise, ratio = self.piece(len(samples), draw), draw.uniform(self.lowest, self.highest)
        if not torch.isfinite(noise).all():
            raise RuntimeError("noise must be numbers")
        if not noise.any():
            return samples  # no ratio to silence
        noisy: Tensor = torchaudio.functional.add_noise(samples, noise, torch.tensor(ratio))
        return noisy


class VocalTract(nn.Module):
    """Other throats: the frequencies of each utterance stretched by a factor of its own, ``features.warp`` from 1 at
    most (Jaitly and Hinton, "Vocal Tract Length Perturbation (VTLP) improves speech recognition", ICML workshop 2013).

    What was at the factor times f comes to lie at f, up to 0.6 of half the sample rate (4800 Hz at 16 kHz: the formants
    of speech are below), and on a straight line from there to the highest frequency, which stays where it is. Between
    two bands it is interpolated. Tempo stays as it was, other than with a change of speed. The factor comes from the
    utterance's own entry of ``draws``.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        if not 0 <= config.warp < 1:
            raise ValueError(f"features.warp must be from 0 to less than 1, got {config.warp}")
        self.warp, self.highest = config.warp, config.sample_rate / 2
        edges = librosa.mel_frequencies(config.n_mels + 2, fmax=self.highest, htk=config.mel_scale == "htk")
        self.centres = edges[1:-1]  # Hz

    def forward(self, features: Tensor, draws: Sequence[str]) -> Tensor:
        """Features (N, T, F) and N draws: a stretched copy, or the features themselves without a warp."""
        if self.warp == 0:
            return features
        factors = [1 + self.warp * random.Random(f"{draw} warp").uniform(-1, 1) for draw in draws]
        places = torch.from_numpy(np.stack([self.places(factor) for factor in factors])).to(features)[:, None]
        bands = torch.arange(len(self.centres), device=features.device)[:, None]
        with torch.autocast(features.device.type, enabled=False):
            return features @ (1 - (bands - places).abs()).clamp(min=0)  # each band from its two neighbours

    def places(self, factor: float) -> NDArray[np.float64]:
        """(F,): where among the bands each of them is read."""
        knee = 0.6 * self.highest * min(1.0, 1 / factor)
        read = np.interp(self.centres, [0.0, knee, self.highest], [0.0, factor * knee, self.highest])
        found: NDArray[np.float64] = np.interp(read, self.centres, np.arange(len(self.centres)))
        return found


class SpecAugment(nn.Module):
    """Bands and stretches of time set to 0, the mean (Park et al. 2019, without warping).

    An utterance's masks come from its own entry of ``draws`` and its own length, not from its batch. A stretch is at
    most a fifth of the utterance.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        for name in ("freq_masks", "freq_width", "time_masks", "time_width"):
            if getattr(config, name) < 0:
                raise ValueError(f"features.{name} must not be negative, got {getattr(config, name)}")
        self.config = config

    def forward(self, features: Tensor, lengths: Tensor, draws: Sequence[str]) -> Tensor:
        """Features (N, T, F), lengths (N,) in frames, N draws: a masked copy."""
        config, count, bands = self.config, *features.shape[::2]
        keep_frames = torch.ones(count, features.shape[1], 1, dtype=torch.bool)
        keep_bands = torch.ones(count, 1, bands, dtype=torch.bool)
        for n, (frames, seed) in enumerate(zip(lengths.tolist(), draws, strict=True)):
            draw = random.Random(f"{seed} masks")
            for _ in range(config.freq_masks):
                start, stop = stretch(bands, min(config.freq_width, bands), draw)
                keep_bands[n, 0, start:stop] = False
            for _ in range(config.time_masks):
                start, stop = stretch(frames, min(config.time_width, frames // 5), draw)
                keep_frames[n, start:stop] = False
        return features * (keep_frames.to(features.device) & keep_bands.to(features.device))


def stretch(size: int, widest: int, draw: random.Random) -> tuple[int, int]:
    """Where a mask of 0 to ``widest`` places begins and ends among ``size``."""
    width = draw.randint(0, widest)
    start = draw.randint(0, size - width)
    return start, start + width

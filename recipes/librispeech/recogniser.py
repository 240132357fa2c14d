"""A checkpoint ready for use: scores of samples, and of audio files of any length in bounded memory.

Shapes: S samples, T frames of scores, C classes, F mel bands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

import loading
from common import checkpoint
from common.distributed import Processes
from features import LogMel


class Chunk(NamedTuple):
    """A stretch of a file: (S,) samples from frame ``begin`` on, of which the frames from ``start`` to ``stop`` count.

    Frames are those of the LSTMs; ``stop`` is None in a file's last chunk.
    """

    samples: Tensor
    begin: int
    start: int
    stop: int | None


class Recogniser:
    """Features, model and tokens of the checkpoint at ``path``; samples and scores are on the CPU, wherever it is.

    Attributes:
        device: where features and scores are computed, chosen as by ``train.device``.
        sample_rate: Hz, of the samples it takes.
        frame_seconds: from one frame of scores to the next.
    """

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        self.device = Processes().device(device)
        self.model, self.config, self.content = loading.load_model(path)
        self.model.to(self.device)
        self.tokens, self.log_mel = checkpoint.tokens_of(self.content), loading.log_mel_of(self.content).to(self.device)
        self.sample_rate = self.config.features.sample_rate
        self.per_frame = math.prod(self.config.model.strides)  # spectra in a frame of the LSTMs
        self.lstm_seconds = self.config.features.hop_length * self.per_frame / self.sample_rate
        self.frame_seconds = self.lstm_seconds / self.config.model.upsample

    @torch.inference_mode()
    def scores(self, samples: Tensor, log_mel: LogMel | None = None) -> Tensor:
        """(S,) samples to (T, C) log-probabilities, all at once."""
        inputs, lengths = samples[None].to(self.device), torch.tensor([len(samples)], device=self.device)
        logits, _ = self.model(*(log_mel or self.log_mel)(inputs, lengths))
        log_probs: Tensor = logits[:, 0].log_softmax(-1).cpu()
        return log_probs

    def file_scores(self, path: str | Path, chunk_seconds: float = 60.0, overlap_seconds: float = 5.0) -> Tensor:
        """(T, C) log-probabilities of an audio file; OSError or RuntimeError where it cannot be read.

        A file of less than ``chunk_seconds`` is scored at once. A longer one is scored in chunks of that length, which
        overlap by twice ``overlap_seconds`` and are joined in the middle of that: every frame is taken from a chunk
        that goes on for at least ``overlap_seconds`` on either side of it, so no word is cut. Scores are those of the
        whole file but for what the LSTMs would remember over more than ``overlap_seconds``. Features are normalised as
        those of the whole file, whose mean and deviation are taken in a first pass.

        Memory: the activations of one chunk, and the scores: 10 MB an hour for characters at 25 frames a second.
        """
        if not 0 < 2 * overlap_seconds < chunk_seconds:
            given = f"{chunk_seconds:g} and {overlap_seconds:g}"
            raise ValueError(f"chunk_seconds must be more than two overlap_seconds, and those positive, got {given}")
        chunks = self.chunks(path, chunk_seconds, overlap_seconds)
        first = next(chunks)
        if first.stop is None:
            return self.scores(first.samples)
        log_mel = self.log_mel if self.log_mel.statistics is not None else self.normalised_over(path, chunk_seconds)
        found = [self.chunk_scores(first, log_mel)]
        found += [self.chunk_scores(chunk, log_mel) for chunk in chunks]
        return torch.cat(found)

    def chunk_scores(self, chunk: Chunk, log_mel: LogMel) -> Tensor:
        """The scores of the frames that count."""
        upsample = self.config.model.upsample
        stop = None if chunk.stop is None else (chunk.stop - chunk.begin) * upsample
        return self.scores(chunk.samples, log_mel)[(chunk.start - chunk.begin) * upsample : stop].clone()

    def normalised_over(self, path: str | Path, chunk_seconds: float) -> LogMel:
        """Features normalised by the mean and deviation of each band over a whole file."""
        features = self.config.features
        plain = LogMel(replace(features, normalise="global"), torch.zeros(2, features.n_mels))
        total, squares = torch.zeros(2, features.n_mels, dtype=torch.float64)
        frames = 0
        for samples, begin, start, stop in self.chunks(path, chunk_seconds, chunk_seconds / 10):
            bands = plain.log_mel(samples[None], torch.tensor([len(samples)]))[0][0].double()
            bands = bands[(start - begin) * self.per_frame : None if stop is None else (stop - begin) * self.per_frame]
            total += bands.sum(0)
            squares += bands.square().sum(0)
            frames += len(bands)
        mean = total / frames
        deviation = (squares / frames - mean.square()).clamp(min=0).sqrt()
        return LogMel(replace(features, normalise="global"), torch.stack([mean, deviation]).float()).to(self.device)

    def chunks(self, path: str | Path, chunk_seconds: float, overlap_seconds: float) -> Iterator[Chunk]:
        """A file's chunks, read one after the other, whatever its format: nothing is sought in it."""
        overlap = max(1, round(overlap_seconds / self.lstm_seconds))
        core = max(1, round(chunk_seconds / self.lstm_seconds) - 2 * overlap)  # frames that count
        with soundfile.SoundFile(path) as file:
            held: NDArray[np.float32] = np.zeros(0, np.float32)
            begin = start = 0
            while True:
                stop = start + core + (overlap if start == 0 else 0)
                wanted = self.native(stop + overlap, file.samplerate) - self.native(begin, file.samplerate) - len(held)
                block = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
                held = np.concatenate([held, block])
                if len(held) == 0 or not np.isfinite(block).all():
                    raise RuntimeError(f"{path} must hold samples, all of them numbers")
                samples = held
                if file.samplerate != self.sample_rate:
                    samples = librosa.resample(held, orig_sr=file.samplerate, target_sr=self.sample_rate)
                last = len(block) < wanted
                yield Chunk(torch.from_numpy(samples), begin, start, None if last else stop)
                if last:
                    return
                start = stop
                held = held[self.native(start - overlap, file.samplerate) - self.native(begin, file.samplerate) :]
                begin = start - overlap

    def native(self, frame: int, rate: int) -> int:
        """The first sample of a frame of the LSTMs, at the rate of a file."""
        return round(frame * self.lstm_seconds * rate)

"""The dataset: utterances as features or samples, from memory or disk.

Shapes: S samples, T frames, F mel bands.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from augmentation import Noise, change_speed
from common import batches
from common.tokens import Tokens
from config import Config
from features import LogMel, read_audio
from manifest import Utterance, fewest_samples, misfit

Item = batches.Item[Utterance]
Batch = batches.Batch[Utterance]


def kept_in_memory(utterances: Sequence[Utterance], config: Config, speeds: Sequence[float]) -> bool:
    """Whether ``data.in_memory`` has all features computed once: "auto" does if they take at most data.memory_gb."""
    choice = config.data.in_memory
    if choice not in ("auto", "true", "false"):
        raise ValueError(f"data.in_memory must be auto, true or false, got {choice!r}")
    if choice != "auto":
        return choice == "true"
    seconds = sum(u.duration / speed for u in utterances for speed in speeds)
    frames = seconds * config.features.sample_rate / config.features.hop_length
    return 4 * frames * config.features.n_mels <= 1e9 * config.data.memory_gb


class SpeechDataset(Dataset[Item]):
    """Utterances with their targets, and features (T, F) from memory or samples (S,) from disk.

    For training, each epoch draws a speed of ``data.speeds`` an utterance, and noise where ``data.noise`` is a folder.
    Draws come from the seed, the epoch and the utterance: a resumed epoch draws the same, on any number of processes.

    What has become unreadable since stage 0, and in training what is too long or too short for its text, stays an item
    without inputs: ``collate`` leaves it out of its batch and reports it there, whether it was read now or before.
    An hour of features takes 92 MB at 64 bands and one speed. With noise nothing is kept in memory.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        config: Config,
        tokens: Tokens,
        log_mel: LogMel,
        training: bool = False,
        report: Callable[[str], None] = print,
    ) -> None:
        self.utterances, self.config, self.tokens, self.training = list(utterances), config, tokens, training
        self.speeds = config.data.speeds if training else [1.0]
        self.noise: Noise | None = None
        if training and config.data.noise:
            if config.data.in_memory == "true":
                raise ValueError("data.in_memory must be auto or false with data.noise, got true")
            self.noise = Noise(config.data, config.features.sample_rate, report)
        self.epoch = 0
        self.in_memory = self.noise is None and kept_in_memory(self.utterances, config, self.speeds)
        self.kept: list[list[Tensor] | str] = []  # features at each speed, or why there are none
        if self.in_memory:
            shown = tqdm(self.utterances, desc="features", unit="utt", disable=len(self.utterances) < 50)
            self.kept = [self._features(utterance, log_mel) for utterance in shown]

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def lengths(self) -> list[float]:
        """Seconds of each utterance, at the lowest speed."""
        return [u.duration / min(self.speeds) for u in self.utterances]

    @property
    def workers(self) -> int:
        """``data.workers`` processes read what is not in memory."""
        return 0 if self.in_memory else self.config.data.workers

    def _features(self, utterance: Utterance, log_mel: LogMel) -> list[Tensor] | str:
        try:
            return [log_mel.one(self.samples(utterance, speed)).cpu() for speed in self.speeds]
        except (OSError, RuntimeError) as error:
            return str(error)

    def samples(self, utterance: Utterance, speed: float) -> Tensor:
        """(S,) samples from disk at one speed; OSError or RuntimeError says why the utterance cannot be used."""
        features, limit = self.config.features, self.config.data.max_seconds
        if not self.training:
            return read_audio(utterance.audio_filepath, features.sample_rate)
        samples = read_audio(utterance.audio_filepath, features.sample_rate, limit)
        # at its fastest, whatever is drawn: an utterance is either in every epoch or in none
        fewest = fewest_samples(len(samples) / features.sample_rate, self.config)
        reason, details = misfit(utterance.text, fewest, self.tokens, self.config)
        if reason:
            raise RuntimeError(f"{reason} ({details})")
        return change_speed(samples, speed)

    def __getitem__(self, index: int) -> Item:
        utterance = self.utterances[index]
        draw = f"{self.config.train.seed} {self.epoch} {index}"
        version = random.Random(draw).randrange(len(self.speeds))
        item = Item(utterance, draw, None, torch.tensor([], dtype=torch.int32), [])
        try:
            if self.in_memory:
                kept = self.kept[index]
                if isinstance(kept, str):
                    raise RuntimeError(kept)
                item.inputs = kept[version]
            else:
                item.inputs = self.samples(utterance, self.speeds[version])
            item.target = torch.tensor(self.tokens.encode(utterance.text), dtype=torch.int32)
        except (OSError, RuntimeError, ValueError) as error:
            item.inputs = None
            item.reports.append(f"left out {utterance.audio_filepath}: {error}")
            return item
        if self.noise:
            try:
                item.inputs = self.noise.add(item.inputs, random.Random(f"{draw} noise"))
            except (OSError, RuntimeError) as error:
                item.reports.append(f"no noise for {utterance.audio_filepath}: {error}")
        return item

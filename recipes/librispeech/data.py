"""The dataset, batches of seconds, and how a batch is padded.

Shapes: S samples, T frames, F mel bands, N utterances, L labels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from augmentation import Noise, change_speed
from config import Config
from features import LogMel, read_audio
from manifest import Utterance, fewest_samples, misfit
from tokens import Tokens


@dataclass
class Item:
    """An utterance as the dataset hands it out; ``inputs`` is None where it cannot be used, and ``reports`` say why."""

    utterance: Utterance
    draw: str
    inputs: Tensor | None  # (T, F) features or (S,) samples
    target: Tensor
    reports: list[str]


@dataclass
class Batch:
    """N utterances, N may be 0.

    Attributes:
        inputs: padded with zeros: features (N, T, F), or samples (N, S), of which ``LogMel`` makes features.
        lengths: (N,) of the inputs, in frames or samples.
        targets: the labels of all utterances in a row; target_lengths: (N,).
        draws: for each utterance what its random numbers of this epoch start from: seed, epoch and utterance.
        reports: a line for each utterance that was left out of the batch, and for each noise that could not be added.
    """

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    utterances: list[Utterance]
    draws: list[str]
    reports: list[str]

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            inputs=function(self.inputs),
            lengths=function(self.lengths),
            targets=function(self.targets),
            target_lengths=function(self.target_lengths),
        )

    def pin_memory(self) -> Batch:
        """As DataLoader asks for it."""
        return self._mapped(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        return self._mapped(lambda x: x.to(device, non_blocking=True))

    def only(self, wanted: Sequence[int]) -> Batch:
        """The batch of these of its utterances, in this order."""
        targets = self.targets.split(self.target_lengths.tolist())
        return Batch(
            self.inputs[wanted], self.lengths[wanted], torch.cat([targets[n] for n in wanted]),
            self.target_lengths[wanted], [self.utterances[n] for n in wanted], [self.draws[n] for n in wanted],
            self.reports,
        )  # fmt: skip


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
        fewest = fewest_samples(len(samples) / features.sample_rate, self.config, training=True)
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


def collate(items: Sequence[Item]) -> Batch:
    """Pad the inputs with zeros, concatenate the targets, leave out items without inputs."""
    whole = [(item, item.inputs) for item in items if item.inputs is not None]
    inputs, targets = [x for _, x in whole], [item.target for item, _ in whole]
    return Batch(
        pad_sequence(inputs, batch_first=True) if inputs else torch.zeros(0, 0),
        torch.tensor([len(x) for x in inputs], dtype=torch.int64),
        torch.cat(targets) if targets else torch.zeros(0, dtype=torch.int32),
        torch.tensor([len(t) for t in targets], dtype=torch.int64),
        [item.utterance for item, _ in whole],
        [item.draw for item, _ in whole],
        [line for item in items for line in item.reports],
    )


def load(dataset: SpeechDataset, batches: Sequence[list[int]]) -> DataLoader[Batch]:
    """``batches`` of indexes as batches, in their order; ``data.workers`` processes read ahead what is not in memory.

    Set ``dataset.epoch`` before the iteration begins. The global generator is not drawn from.
    """
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=0 if dataset.in_memory else dataset.config.data.workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


class BucketSampler(Sampler[list[int]]):
    """Batches of utterances of like duration; a batch holds at most ``batch_seconds`` of audio, its padding included.

    Every utterance comes exactly once an epoch; one longer than ``batch_seconds`` stands alone. Epoch 0 goes from
    short to long (SortaGrad: the first alignments are easiest on short utterances); later ones are shuffled, each by
    the seed and its own number, so that an interrupted epoch can be continued.
    """

    def __init__(self, durations: Sequence[float], batch_seconds: float, seed: int = 0, shuffle: bool = True) -> None:
        if batch_seconds <= 0:
            raise ValueError(f"batch_seconds must be positive, got {batch_seconds}")
        self.durations, self.batch_seconds, self.seed, self.shuffle = durations, batch_seconds, seed, shuffle
        self.epoch = 0

    def batches(self) -> list[list[int]]:
        draw = random.Random(f"{self.seed} {self.epoch}")
        shuffled = self.shuffle and self.epoch > 0
        # Durations blurred by a tenth: other neighbours each epoch, little more padding.
        blur = 0.1 if shuffled else 0.0
        keys = [d * draw.uniform(1 - blur, 1 + blur) for d in self.durations]
        batches: list[list[int]] = []
        longest = 0.0
        for index in sorted(range(len(keys)), key=keys.__getitem__):
            longest = max(longest, self.durations[index])
            if not batches or longest * (len(batches[-1]) + 1) > self.batch_seconds:
                batches.append([])
                longest = self.durations[index]
            batches[-1].append(index)
        if shuffled:
            draw.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches())

    def __len__(self) -> int:
        return len(self.batches())

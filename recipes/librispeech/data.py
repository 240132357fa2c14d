"""Manifests, the dataset of features, batches of seconds, and how a batch is padded."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from config import Config
from features import LogMel, change_speed, read_audio
from model import output_frames
from tokens import Tokens, read_tokens


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest; ``duration`` in seconds."""

    audio_filepath: str
    duration: float
    text: str
    speaker: str

    @property
    def id(self) -> str:
        return Path(self.audio_filepath).stem


@dataclass
class Batch:
    """N utterances: features (N, T, F) padded with zeros, lengths (N,) in frames, targets concatenated."""

    features: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    utterances: list[Utterance]

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.features.to(device), self.lengths.to(device), self.targets.to(device), self.target_lengths.to(device),
            self.utterances,
        )  # fmt: skip

    def only(self, wanted: Sequence[int]) -> Batch:
        """The batch of these of its utterances, in this order."""
        targets = self.targets.split(self.target_lengths.tolist())
        return Batch(
            self.features[wanted], self.lengths[wanted], torch.cat([targets[n] for n in wanted]),
            self.target_lengths[wanted], [self.utterances[n] for n in wanted],
        )  # fmt: skip


def fingerprint(utterances: Sequence[Utterance]) -> str:
    """The same for the same utterances and texts, wherever their files lie."""
    return hashlib.sha256("\n".join(f"{u.id} {u.text}" for u in utterances).encode()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename: there is the old file or the new one, whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def write_manifest(path: Path, utterances: Sequence[Utterance]) -> None:
    write_atomically(path, "".join(json.dumps(asdict(u)) + "\n" for u in utterances).encode())


def read_manifest(path: Path) -> list[Utterance]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run stage 0 (./run.sh --stage 0 --stop-stage 0)")
    with path.open(encoding="utf-8") as lines:
        return [Utterance(**json.loads(line)) for line in lines]


def read_manifests(config: Config, subsets: Sequence[str]) -> list[Utterance]:
    """The utterances that stages 0 and 1 accepted."""
    return [u for subset in subsets for u in read_manifest(config.manifests / f"{subset}.jsonl")]


def heard(duration: float, config: Config, training: bool) -> float:
    """The fewest seconds that ``duration`` seconds become: training plays them at each of ``data.speeds``."""
    return duration / max(config.data.speeds) if training else duration


def misfit(text: str, seconds: float, tokens: Tokens, config: Config) -> tuple[str, str]:
    """Why ``text`` cannot be learnt from so many seconds of audio: the reason and its details, empty if all is well."""
    if unknown := tokens.unknown(text):
        return "unknown characters", " ".join(map(repr, unknown))
    samples = math.floor(seconds * config.features.sample_rate)
    frames = output_frames(samples // config.features.hop_length + 1, config.model.strides)
    if (needed := tokens.frames_needed(text)) > frames:
        return "too short for its text", f"{frames} frames after the convolutions, {needed} needed"
    return "", ""


class SpeechDataset(Dataset[tuple[Tensor, Tensor, Utterance]]):
    """Features of every utterance, kept in memory: (T, F), targets (L,), and the utterance.

    Files that cannot be read are reported by ``report`` and left out. An hour takes 92 MB at 64 bands and one speed.
    """

    def __init__(
        self, utterances: list[Utterance], config: Config, speeds: Sequence[float], report: Callable[[str], None]
    ) -> None:
        self.utterances: list[Utterance] = []
        self.targets: list[Tensor] = []
        self.features: list[list[Tensor]] = []
        self.epoch = 0
        self.seed = config.train.seed
        tokens, log_mel = read_tokens(config), LogMel(config.features)
        for utterance in tqdm(utterances, desc="features", unit="utt", disable=len(utterances) < 50):
            try:
                samples = read_audio(utterance.audio_filepath, config.features.sample_rate)
            except (OSError, RuntimeError) as error:
                report(f"left out {utterance.audio_filepath}: {error}")
                continue
            self.utterances.append(utterance)
            self.targets.append(torch.tensor(tokens.encode(utterance.text), dtype=torch.int32))
            self.features.append([log_mel(change_speed(samples, speed)) for speed in speeds])

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Utterance]:
        versions = self.features[index]
        # Drawn from (seed, epoch, index), not from a running generator: a resumed epoch draws the same.
        choice = random.Random(f"{self.seed} {self.epoch} {index}").randrange(len(versions))
        return versions[choice], self.targets[index], self.utterances[index]


def collate(items: Sequence[tuple[Tensor, Tensor, Utterance]]) -> Batch:
    """Pad the features with zeros, concatenate the targets."""
    features, targets, utterances = zip(*items, strict=True)
    return Batch(
        pad_sequence(list(features), batch_first=True),
        torch.tensor([len(f) for f in features]),
        torch.cat(targets),
        torch.tensor([len(t) for t in targets]),
        list(utterances),
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

"""Settings of speech; those of loss, optimiser, budget and decoding, which all recipes have, are in common/config.py.

>>> config.overridden(Config(), ["model.hidden=320", "optim.lr=5e-4"]).model.hidden
320
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import config
from common.config import DecodeConfig, LossConfig, OptimConfig

RECIPE = Path(__file__).resolve().parent
PACKAGES = ["torchaudio", "jiwer"]  # whose versions stand beside every figure, after PyTorch's and ours


@dataclass
class DataConfig:
    root: str = ""  # a folder in LibriSpeech's layout; empty: data/spoken, the synthesised corpus
    note: str = ""  # stands beside every figure measured on this data
    train: list[str] = field(default_factory=lambda: ["train"])  # subset names: folders under root
    dev: list[str] = field(default_factory=lambda: ["dev"])
    test: list[str] = field(default_factory=lambda: ["test"])
    alphabet: str = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # every character a transcript may hold; the blank comes on top
    bpe: int = 0  # classes of byte pair encoding, the blank included; 0: characters
    min_seconds: float = 0.2  # of training utterances
    max_seconds: float = 20.0
    dev_limit: int = 0  # utterances scored after each epoch; 0: all of them
    speeds: list[float] = field(default_factory=lambda: [1.0])  # each epoch draws one a training utterance; hundredths
    noise: str = ""  # a folder of audio that is added to training utterances; empty: none
    noise_share: float = 0.5  # of the utterances of an epoch that hear it
    noise_snr: list[float] = field(default_factory=lambda: [10.0, 30.0])  # decibel, from and to
    in_memory: str = "auto"  # features: true, false (from disk, all the time), or auto: those that memory_gb can hold
    memory_gb: float = 4.0
    workers: int = 2  # processes that read from disk what is not in memory; 0: none


@dataclass
class FeatureConfig:
    sample_rate: int = 16000  # Hz; other rates are resampled
    n_fft: int = 400  # samples: 25 ms
    hop_length: int = 160  # samples: 10 ms, one frame
    n_mels: int = 64
    mel_scale: str = "htk"  # or slaney; torchaudio's default, and librosa's
    mel_norm: str = ""  # or slaney: triangles of equal area, librosa's default
    normalise: str = "utterance"  # each band to mean 0 and deviation 1; global: by those of the training set
    freq_masks: int = 2  # SpecAugment: how many masks, and the widest
    freq_width: int = 12  # mel bands
    time_masks: int = 2
    time_width: int = 20  # frames
    warp: float = 0.0  # VTLP: frequencies are stretched by a factor from 1 - warp to 1 + warp; 0: none are


@dataclass
class ModelConfig:
    channels: int = 256
    kernel: int = 5
    strides: list[int] = field(default_factory=lambda: [2, 2])  # one convolution each; their product divides the frames
    layers: int = 3
    hidden: int = 256  # a direction; the two are added
    dropout: float = 0.1
    upsample: int = 1  # frames of scores made of each frame of the LSTMs
    inter_layers: list[int] = field(default_factory=list)  # InterCTC: layers below the last with a loss of their own
    self_condition: bool = False  # the layers above those see what they found
    blank_bias: float = 0.0  # added to the blank's score before training, in nats


@dataclass
class TrainConfig(config.TrainConfig):
    batch_seconds: float = 100.0  # of audio, in one batch of one process


@dataclass
class Config:
    name: str = "demo"
    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    @property
    def root(self) -> Path:
        """Where the audio lies."""
        return Path(self.data.root).absolute() if self.data.root else RECIPE / "data" / "spoken"

    @property
    def manifests(self) -> Path:
        """Where this run's manifests and tokens lie."""
        return RECIPE / "data" / self.name

    @property
    def exp(self) -> Path:
        """Where this run's results lie."""
        return RECIPE / "exp" / self.name

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def from_dict(values: Mapping[str, Any]) -> Config:
    """The defaults with ``values`` over them."""
    return config.filled(Config(), values)


def load(path: str | Path, words: Iterable[str] = ()) -> Config:
    """Read a YAML file; relative ``data.root`` means relative to where the user stands."""
    return config.read(Config(), path, words)


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """The two arguments every stage takes."""
    return config.argument_parser(description, RECIPE / "conf" / "demo.yaml")

"""Settings of OCR; those of loss, optimiser, budget and decoding, which all recipes have, are in common/config.py."""

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
PACKAGES = ["pillow", "scikit-learn", "jiwer"]  # whose versions stand beside every figure, after PyTorch's and ours


@dataclass
class DataConfig:
    root: str = ""  # a folder with a folder for each subset, or one of lines to be dealt out; empty: data/<name>-lines
    drawn: str = ""  # what stage 0 draws into it where root is empty: digits, or printed
    counts: list[int] = field(default_factory=lambda: [10000, 500, 1000])  # lines drawn for each of train, dev and test
    seed: int = 1  # of what is drawn, and of how one folder of lines is dealt out
    note: str = ""  # stands beside every figure measured on this data
    train: list[str] = field(default_factory=lambda: ["train"])  # subset names: folders under root
    dev: list[str] = field(default_factory=lambda: ["dev"])
    test: list[str] = field(default_factory=lambda: ["test"])
    alphabet: str = ""  # every character a text may hold; empty: those of the training texts
    max_columns: int = 2000  # of a training line, at the height of images.height
    dev_limit: int = 0  # lines scored after each epoch; 0: all of them
    memory_gb: float = 2.0  # of images that are kept; more are read from disk, all the time
    workers: int = 2  # processes that read from disk what is not kept; 0: none


@dataclass
class FontConfig:
    """Families of the printed lines: none of dev or test may be in training."""

    train: list[str] = field(default_factory=list)
    dev: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)


@dataclass
class ImageConfig:
    height: int = 32  # rows that every line is scaled to, its width in proportion
    distort: float = 0.5  # of a training line, anew each epoch: 0 leaves it as it is, 1 is what drawn test lines have
    elastic: float = 0.02  # how far it is pulled about besides, as a share of its height


@dataclass
class ModelConfig:
    channels: list[int] = field(default_factory=lambda: [32, 64, 96, 128])  # of each convolution
    rows: list[int] = field(default_factory=lambda: [2, 2, 2, 2])  # by which each divides the height
    columns: list[int] = field(default_factory=lambda: [2, 1, 2, 1])  # and the width
    kernel: int = 3
    layers: int = 2
    hidden: int = 128  # a direction; the two are added
    dropout: float = 0.1
    upsample: int = 1  # frames of scores made of each frame of the LSTMs
    inter_layers: list[int] = field(default_factory=list)  # InterCTC, as in the recipe of speech
    self_condition: bool = False
    blank_bias: float = 0.0  # added to the blank's score before training, in nats


@dataclass
class TrainConfig(config.TrainConfig):
    batch_columns: int = 8000  # in one batch of one process, at the height of images.height


@dataclass
class Config:
    name: str = "digits"
    data: DataConfig = field(default_factory=DataConfig)
    fonts: FontConfig = field(default_factory=FontConfig)
    images: ImageConfig = field(default_factory=ImageConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    @property
    def root(self) -> Path:
        """Where the images lie."""
        return Path(self.data.root).absolute() if self.data.root else RECIPE / "data" / f"{self.data.drawn}-lines"

    @property
    def manifests(self) -> Path:
        """Where this run's manifests and alphabet lie."""
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


def peer_of(settings: Config) -> Config:
    """The same run with PyTorch's loss, ``<name>-torch``; its texts are read greedily only."""
    return config.overridden(settings, [f"name={settings.name}-torch", "loss.package=torch", "decode.methods=greedy"])


def argument_parser(description: str | None, stages: Iterable[str]) -> argparse.ArgumentParser:
    """What each of ``stages`` takes."""
    return config.argument_parser(description, RECIPE / "conf" / "digits.yaml", stages)

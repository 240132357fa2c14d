"""Settings: dataclasses filled from YAML, then from ``key=value`` words of the command line.

>>> overridden(Config(), ["model.hidden=320", "optim.lr=5e-4"]).model.hidden
320
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

RECIPE = Path(__file__).resolve().parent


@dataclass
class DataConfig:
    root: str = ""  # a folder in LibriSpeech's layout; empty: data/spoken, the synthesised corpus
    note: str = ""  # stands beside every figure measured on this data
    train: list[str] = field(default_factory=lambda: ["train"])  # subset names: folders under root
    dev: list[str] = field(default_factory=lambda: ["dev"])
    test: list[str] = field(default_factory=lambda: ["test"])
    alphabet: str = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # every character a transcript may hold; the blank comes on top
    bpe: int = 0  # classes of byte pair encoding, the blank included; 0: characters
    min_seconds: float = 0.2
    max_seconds: float = 20.0  # of training utterances
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


@dataclass
class ModelConfig:
    channels: int = 256
    kernel: int = 5
    strides: list[int] = field(default_factory=lambda: [2, 2])  # one convolution each; their product divides the frames
    layers: int = 3
    hidden: int = 256  # a direction; the two are added
    dropout: float = 0.1
    inter_layers: list[int] = field(default_factory=list)  # InterCTC: layers below the last with a loss of their own
    self_condition: bool = False  # the layers above those see what they found
    blank_bias: float = 0.0  # added to the blank's score before training, in nats


@dataclass
class LossConfig:
    package: str = "numbactc"  # or torch: PyTorch's own CTC loss, to compare
    inter_weight: float = 0.3  # of the losses of model.inter_layers, against that of the last layer
    consistency: float = 0.0  # CR-CTC: weight of what two augmented copies disagree by; 0: one copy, half the work


@dataclass
class OptimConfig:
    lr: float = 2e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05  # share of the budget
    clip: float = 2.0  # norm of the gradient
    average: float = 0.998  # decay a step of the averaged weights


@dataclass
class TrainConfig:
    minutes: float = 0.0  # budget of training time, summed over resumes; 0: none
    epochs: int = 0  # budget of epochs; 0: none
    steps: int = 0  # budget of steps; 0: none. The first budget used up ends the run
    patience: int = 0  # epochs in a row without a new best dev WER that end the run; 0: none do
    batch_seconds: float = 100.0  # of audio, in one batch of one process
    accumulate: int = 1  # batches of each process in a step
    device: str = "auto"  # cpu, cuda, cuda:1, or auto: a GPU where PyTorch finds one
    save_minutes: float = 0.5  # last.pt is written at least this often
    precision: str = "auto"  # float32, bfloat16, or auto: bfloat16 where the device multiplies it in hardware
    seed: int = 1
    threads: int = 0  # 0: torch's own choice


@dataclass
class DecodeConfig:
    # greedy; beam; words and tokens: beam with an n-gram model of the training transcripts
    methods: list[str] = field(default_factory=lambda: ["greedy", "beam", "words", "tokens"])
    lm: str = ""  # an ARPA file, for one more method, arpa
    lm_unit: str = "word"  # what it is a model of: word, or token
    word_order: int = 3  # words in the longest n-gram
    token_order: int = 7
    beam_size: int = 64
    beam_threshold: float = 15.0  # nats: beginnings this much less likely than the best one are dropped
    token_threshold: float = -10.0  # nats: less likely classes extend no text
    tune: bool = True  # the four below, on dev; where false, they are used as they are
    lm_weight: float = 0.5
    word_bonus: float = 1.0  # nats a word
    token_bonus: float = 0.5  # nats a token
    unknown_penalty: float = 6.0  # nats a word that is not in the model; negative: there are no such words


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
        return Path(self.data.root) if self.data.root else RECIPE / "data" / "spoken"

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


def _converted(key: str, annotation: Any, new: Any) -> Any:
    """``new`` as the type of its setting: YAML reads 5e-4 as text, so numbers are converted, not only checked."""
    wanted = get_origin(annotation) or annotation
    try:
        if wanted is list:
            (item,) = get_args(annotation)
            return [item(x) for x in (new if isinstance(new, list) else str(new).split(","))]
        if wanted is int and int(new) != float(new):
            raise ValueError
        if wanted in (int, float) and not isinstance(new, bool):
            return wanted(new)
        if wanted is str and isinstance(new, bool):  # YAML's true beside a word, as in data.in_memory
            return str(new).lower()
    except (TypeError, ValueError):
        raise ValueError(f"{key} must be {wanted.__name__}, got {new!r}") from None
    if not isinstance(new, wanted):
        raise ValueError(f"{key} must be {wanted.__name__}, got {new!r}")
    return new


def _filled(config: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A copy of the dataclass ``config`` with ``values`` in it; a key it does not have is an error that names it."""
    changes: dict[str, Any] = {}
    known = get_type_hints(type(config))
    for key, value in values.items():
        path = f"{prefix}{key}"
        if key not in known:
            raise ValueError(f"unknown key {path!r}: known are {', '.join(prefix + k for k in known)}")
        old = getattr(config, key)
        if dataclasses.is_dataclass(old):
            if not isinstance(value, Mapping):
                raise ValueError(f"{path} must be a section of keys, got {value!r}")
            changes[key] = _filled(old, value, f"{path}.")
        else:
            changes[key] = _converted(path, known[key], value)
    return dataclasses.replace(config, **changes)


def from_dict(values: Mapping[str, Any]) -> Config:
    """The defaults with ``values`` over them."""
    config: Config = _filled(Config(), values)
    return config


def overridden(config: Config, words: Iterable[str]) -> Config:
    """``config`` with each ``section.key=value`` applied."""
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"an override must be key=value, got {word!r}")
        value: Any = (
            text if key in ("data.alphabet", "data.noise", "data.note", "data.root", "name") else yaml.safe_load(text)
        )
        for part in reversed(key.split(".")):
            value = {part: value}
        config = _filled(config, value)
    return config


def load(path: str | Path, words: Iterable[str] = ()) -> Config:
    """Read a YAML file; relative ``data.root`` means relative to where the user stands."""
    values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    return overridden(from_dict(values), words)


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """The two arguments every stage takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(RECIPE / "conf" / "demo.yaml"), help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as model.hidden=320")
    return parser

"""Settings: dataclasses filled from YAML, then from ``key=value`` words; the sections that all recipes have."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args, get_origin, get_type_hints

import yaml

# text, whatever YAML would make of it
VERBATIM = (
    "data.alphabet", "data.noise", "data.note", "data.root", "decode.lm", "decode.vocabulary", "name", "train.init",
)  # fmt: skip


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
    clip: float = 2.0  # norm of the gradient, at most; 0: it is not clipped
    average: float = 0.998  # decay a step of the averaged weights


@dataclass
class TrainConfig:
    minutes: float = 0.0  # budget of training time, summed over resumes; 0: none
    epochs: int = 0  # budget of epochs; 0: none
    steps: int = 0  # budget of steps; 0: none. The first budget used up ends the run
    patience: int = 0  # epochs in a row without a new best dev WER that end the run; 0: none do
    sorted_epochs: int = 1  # SortaGrad: at the start, so many epochs go from short to long
    accumulate: int = 1  # batches of each process in a step
    device: str = "auto"  # cpu, cuda, cuda:1, or auto: a GPU where PyTorch finds one
    save_minutes: float = 0.5  # last.pt is written at least this often
    precision: str = "auto"  # float32, bfloat16, or auto: bfloat16 where the device multiplies it in hardware
    init: str = ""  # a checkpoint of the same model and tokens to take the weights from; empty: they are drawn
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
    vocabulary: str = ""  # a file of further words for the method words, each with its frequency elsewhere
    beam_size: int = 64
    beam_threshold: float = 15.0  # nats: beginnings this much less likely than the best one are dropped
    token_threshold: float = -10.0  # nats: less likely classes extend no text
    tune: bool = True  # the four below, on dev; where false, they are used as they are
    lm_weight: float = 0.5
    word_bonus: float = 1.0  # nats a word
    token_bonus: float = 0.5  # nats a token
    unknown_penalty: float = 6.0  # nats a word that is not in the model; negative: there are no such words


class Sets(Protocol):
    """The data of a run: names of subsets, and what stands beside every figure measured on them."""

    train: list[str]
    dev: list[str]
    test: list[str]
    note: str


class Settings(Protocol):
    """What every recipe's dataclass ``Config`` has."""

    name: str

    @property
    def data(self) -> Sets: ...

    @property
    def loss(self) -> LossConfig: ...

    @property
    def optim(self) -> OptimConfig: ...

    @property
    def train(self) -> TrainConfig: ...

    @property
    def decode(self) -> DecodeConfig: ...

    @property
    def manifests(self) -> Path:
        """Where the run's manifests lie, and what was left out of them."""

    @property
    def exp(self) -> Path:
        """Where the run's results lie."""

    def to_dict(self) -> dict[str, Any]: ...


C = TypeVar("C")


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


def filled(config: C, values: Mapping[str, Any], prefix: str = "") -> C:
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
            changes[key] = filled(old, value, f"{path}.")
        else:
            changes[key] = _converted(path, known[key], value)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def overridden(config: C, words: Iterable[str]) -> C:
    """``config`` with each ``section.key=value`` applied."""
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"an override must be key=value, got {word!r}")
        value: Any = text if key in VERBATIM else plain(text, key)
        for part in reversed(key.split(".")):
            value = {part: value}
        config = filled(config, value)
    return config


def plain(text: str, source: str) -> Any:
    """What YAML's ``text`` says; it makes text, numbers, lists and sections and runs nothing, whoever wrote it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} must be plain YAML: {error}") from error


def read(defaults: C, path: str | Path, words: Iterable[str] = ()) -> C:
    """``defaults`` with a YAML file and then ``words`` over them."""
    values = plain(Path(path).read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} must be sections of keys, got {values!r:.80}")
    return overridden(filled(defaults, values), words)


def argument_parser(description: str | None, default: Path, stages: Iterable[str] = ()) -> argparse.ArgumentParser:
    """The two arguments every stage takes, after its name where one program has several ``stages``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if stages:
        parser.add_argument("stage", choices=list(stages))
    parser.add_argument("--config", default=str(default), help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as model.hidden=320")
    return parser

"""Batches of like length, how a batch is padded, and what an example of it is.

Shapes: T frames, F features a frame, N utterances, L labels; what is said of utterances holds for lines of an image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """(T, N, 1), True where frame t belongs to utterance n, False in its padding."""
    return (torch.arange(frames, device=lengths.device)[:, None] < lengths[None, :])[..., None]


class Example(Protocol):
    """A line of a manifest; ``nouns`` are what it is, and what its source is: ("utterance", "speaker")."""

    nouns: ClassVar[tuple[str, str]]

    @property
    def id(self) -> str:
        """Its name, the same wherever its file lies."""

    @property
    def text(self) -> str:
        """What was said, or what is written."""

    @property
    def source(self) -> str:
        """Who said it, or what it is written in: no source is on both sides of a fair comparison."""


E = TypeVar("E", bound=Example)


@dataclass
class Item(Generic[E]):
    """An utterance as the dataset hands it out; ``inputs`` is None where it cannot be used, and ``reports`` say why."""

    utterance: E
    draw: str
    inputs: Tensor | None  # (T, F) features, or what they are made of
    target: Tensor
    reports: list[str]


@dataclass
class Batch(Generic[E]):
    """N utterances, N may be 0.

    Attributes:
        inputs: padded with zeros: features (N, T, F), or what a model's features are made of, such as samples (N, S).
        lengths: (N,) of the inputs, in frames or what takes their place.
        targets: the labels of all utterances in a row; target_lengths: (N,).
        draws: for each utterance what its random numbers of this epoch start from: seed, epoch and utterance.
        reports: a line for each utterance that was left out of the batch, and for whatever else went wrong.
    """

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    utterances: list[E]
    draws: list[str]
    reports: list[str]

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> Batch[E]:
        return replace(
            self,
            inputs=function(self.inputs),
            lengths=function(self.lengths),
            targets=function(self.targets),
            target_lengths=function(self.target_lengths),
        )

    def pin_memory(self) -> Batch[E]:
        """As DataLoader asks for it."""
        return self._mapped(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch[E]:
        return self._mapped(lambda x: x.to(device, non_blocking=True))

    def only(self, wanted: Sequence[int]) -> Batch[E]:
        """The batch of these of its utterances, in this order."""
        targets = self.targets.split(self.target_lengths.tolist())
        return Batch(
            self.inputs[wanted], self.lengths[wanted], torch.cat([targets[n] for n in wanted]),
            self.target_lengths[wanted], [self.utterances[n] for n in wanted], [self.draws[n] for n in wanted],
            self.reports,
        )  # fmt: skip


def collate(items: Sequence[Item[E]]) -> Batch[E]:
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


class Examples(Protocol[E]):
    """A data set; its items' random numbers are those of ``epoch``."""

    epoch: int

    @property
    def utterances(self) -> list[E]: ...

    @property
    def lengths(self) -> list[float]:
        """Of each utterance, in seconds, or columns of an image."""

    @property
    def workers(self) -> int:
        """Processes that read ahead; 0: none."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item[E]: ...


def load(dataset: Examples[E], batches: Sequence[list[int]]) -> DataLoader[Batch[E]]:
    """``batches`` of indexes as batches, in their order.

    Set ``dataset.epoch`` before the iteration begins. The global generator is not drawn from.
    """
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=dataset.workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


class BucketSampler(Sampler[list[int]]):
    """Batches of utterances of like length; a batch is at most ``batch_length`` long, its padding included.

    Lengths are in seconds, or columns of images. Every utterance comes exactly once an epoch; one longer than
    ``batch_length`` stands alone. The first ``sorted_epochs`` epochs go from short to long (SortaGrad: the first
    alignments are easiest on short utterances; Amodei et al., "Deep Speech 2", ICML 2016); later ones are shuffled,
    each by the seed and its own number, so that an interrupted epoch can be continued. Without ``shuffle`` all are
    sorted.
    """

    def __init__(
        self, lengths: Sequence[float], batch_length: float, seed: int = 0, shuffle: bool = True, sorted_epochs: int = 1
    ) -> None:
        if batch_length <= 0:
            raise ValueError(f"train.batch_seconds, or train.batch_columns, must be positive, got {batch_length:g}")
        if sorted_epochs < 0:
            raise ValueError(f"train.sorted_epochs must not be negative, got {sorted_epochs}")
        self.lengths, self.batch_length, self.seed, self.shuffle = lengths, batch_length, seed, shuffle
        self.sorted_epochs = sorted_epochs
        self.epoch = 0

    def batches(self) -> list[list[int]]:
        draw = random.Random(f"{self.seed} {self.epoch}")
        shuffled = self.shuffle and self.epoch >= self.sorted_epochs
        # Lengths blurred by a tenth: other neighbours each epoch, little more padding.
        blur = 0.1 if shuffled else 0.0
        keys = [d * draw.uniform(1 - blur, 1 + blur) for d in self.lengths]
        batches: list[list[int]] = []
        longest = 0.0
        for index in sorted(range(len(keys)), key=keys.__getitem__):
            longest = max(longest, self.lengths[index])
            if not batches or longest * (len(batches[-1]) + 1) > self.batch_length:
                batches.append([])
                longest = self.lengths[index]
            batches[-1].append(index)
        if shuffled:
            draw.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches())

    def __len__(self) -> int:
        return len(self.batches())

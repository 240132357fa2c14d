"""What OCR brings to the training and the evaluation that the recipes share: lines as tensors, and the CRNN."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from common import evaluation, trainer
from common.batches import Batch, Item
from common.scores import Scored, gathered, scored
from common.tokens import Characters, Tokens
from crnn import CRNN
from images import Pixels, as_tensor, columns_at, distorted, read_image, scaled
from lines import Line, read_alphabet, read_manifests
from reader import Reader
from settings import PACKAGES, Config


class LineDataset(Dataset[Item[Line]]):
    """Lines with their targets, as tensors (columns, rows); for training distorted anew each epoch.

    Draws come from the seed, the epoch and the line: a resumed epoch draws the same, on any number of processes. What
    has become unreadable since stage 0 stays an item without inputs, that is left out of its batch and reported.
    """

    def __init__(self, utterances: Sequence[Line], config: Config, tokens: Tokens, training: bool = False) -> None:
        self.utterances, self.config, self.tokens = list(utterances), config, tokens
        self.training = training
        self.epoch = 0
        height = config.images.height
        self.lengths = [float(columns_at((line.columns, line.rows), height)) for line in self.utterances]
        self.kept: dict[int, Pixels] | None = {} if height * sum(self.lengths) <= 1e9 * config.data.memory_gb else None

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def workers(self) -> int:
        return self.config.data.workers if self.kept is None else 0

    def pixels(self, index: int) -> Pixels:
        """A line's image at the model's height, from memory or disk."""
        if self.kept is not None and index in self.kept:
            return self.kept[index]
        pixels = scaled(read_image(self.utterances[index].image), self.config.images.height)
        if self.kept is not None:
            self.kept[index] = pixels
        return pixels

    def __getitem__(self, index: int) -> Item[Line]:
        line = self.utterances[index]
        draw = f"{self.config.train.seed} {self.epoch} {index}"
        item = Item(line, draw, None, torch.tensor(self.tokens.encode(line.text), dtype=torch.int32), [])
        try:
            pixels = self.pixels(index)
        except (OSError, ValueError) as error:
            item.reports.append(f"left out {line.image}: {error}")
            return item
        generator = np.random.default_rng(random.Random(draw).getrandbits(64))
        if self.training:
            pixels = distorted(pixels, generator, self.config.images.distort, self.config.images.elastic)
        item.inputs = as_tensor(pixels)
        return item


class LineTrainer(trainer.Trainer[Config, Line]):
    """A run on lines: what `common.trainer.Trainer` asks of a recipe."""

    model: CRNN
    packages = PACKAGES
    meaning = ("images.height", "model.rows", "model.columns")

    def build(self) -> tuple[Tokens, CRNN]:
        tokens = Characters(read_alphabet(self.config))
        return tokens, CRNN(self.config.images, self.config.model, len(tokens))

    def examples(self) -> list[Line]:
        return read_manifests(self.config, self.config.data.train)

    def data_sets(self) -> tuple[LineDataset, LineDataset]:
        config = self.config
        chosen = read_manifests(config, config.data.dev)
        if 0 < config.data.dev_limit < len(chosen):
            chosen = random.Random(config.train.seed).sample(chosen, config.data.dev_limit)
        train = LineDataset(self.train_set, config, self.tokens, training=True)
        return train, LineDataset(chosen, config, self.tokens)

    @property
    def batch_length(self) -> float:
        return self.config.train.batch_columns

    def all_scores(self, batch: Batch[Line], views: int) -> tuple[list[Tensor], Tensor]:
        return self.model.all_scores(batch.inputs.repeat(views, 1, 1), batch.lengths.repeat(views))

    def score_batch(self, batch: Batch[Line]) -> tuple[Tensor, Tensor]:
        logits, input_lengths = self.average.module(batch.inputs, batch.lengths)
        return logits, input_lengths


def confusions(references: Sequence[str], texts: Sequence[str]) -> Counter[tuple[str, str]]:
    """How often a character was read as another; "" for one that is missing, and for what one too many stands for.

    >>> confusions(["A1B", "20"], ["AIB", "201"])
    Counter({('1', 'I'): 1, ('', '1'): 1})
    """
    counts: Counter[tuple[str, str]] = Counter()
    out = jiwer.process_characters(list(references), list(texts))
    for said, read, chunks in zip(out.references, out.hypotheses, out.alignments, strict=True):
        for chunk in chunks:
            if chunk.type == "equal":
                continue
            ours = said[chunk.ref_start_idx : chunk.ref_end_idx] or [""]
            theirs = read[chunk.hyp_start_idx : chunk.hyp_end_idx] or [""]
            if chunk.type == "insert":
                counts.update(("", character) for character in theirs)
            elif chunk.type == "delete":
                counts.update((character, "") for character in ours)
            else:
                counts.update(zip(ours, theirs, strict=True))
    return counts


class LineEvaluation(evaluation.Evaluation[Line]):
    """Of the checkpoint at ``path``."""

    def __init__(self, path: Path, settings: Config) -> None:
        self.reader = Reader(path, settings.train.device)
        super().__init__(self.reader.content, self.reader.config, self.reader.tokens, settings, path.parent)

    def read(self, subsets: Sequence[str]) -> list[Line]:
        return read_manifests(self.reader.config, subsets)

    def score(self, utterances: list[Line]) -> Scored:
        """What cannot be read is said."""
        model, config = self.reader.model, self.reader.config

        def score(batch: Batch[Line]) -> tuple[Tensor, Tensor]:
            logits, input_lengths = model(batch.inputs, batch.lengths)
            return logits, input_lengths

        batches = scored(model, score, LineDataset(utterances, config, self.tokens), config.train.batch_columns)
        return gathered(batches, utterances, len(self.tokens))

    def details(self, references: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
        right = sum(ours == theirs for ours, theirs in zip(references, texts, strict=True))
        exact = {"percent": 100 * right / len(texts), "right": right, "total": len(texts)}
        common = confusions(references, texts).most_common()
        return {"exact": exact, "confusions": [[*pair, count] for pair, count in common]}

"""What speech brings to the training: utterances as features, SpecAugment, the acoustic model."""

from __future__ import annotations

import random
from typing import Any

from torch import Tensor

import loading
from augmentation import SpecAugment, VocalTract
from common import trainer
from common.tokens import Tokens
from common.trainer import log
from config import PACKAGES, Config
from data import Batch, SpeechDataset
from manifest import Utterance, read_manifests
from model import AcousticModel
from normalisation import read_log_mel
from vocabulary import read_tokens


class Trainer(trainer.Trainer[Config, Utterance]):
    """A run on utterances: what `common.trainer.Trainer` asks of a recipe."""

    model: AcousticModel
    packages = PACKAGES
    meaning = (
        *(f"features.{name}" for name in ("sample_rate", "n_fft", "hop_length", "mel_scale", "mel_norm", "normalise")),
        "model.strides",
    )

    def build(self) -> tuple[Tokens, AcousticModel]:
        tokens = read_tokens(self.config)
        self.log_mel = read_log_mel(self.config).to(self.device)
        self.throats = VocalTract(self.config.features)
        self.masks = SpecAugment(self.config.features)
        return tokens, loading.build_model(self.config, tokens)

    def kept(self) -> dict[str, Any]:
        return {**super().kept(), "statistics": self.log_mel.statistics}

    def take(self, content: dict[str, Any]) -> None:
        """The statistics that its features were normalised by, whatever stage 1 has measured since."""
        if self.log_mel.statistics is not None:
            self.log_mel.statistics = content["statistics"].to(self.device)

    def examples(self) -> list[Utterance]:
        return read_manifests(self.config, self.config.data.train)

    def data_sets(self) -> tuple[SpeechDataset, SpeechDataset]:
        """Features of the training set, at all speeds, and of as much of the dev set as is scored after each epoch."""
        config = self.config
        parts = config, self.tokens, self.log_mel
        train = SpeechDataset(self.train_set, *parts, training=True, report=log.warning)
        chosen = read_manifests(config, config.data.dev)
        if 0 < config.data.dev_limit < len(chosen):
            chosen = random.Random(config.train.seed).sample(chosen, config.data.dev_limit)
        return train, SpeechDataset(chosen, *parts)

    @property
    def batch_length(self) -> float:
        return self.config.train.batch_seconds

    def all_scores(self, batch: Batch, views: int) -> tuple[list[Tensor], Tensor]:
        features, lengths = self.log_mel(batch.inputs, batch.lengths)
        features, lengths = features.repeat(views, 1, 1), lengths.repeat(views)
        draws = [f"{draw} {view}" for view in range(views) for draw in batch.draws]
        return self.model.all_scores(self.masks(self.throats(features, draws), lengths, draws), lengths)

    def score_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, input_lengths = self.average.module(*self.log_mel(batch.inputs, batch.lengths))
        return logits, input_lengths

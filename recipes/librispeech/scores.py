"""Scores of a whole set, computed once for every way to decode it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from config import Config
from data import Batch, BucketSampler, SpeechDataset, Utterance, collate
from model import AcousticModel


class Scored(NamedTuple):
    """Utterances and the (T, C) log-probabilities of each, in float32 on the CPU; no frames where it was unreadable."""

    utterances: list[Utterance]
    log_probs: list[Tensor]

    def some(self, indexes: Sequence[int]) -> Scored:
        return Scored([self.utterances[i] for i in indexes], [self.log_probs[i] for i in indexes])


def scored(
    model: AcousticModel, dataset: SpeechDataset, batch_seconds: float
) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Batches of the whole data set, from short to long, with their logits (T, N, C) in float32 and input_lengths."""
    model.eval()
    sampler = BucketSampler([u.duration for u in dataset.utterances], batch_seconds, shuffle=False)
    loader: DataLoader[Any] = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)
    with torch.inference_mode():
        for batch in tqdm(loader, desc="decode", unit="batch", leave=False):
            yield batch, *model(batch.features, batch.lengths)


def score_all(model: AcousticModel, utterances: Sequence[Utterance], config: Config) -> tuple[Scored, list[str]]:
    """The scores of all utterances, in order of their ids, and a message for each that could not be read.

    It takes 4 bytes a frame and class: some 3 kB a second of audio for characters at 25 frames a second.
    """
    failed: list[str] = []
    dataset = SpeechDataset(list(utterances), config, [1.0], failed.append)
    found: dict[str, Tensor] = {}
    classes = model.head.out_features
    for batch, logits, input_lengths in scored(model, dataset, config.train.batch_seconds):
        log_probs = logits.log_softmax(-1).cpu()
        for n, (utterance, frames) in enumerate(zip(batch.utterances, input_lengths.tolist(), strict=True)):
            found[utterance.audio_filepath] = log_probs[:frames, n].clone()
    ordered = sorted(utterances, key=lambda u: u.id)
    # What could not be read counts as transcribed by nothing: an error rate never improves by a broken file.
    return Scored(ordered, [found.get(u.audio_filepath, torch.zeros(0, classes)) for u in ordered]), failed

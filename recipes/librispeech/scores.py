"""Scores of a whole set, computed once for every way to decode it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from data import Batch, BucketSampler, SpeechDataset, load
from features import LogMel
from manifest import Utterance
from model import AcousticModel
from recogniser import Recogniser


class Scored(NamedTuple):
    """Utterances and the (T, C) log-probabilities of each, in float32 on the CPU; no frames where it was unreadable."""

    utterances: list[Utterance]
    log_probs: list[Tensor]

    def some(self, indexes: Sequence[int]) -> Scored:
        return Scored([self.utterances[i] for i in indexes], [self.log_probs[i] for i in indexes])


def scored(
    model: AcousticModel, log_mel: LogMel, dataset: SpeechDataset, batch_seconds: float
) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Batches of the whole data set, from short to long, with their logits (T, N, C) in float32 and input_lengths.

    All of it, the batch too, is where the model is; ``log_mel`` must be there.
    """
    model.eval()
    device = next(model.parameters()).device
    sampler = BucketSampler([u.duration for u in dataset.utterances], batch_seconds, shuffle=False)
    with torch.inference_mode():
        for batch in tqdm(load(dataset, sampler.batches()), desc="decode", unit="batch", leave=False):
            for line in batch.reports:
                tqdm.write(line)
            if batch.utterances:
                batch = batch.to(device)
                yield batch, *model(*log_mel(batch.inputs, batch.lengths))


def score_all(recogniser: Recogniser, utterances: Sequence[Utterance]) -> Scored:
    """The scores of all utterances, in order of their ids; what cannot be read is said.

    It takes 4 bytes a frame and class: some 3 kB a second of audio for characters at 25 frames a second.
    """
    model, config, log_mel = recogniser.model, recogniser.config, recogniser.log_mel
    dataset = SpeechDataset(list(utterances), config, recogniser.tokens, log_mel)
    found: dict[str, Tensor] = {}
    for batch, logits, input_lengths in scored(model, log_mel, dataset, config.train.batch_seconds):
        log_probs = logits.log_softmax(-1).cpu()
        for n, (utterance, frames) in enumerate(zip(batch.utterances, input_lengths.tolist(), strict=True)):
            found[utterance.audio_filepath] = log_probs[:frames, n].clone()
    ordered = sorted(utterances, key=lambda u: u.id)
    # What could not be read counts as transcribed by nothing: an error rate never improves by a broken file.
    nothing = torch.zeros(0, len(recogniser.tokens))
    return Scored(ordered, [found.get(u.audio_filepath, nothing) for u in ordered])

"""Scores of a whole set, computed once for every way to decode it.

Shapes: T frames, N utterances, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.batches import Batch, BucketSampler, E, Example, Examples, load


class Scored(NamedTuple):
    """Utterances and the (T, C) log-probabilities of each, in float32 on the CPU; no frames where it was unreadable."""

    utterances: Sequence[Example]
    log_probs: list[Tensor]

    @property
    def noun(self) -> str:
        """What a source of them is."""
        return self.utterances[0].nouns[1]


def scored(
    model: nn.Module, score: Callable[[Batch[E]], tuple[Tensor, Tensor]], dataset: Examples[E], batch_length: float
) -> Iterator[tuple[Batch[E], Tensor, Tensor]]:
    """Batches of the whole data set, from short to long, with their logits (T, N, C) in float32 and input_lengths.

    ``score`` computes these of a batch by ``model``. All of it, the batch too, is where the model is.
    """
    model.eval()
    device = next(model.parameters()).device
    sampler = BucketSampler(dataset.lengths, batch_length, shuffle=False)
    with torch.inference_mode():
        for batch in tqdm(load(dataset, sampler.batches()), desc="decode", unit="batch", leave=False):
            for line in batch.reports:
                tqdm.write(line)
            if batch.utterances:
                batch = batch.to(device)
                yield batch, *score(batch)


def gathered(batches: Iterator[tuple[Batch[E], Tensor, Tensor]], utterances: Sequence[E], classes: int) -> Scored:
    """The scores of all utterances, in order of their ids, from those of their batches.

    It takes 4 bytes a frame and class: some 3 kB a second of audio for characters at 25 frames a second.
    """
    found: dict[E, Tensor] = {}
    for batch, logits, input_lengths in batches:
        log_probs = logits.log_softmax(-1).cpu()
        for n, (utterance, frames) in enumerate(zip(batch.utterances, input_lengths.tolist(), strict=True)):
            found[utterance] = log_probs[:frames, n].clone()
    ordered = sorted(utterances, key=lambda u: u.id)
    # What could not be read counts as transcribed by nothing: an error rate never improves by a broken file.
    nothing = torch.zeros(0, classes)
    return Scored(ordered, [found.get(u, nothing) for u in ordered])

"""What scores a sequence of vectors, whatever they were made of: residual BiLSTM layers and a linear head.

Shapes: T frames, N utterances, F features a frame, C classes.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from common.batches import valid_frames
from common.tokens import BLANK


class RecurrentConfig(Protocol):
    """The settings of the layers that all recipes have."""

    layers: int
    hidden: int
    dropout: float
    upsample: int
    inter_layers: list[int]
    self_condition: bool
    blank_bias: float


def output_frames(frames: int, strides: list[int], upsample: int = 1) -> int:
    """Frames of scores made of ``frames``: each convolution divides by its stride, rounding up, and each of the frames
    left is scored ``upsample`` times.

    >>> output_frames(101, [2, 2])
    26
    >>> output_frames(101, [2, 2], upsample=2)
    52
    """
    for stride in strides:
        frames = -(-frames // stride)
    return upsample * frames


class Recurrent(nn.Module):
    """A model's part behind its convolutions.

    The LSTMs have no bias, so their state stays exactly zero while the input is: the backward direction enters each
    utterance as if it stood alone, at several times the speed of packed sequences on a CPU. (The offset of the norm
    before each LSTM does a bias's work.) The two directions are added, not concatenated, as in Deep Speech 2: half the
    input weights of every layer, and the residual fits as it is.

    The head scores each of the LSTMs' frames ``model.upsample`` times, one after the other, so that up to so many
    labels fit in one. Only head, loss and decoder work more for it: LSTMs may have few frames, and scores many.

    ``model.inter_layers`` (1 is the first) names layers whose output goes through the same norm and head as the last
    one's, for a loss of its own (Lee and Watanabe, "Intermediate Loss Regularization for CTC-based Speech Recognition",
    ICASSP 2021). With ``model.self_condition`` the layers above also see the classes found there (Nozaki and Komatsu,
    "Relaxing the Conditional Independence Assumption of CTC-based ASR", Interspeech 2021).
    """

    def add_layers(self, inputs: int, model: RecurrentConfig, classes: int) -> None:
        """Make the layers, after those that the subclass has made: weights are drawn and listed in this order."""
        if not set(model.inter_layers) <= set(range(1, model.layers)):
            raise ValueError(f"model.inter_layers must be from 1 to {model.layers - 1}, got {model.inter_layers}")
        if model.self_condition and not model.inter_layers:
            raise ValueError("model.self_condition needs model.inter_layers, got none")
        if model.upsample < 1:
            raise ValueError(f"model.upsample must be at least 1, got {model.upsample}")
        width = model.hidden
        self.project = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(model.layers))
        self.lstms = nn.ModuleList(
            nn.LSTM(width, model.hidden, bidirectional=True, bias=False) for _ in range(model.layers)
        )
        self.dropout = nn.Dropout(model.dropout)
        self.final_norm = nn.LayerNorm(width)
        self.upsample = model.upsample
        self.head = nn.Linear(width, classes * model.upsample)
        with torch.no_grad():
            self.head.bias[BLANK::classes] += model.blank_bias
        self.inter_layers = set(model.inter_layers)
        self.condition = nn.Linear(classes * model.upsample, width) if model.self_condition else None

    def layer_scores(self, features: Tensor, lengths: Tensor) -> list[Tensor]:
        """(T, N, F) to logits (T * upsample, N, C): of each of ``model.inter_layers``, then those of the last layer."""
        x = self.dropout(self.project(features))
        valid = valid_frames(lengths, x.shape[0])
        scores: list[Tensor] = []
        for layer, (norm, lstm) in enumerate(zip(self.norms, self.lstms, strict=True), start=1):
            forwards, backwards = lstm(norm(x) * valid)[0].chunk(2, dim=-1)
            x = x + self.dropout(forwards + backwards)
            if layer in self.inter_layers:
                found = self._scored(x)
                scores.append(found.flatten(0, 1))
                if self.condition is not None:
                    x = x + self.condition(found.softmax(-1).transpose(1, 2).flatten(2))
        return [*scores, self._scored(x).flatten(0, 1)]

    def _scored(self, x: Tensor) -> Tensor:
        """(T, N, F) to logits (T, upsample, N, C)."""
        scores: Tensor = self.head(self.final_norm(x)).float().unflatten(2, (self.upsample, -1)).transpose(1, 2)
        return scores

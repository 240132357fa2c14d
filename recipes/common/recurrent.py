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
    inter_layers: list[int]
    self_condition: bool
    blank_bias: float


def output_frames(frames: int, strides: list[int]) -> int:
    """Frames left of ``frames`` after the convolutions: each divides by its stride, rounding up.

    >>> output_frames(101, [2, 2])
    26
    """
    for stride in strides:
        frames = -(-frames // stride)
    return frames


class Recurrent(nn.Module):
    """A model's part behind its convolutions.

    The LSTMs have no bias, so their state stays exactly zero while the input is: the backward direction enters each
    utterance as if it stood alone, at several times the speed of packed sequences on a CPU. (The offset of the norm
    before each LSTM does a bias's work.) The two directions are added, not concatenated, as in Deep Speech 2: half the
    input weights of every layer, and the residual fits as it is.

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
        width = model.hidden
        self.project = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(model.layers))
        self.lstms = nn.ModuleList(
            nn.LSTM(width, model.hidden, bidirectional=True, bias=False) for _ in range(model.layers)
        )
        self.dropout = nn.Dropout(model.dropout)
        self.final_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        with torch.no_grad():
            self.head.bias[BLANK] += model.blank_bias
        self.inter_layers = set(model.inter_layers)
        self.condition = nn.Linear(classes, width) if model.self_condition else None

    def layer_scores(self, features: Tensor, lengths: Tensor) -> list[Tensor]:
        """(T, N, F) to the logits (T, N, C) of each of ``model.inter_layers``, then those of the last layer."""
        x = self.dropout(self.project(features))
        valid = valid_frames(lengths, x.shape[0])
        scores: list[Tensor] = []
        for layer, (norm, lstm) in enumerate(zip(self.norms, self.lstms, strict=True), start=1):
            forwards, backwards = lstm(norm(x) * valid)[0].chunk(2, dim=-1)
            x = x + self.dropout(forwards + backwards)
            if layer in self.inter_layers:
                scores.append(self.head(self.final_norm(x)).float())
                if self.condition is not None:
                    x = x + self.condition(scores[-1].softmax(-1))
        return [*scores, self.head(self.final_norm(x)).float()]

"""The acoustic model: strided convolutions, residual BiLSTM layers, a linear head.

Shapes: T frames, N utterances, F mel bands, C classes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from config import FeatureConfig, ModelConfig
from tokens import BLANK


def output_frames(frames: int, strides: list[int]) -> int:
    """Frames left of ``frames`` after the convolutions: each divides by its stride, rounding up.

    >>> output_frames(101, [2, 2])
    26
    """
    for stride in strides:
        frames = -(-frames // stride)
    return frames


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """(T, N, 1), True where frame t belongs to utterance n, False in its padding."""
    return (torch.arange(frames, device=lengths.device)[:, None] < lengths[None, :])[..., None]


class AcousticModel(nn.Module):
    """Padded features (N, T, F) and their lengths (N,) to logits (T', N, C) and input_lengths (N,).

    An utterance's scores do not depend on what else is in the batch: padding is set to zero before everything that
    looks at neighbouring frames, and the LSTMs have no bias, so their state stays exactly zero while the input is.
    The backward direction thus enters each utterance as if it stood alone, at several times the speed of packed
    sequences on a CPU. (The offset of the norm before each LSTM does a bias's work.) The two directions are added, not
    concatenated, as in Deep Speech 2: half the input weights of every layer, and the residual fits as it is.

    ``model.inter_layers`` (1 is the first) names layers whose output goes through the same norm and head as the last
    one's, for a loss of its own (Lee and Watanabe, "Intermediate Loss Regularization for CTC-based Speech Recognition",
    ICASSP 2021). With ``model.self_condition`` the layers above also see the classes found there (Nozaki and Komatsu,
    "Relaxing the Conditional Independence Assumption of CTC-based ASR", Interspeech 2021).
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig, classes: int) -> None:
        super().__init__()
        width = model.hidden
        if model.kernel % 2 == 0:
            raise ValueError(f"model.kernel must be odd, got {model.kernel}")
        if not set(model.inter_layers) <= set(range(1, model.layers)):
            raise ValueError(f"model.inter_layers must be from 1 to {model.layers - 1}, got {model.inter_layers}")
        if model.self_condition and not model.inter_layers:
            raise ValueError("model.self_condition needs model.inter_layers, got none")
        channels = [features.n_mels] + [model.channels] * len(model.strides)
        self.strides = model.strides
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, model.kernel, stride, model.kernel // 2)
            for (a, b), stride in zip(pairwise(channels), model.strides, strict=True)
        )
        self.project = nn.Linear(model.channels, width)
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

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        scores, lengths = self.all_scores(features, lengths)
        return scores[-1], lengths

    def all_scores(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The logits (T', N, C) of each of ``model.inter_layers``, then those of the last layer; and input_lengths."""
        x = features * valid_frames(lengths, features.shape[1]).transpose(0, 1)
        x = x.transpose(1, 2)
        for conv, stride in zip(self.convs, self.strides, strict=True):
            lengths = (lengths + stride - 1) // stride
            x = torch.relu(conv(x))
            x = x * valid_frames(lengths, x.shape[2]).permute(1, 2, 0)
        x = self.dropout(self.project(x.permute(2, 0, 1)))
        valid = valid_frames(lengths, x.shape[0])
        scores: list[Tensor] = []
        for layer, (norm, lstm) in enumerate(zip(self.norms, self.lstms, strict=True), start=1):
            forwards, backwards = lstm(norm(x) * valid)[0].chunk(2, dim=-1)
            x = x + self.dropout(forwards + backwards)
            if layer in self.inter_layers:
                scores.append(self.head(self.final_norm(x)).float())
                if self.condition is not None:
                    x = x + self.condition(scores[-1].softmax(-1))
        return [*scores, self.head(self.final_norm(x)).float()], lengths

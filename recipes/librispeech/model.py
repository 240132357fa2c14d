"""The acoustic model: strided convolutions, residual BiLSTM layers, a linear head.

Shapes: T frames, N utterances, F mel bands, C classes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from common.batches import valid_frames
from common.recurrent import Recurrent
from config import FeatureConfig, ModelConfig


class AcousticModel(Recurrent):
    """Padded features (N, T, F) and their lengths (N,) to logits (T', N, C) and input_lengths (N,).

    An utterance's scores do not depend on what else is in the batch: padding is set to zero before everything that
    looks at neighbouring frames.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig, classes: int) -> None:
        super().__init__()
        if model.kernel % 2 == 0:
            raise ValueError(f"model.kernel must be odd, got {model.kernel}")
        channels = [features.n_mels] + [model.channels] * len(model.strides)
        self.strides = model.strides
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, model.kernel, stride, model.kernel // 2)
            for (a, b), stride in zip(pairwise(channels), model.strides, strict=True)
        )
        self.add_layers(model.channels, model, classes)

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
        return self.layer_scores(x.permute(2, 0, 1), lengths), self.upsample * lengths

"""The model: strided convolutions over the image, residual BiLSTM layers over its columns, a linear head.

Shapes: W columns and H rows of images, T frames, N lines, C classes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from common.batches import valid_frames
from common.recurrent import Recurrent, output_frames
from settings import ImageConfig, ModelConfig


class CRNN(Recurrent):
    """Padded lines (N, W, H) and their lengths (N,) in columns to logits (T, N, C) and input_lengths (N,).

    A line's scores do not depend on what else is in the batch: padding is set to zero before everything that looks at
    neighbouring columns, and there is no norm over the batch or the image.

    References: Shi, Bai, Yao, "An end-to-end trainable neural network for image-based sequence recognition and its
    application to scene text recognition", 2015.
    """

    def __init__(self, images: ImageConfig, model: ModelConfig, classes: int) -> None:
        super().__init__()
        if model.kernel % 2 == 0:
            raise ValueError(f"model.kernel must be odd, got {model.kernel}")
        if not len(model.channels) == len(model.rows) == len(model.columns):
            counts = f"{len(model.channels)}, {len(model.rows)} and {len(model.columns)}"
            raise ValueError(f"model.channels, rows and columns must have a number a convolution each, got {counts}")
        self.strides = model.columns
        strides = list(zip(model.columns, model.rows, strict=True))
        convs = [
            nn.Conv2d(a, b, model.kernel, stride, model.kernel // 2)
            for (a, b), stride in zip(pairwise([1, *model.channels]), strides, strict=True)
        ]
        for conv in convs:  # PyTorch's own draw makes each layer's output smaller than its input
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            # three fifths of the time in bfloat16 on a CPU, and the images follow the weights
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.convs = nn.ModuleList(convs)
        self.add_layers(model.channels[-1] * output_frames(images.height, model.rows), model, classes)

    def forward(self, lines: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        scores, lengths = self.all_scores(lines, lengths)
        return scores[-1], lengths

    def all_scores(self, lines: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The logits (T, N, C) of each of ``model.inter_layers``, then those of the last layer; and input_lengths."""
        x = (lines * valid_frames(lengths, lines.shape[1]).transpose(0, 1))[:, None]  # (N, channels, W, H)
        for conv, stride in zip(self.convs, self.strides, strict=True):
            lengths = (lengths + stride - 1) // stride
            x = torch.relu(conv(x))
            x = x * valid_frames(lengths, x.shape[2]).permute(1, 2, 0)[..., None]
        return self.layer_scores(x.permute(2, 0, 3, 1).flatten(2), lengths), self.upsample * lengths

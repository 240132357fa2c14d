"""The CRNN: a line's scores are its own, whatever its neighbours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from common.recurrent import output_frames
from crnn import CRNN
from settings import Config

Make = Callable[..., Config]
OPTIONS = ["", "model.columns=2,2", "model.layers=2 model.inter_layers=1 model.self_condition=true", "model.upsample=2"]


def model_of(config: Config) -> CRNN:
    torch.manual_seed(1)
    return CRNN(config.images, config.model, 9).eval()


def batch_of(height: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 61, height, generator=generator), torch.tensor([61, 7, 1, 40, 33])


@pytest.mark.parametrize("options", OPTIONS)
def test_scores_do_not_depend_on_the_batch(tiny: Make, options: str) -> None:
    config = tiny(*options.split())
    model, (lines, lengths) = model_of(config), batch_of(16)
    scores, input_lengths = model.all_scores(lines, lengths)
    expected = [output_frames(n, config.model.columns, config.model.upsample) for n in lengths.tolist()]
    assert input_lengths.tolist() == expected
    for n, length in enumerate(lengths.tolist()):
        alone, frames = model.all_scores(lines[n : n + 1, :length], lengths[n : n + 1])
        for own, shared in zip(alone, scores, strict=True):
            assert own.shape[0] == frames.item() == input_lengths[n]
            torch.testing.assert_close(own[:, 0], shared[: frames.item(), n], atol=1e-5, rtol=0)


def test_padding_is_never_read(tiny: Make) -> None:
    model, (lines, lengths) = model_of(tiny()), batch_of(16)
    before, frames = model(lines, lengths)
    for n, length in enumerate(lengths.tolist()):
        lines[n, length:] = 1e4
    after, _ = model(lines, lengths)
    for n, count in enumerate(frames.tolist()):
        torch.testing.assert_close(after[:count, n], before[:count, n], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.kernel=4", "model.kernel must be odd, got 4"),
        ("model.rows=2", "model.channels, rows and columns must have a number a convolution each, got 2, 1 and 2"),
        ("model.inter_layers=1", r"model.inter_layers must be from 1 to 0, got \[1\]"),
    ],
)
def test_a_model_that_cannot_be_built_is_an_error_that_names_the_setting(tiny: Make, word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of(tiny(word))

"""The model: an utterance's scores are its own, whatever its neighbours and the options; what each option adds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.config import overridden
from common.recurrent import output_frames
from common.tokens import BLANK
from config import Config
from model import AcousticModel

OPTIONS = [
    "model.strides=[2,2]",
    "model.strides=[2,1]",
    "model.strides=[3]",
    "model.inter_layers=[1,2]",
    "model.inter_layers=[2] model.self_condition=true",
    "model.upsample=2 model.inter_layers=[1] model.self_condition=true",
]


def model_of(*words: str, classes: int = 9) -> tuple[AcousticModel, Config]:
    config = overridden(Config(), ["model.hidden=32", "model.channels=32", *words])
    torch.manual_seed(1)
    return AcousticModel(config.features, config.model, classes), config


def batch_of(config: Config, utterances: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([61, 7, 1, 40, 33][:utterances])
    features = torch.randn(utterances, 61, config.features.n_mels, generator=generator)
    return features, lengths


@pytest.mark.parametrize("options", OPTIONS)
def test_scores_do_not_depend_on_the_batch(options: str) -> None:
    model, config = model_of(*options.split())
    features, lengths = batch_of(config, 5)
    scores, input_lengths = model.eval().all_scores(features, lengths)
    expected = [output_frames(n, config.model.strides, config.model.upsample) for n in lengths.tolist()]
    assert input_lengths.tolist() == expected
    for n, length in enumerate(lengths.tolist()):
        alone, frames = model.all_scores(features[n : n + 1, :length], lengths[n : n + 1])
        for own, shared in zip(alone, scores, strict=True):
            assert own.shape[0] == frames.item() == input_lengths[n]
            torch.testing.assert_close(own[:, 0], shared[: frames.item(), n], atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", OPTIONS[:1] + OPTIONS[-1:])
def test_padding_is_never_read(options: str) -> None:
    model, config = model_of(*options.split())
    features, lengths = batch_of(config, 2)
    before, frames = model.eval()(features, lengths)
    features[1, 7:] = 1e4
    after, _ = model(features, lengths)
    torch.testing.assert_close(after[: frames[1], 1], before[: frames[1], 1], atol=0, rtol=0)


def test_intermediate_scores_come_first_and_leave_the_last_as_they_are() -> None:
    plain, config = model_of()
    model, _ = model_of("model.inter_layers=[1,2]")
    model.load_state_dict(plain.state_dict())
    features, lengths = batch_of(config, 3)
    scores, _ = model.eval().all_scores(features, lengths)
    (last,), _ = plain.eval().all_scores(features, lengths)
    assert len(scores) == 3
    torch.testing.assert_close(scores[-1], last, atol=0, rtol=0)
    torch.testing.assert_close(model(features, lengths)[0], last, atol=0, rtol=0)
    two_layers, _ = model_of("model.layers=2")
    two_layers.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(scores[1], two_layers.eval()(features, lengths)[0], atol=0, rtol=0)


def test_with_self_conditioning_upper_layers_see_what_lower_ones_found() -> None:
    model, config = model_of("model.inter_layers=[1]", "model.self_condition=true")
    features, lengths = batch_of(config, 3)
    (inter, last), _ = model.eval().all_scores(features, lengths)
    assert model.condition is not None
    with torch.no_grad():
        model.condition.weight.mul_(5)
    (inter_after, last_after), _ = model.all_scores(features, lengths)
    torch.testing.assert_close(inter_after, inter, atol=0, rtol=0)
    assert not torch.allclose(last_after, last, atol=1e-2)


def test_each_frame_of_the_lstms_is_scored_several_times_in_a_row() -> None:
    model, config = model_of("model.upsample=3", classes=4)
    once, _ = model_of(classes=4)
    features, lengths = batch_of(config, 5)
    scores, input_lengths = model.eval()(features, lengths)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("head")}
    for part in range(3):  # classes of the first time, then those of the second: as they lie in the head
        head = {f"head.{name}": value.unflatten(0, (3, 4))[part] for name, value in model.head.state_dict().items()}
        once.load_state_dict(state | head)
        expected, frames = once.eval()(features, lengths)
        torch.testing.assert_close(scores[part::3], expected, atol=1e-6, rtol=0)
        assert torch.equal(input_lengths, 3 * frames)


@pytest.mark.parametrize("upsample", [1, 2])
def test_the_blank_begins_with_the_bias_asked_for(upsample: int) -> None:
    word = f"model.upsample={upsample}"
    plain, biased = model_of(word)[0], model_of(word, "model.blank_bias=-3")[0]
    difference = (biased.head.bias - plain.head.bias).view(upsample, 9)
    torch.testing.assert_close(difference[:, BLANK], torch.full((upsample,), -3.0), atol=1e-6, rtol=0)
    assert difference.abs().sum().item() == pytest.approx(3 * upsample, abs=1e-6)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.kernel=4", "model.kernel must be odd, got 4"),
        ("model.inter_layers=[0]", r"model.inter_layers must be from 1 to 2, got \[0\]"),
        ("model.inter_layers=[3]", r"model.inter_layers must be from 1 to 2, got \[3\]"),
        ("model.upsample=0", "model.upsample must be at least 1, got 0"),
        ("model.self_condition=true", "model.self_condition needs model.inter_layers"),
    ],
)
def test_a_model_that_cannot_be_built_is_an_error_that_names_the_setting(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of(word)

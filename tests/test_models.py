"""Code of others, as it comes from PyPI, trains with `patch_torch` as without: the loss and all gradients.

No weights are downloaded, they are random, and models tiny. What is not installed is skipped: see `make test-models`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import numbactc
from numbactc import loss

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, at import and in what they call


class Step(NamedTuple):
    loss: float
    gradient: Tensor
    """Of all parameters, one after the other."""


def gradient_of(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def step_of(model: nn.Module, loss_of: Callable[[], Tensor]) -> Step:
    model.zero_grad()
    value = loss_of()
    value.backward()
    return Step(value.item(), gradient_of(model).clone())


def distance(one: Step, other: Step) -> float:
    """The largest difference of a gradient, relative to the largest gradient."""
    return ((one.gradient - other.gradient).abs().max() / other.gradient.abs().max()).item()


def assert_trains_alike(
    monkeypatch: pytest.MonkeyPatch, step: Callable[[], Step], truth: Callable[[], Step] | None = None
) -> None:
    """Within the error of PyTorch's loss in float32; where the truth is known, no further from it than that is."""
    calls, ours = [], loss.ctc_loss

    def counted(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return ours(*arguments)

    monkeypatch.setattr(loss, "ctc_loss", counted)
    before = step()
    assert not calls
    with numbactc.patch_torch():
        patched = step()
    assert calls
    assert patched.loss == pytest.approx(before.loss, rel=1e-6)
    print(f"\nloss {before.loss:.4f}; patched and not, gradients differ by {distance(patched, before):.1e}", end="")
    assert distance(patched, before) < 1e-4
    if truth:
        errors = [distance(each, truth()) for each in (before, patched)]
        print(f"; from float64 {errors[0]:.1e} without, {errors[1]:.1e} with", end="")
        assert errors[1] <= max(errors[0], 1e-6)  # of which the model alone makes some
    assert distance(step(), before) == 0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_hugging_face_wav2vec2(monkeypatch: pytest.MonkeyPatch, reduction: str) -> None:
    transformers = pytest.importorskip("transformers")
    names = "attention_dropout hidden_dropout activation_dropout feat_proj_dropout final_dropout layerdrop"
    config = transformers.Wav2Vec2Config(
        vocab_size=32, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, apply_spec_augment=False,
        ctc_loss_reduction=reduction, ctc_zero_infinity=True, **dict.fromkeys(names.split(), 0.0),
    )  # fmt: skip
    model = transformers.Wav2Vec2ForCTC(config).train()
    audio, labels = torch.randn(3, 32000), torch.randint(1, 32, (3, 25))
    mask = torch.ones(3, 32000, dtype=torch.int64)
    mask[1, 24000:] = 0
    labels[2, 14:] = -100  # their padding

    def truth() -> Step:
        """In float64 from end to end: Hugging Face takes the softmax in float32."""

        def float64_loss() -> Tensor:
            logits = model(audio.double(), attention_mask=mask).logits.log_softmax(-1).transpose(0, 1)
            frames, counts = model._get_feat_extract_output_lengths(mask.sum(-1)), (labels >= 0).sum(-1)
            return nn.functional.ctc_loss(logits, labels, frames, counts, reduction=reduction)

        model.double()
        result = step_of(model, float64_loss)
        model.float()
        return result

    assert_trains_alike(
        monkeypatch, lambda: step_of(model, lambda: model(audio, attention_mask=mask, labels=labels).loss), truth
    )


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "batch"])
def test_speechbrain(monkeypatch: pytest.MonkeyPatch, reduction: str) -> None:
    losses, crdnn = (pytest.importorskip(f"speechbrain.{name}") for name in ("nnet.losses", "lobes.models.CRDNN"))
    features, lengths = torch.randn(3, 60, 40), torch.tensor([1.0, 0.5, 0.8])
    model = crdnn.CRDNN(
        input_shape=features.shape, cnn_blocks=1, cnn_channels=(4,), rnn_layers=1, rnn_neurons=16, dnn_blocks=1,
        dnn_neurons=16, dropout=0.0, time_pooling=False,
    )  # fmt: skip
    recogniser = nn.Sequential(model, nn.Linear(16, 12), nn.LogSoftmax(-1))
    targets, counts = torch.randint(1, 12, (3, 10)), torch.tensor([1.0, 0.3, 0.7])

    def value() -> Tensor:
        result: Tensor = losses.ctc_loss(recogniser(features), targets, lengths, counts, 0, reduction)
        return result.sum()

    assert_trains_alike(monkeypatch, lambda: step_of(recogniser, value))


def test_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with a CTCLoss of its own, fitted by the Trainer for three steps."""
    lightning = pytest.importorskip("lightning")

    class Recogniser(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.gru, self.projection, self.loss = nn.GRU(8, 16), nn.Linear(16, 6), nn.CTCLoss(zero_infinity=True)
            self.values: list[float] = []

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            frames, *rest = batch
            value: Tensor = self.loss(self.projection(self.gru(frames.transpose(0, 1))[0]).log_softmax(-1), *rest)
            self.values.append(value.item())
            return value

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.randn(6, 20, 8), torch.randint(1, 6, (6, 4)), torch.full((6,), 20), torch.full((6,), 4)
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=2)

    def fit() -> Step:
        model = Recogniser()
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, batches)
        assert len(model.values) == 3
        before, after = (torch.nn.utils.parameters_to_vector(each.parameters()) for each in (Recogniser(), model))
        return Step(sum(model.values), (after - before).detach())

    assert_trains_alike(monkeypatch, fit)


def test_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("torchaudio.models")
    layers = [(16, 10, 5), (16, 8, 4), (16, 4, 2)]
    model = models.wav2vec2_model("group_norm", layers, True, 24, 0.0, 8, 2, 2, 2, 0.0, 48, 0.0, 0.0, False, 0.0, 12)
    criterion, audio = nn.CTCLoss(), torch.randn(2, 2400)
    targets = torch.randint(1, 12, (2, 14))

    def value() -> Tensor:
        logits, lengths = model(audio, torch.tensor([2400, 1600]))
        result: Tensor = criterion(logits.log_softmax(-1).transpose(0, 1), targets, lengths, torch.tensor([14, 9]))
        return result

    assert_trains_alike(monkeypatch, lambda: step_of(model, value))

"""torch.func: losses and gradients of many problems at once, per-sample gradients, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, grad_and_value, hessian, jacrev, jvp, vmap

from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture
def batch() -> Batch:
    return random_batch(10, 3, 6, 4)


def test_vmap_over_scores(entry: Loss, batch: Batch) -> None:
    """As over a model's ensemble: the same targets for each; padded, concatenated, lengths in a list."""
    many = torch.stack([batch.scores, 2 * batch.scores], dim=2)
    for rest in (batch.arguments(), (batch.concatenated(), batch.input_lengths, batch.target_lengths)):
        losses = vmap(lambda scores, rest=rest: entry(scores, *rest, reduction="none"), in_dims=2)(many)
        for i in range(2):
            assert same_bits(losses[i], entry(many[:, :, i], *rest, reduction="none"))


@pytest.mark.simulated
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_gradients_of_each_utterance(entry: Loss, batch: Batch, reduction: str) -> None:
    """Per-sample gradients, as differential privacy clips them: scores, targets and lengths are all mapped over."""
    targets, inputs, labels = batch.arguments()
    targets = targets.clamp(min=0)

    def of_one(scores: Tensor, *rest: Tensor) -> Tensor:
        return 0.5 * entry(scores, *rest, reduction=reduction)

    gradients, losses = vmap(grad_and_value(of_one), in_dims=(1, 0, 0, 0))(batch.scores, targets, inputs, labels)
    for n in range(3):
        scores = batch.scores[:, n].clone().requires_grad_()
        loss = of_one(scores, targets[n], inputs[n], labels[n])
        loss.backward()
        assert same_bits(losses[n], loss.detach())
        torch.testing.assert_close(gradients[n], scores.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("form", ["padded", "concatenated"])
def test_vmap_over_batches(entry: Loss, form: str) -> None:
    """Batches of two utterances each, whose targets are padded, or as many labels in all."""
    batch = random_batch(10, 4, 6, 4, ragged=False)
    if form == "padded":
        batch.targets[1].pop()
        targets = batch.padded(fill=-1).view(2, 2, -1)
    else:
        targets = batch.concatenated().view(2, -1)
    _, inputs, labels = batch.arguments()
    scores = batch.scores.unflatten(1, (2, 2))
    losses = vmap(lambda *call: entry(*call, reduction="none"), in_dims=(1, 0, 0, 0))(
        scores, targets, inputs.view(2, 2), labels.view(2, 2)
    )
    assert same_bits(losses.flatten(), entry(batch.scores, *batch.arguments(), reduction="none"))


def test_vmap_of_vmap(entry: Loss, batch: Batch) -> None:
    rest, many = batch.arguments(), batch.scores.expand(2, 4, *batch.scores.shape)
    gradients = vmap(vmap(grad(lambda scores: entry(scores, *rest, reduction="sum"))))(many)
    truth = loss_and_gradient(entry, batch)[1]
    assert same_bits(gradients, truth.expand(2, 4, *truth.shape).contiguous())


def test_only_targets_are_mapped_over(entry: Loss, batch: Batch) -> None:
    """One utterance, several texts for it."""
    texts = torch.tensor([[1, 2, 3], [2, 2, 0], [5, 0, 0]])
    losses = vmap(lambda *text: entry(batch.scores[:, 0], text[0], [10], text[1]))(texts, torch.tensor([3, 2, 1]))
    truth = [entry(batch.scores[:, 0], row[:n], [10], [n]) for row, n in zip(texts, (3, 2, 1), strict=True)]
    assert same_bits(losses, torch.stack(truth))


def test_jacobian(entry: Loss, batch: Batch) -> None:
    jacobian = jacrev(lambda scores: entry(scores, *batch.arguments(), reduction="none"))(batch.scores)
    _, gradient = loss_and_gradient(entry, batch)
    for n in range(3):
        assert not jacobian[n][:, [i for i in range(3) if i != n]].any()
        assert same_bits(jacobian[n][:, n], gradient[:, n])


def test_vmap_over_weights_of_losses_that_are_there(entry: Loss, batch: Batch) -> None:
    """The forward half has run outside, the backward half is mapped over."""
    scores = batch.scores.clone().requires_grad_()
    losses = entry(scores, *batch.arguments(), reduction="none")
    weights = torch.randn(4, 3)
    gradients = vmap(lambda weight: torch.autograd.grad(losses, scores, weight, retain_graph=True)[0])(weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        assert same_bits(gradient, loss_and_gradient(entry, batch, weight)[1])


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_many_gradients_by_the_older_vmap(entry: Loss, batch: Batch, reduction: str) -> None:
    """`is_grads_batched`, which `torch.autograd.functional.jacobian(vectorize=True)` uses."""
    scores = batch.scores.clone().requires_grad_()
    loss = entry(scores, *batch.arguments(), reduction=reduction)
    weights = torch.randn(4, *loss.shape)
    many = torch.autograd.grad(loss, scores, weights, retain_graph=True, is_grads_batched=True)[0]
    for weight, gradient in zip(weights, many, strict=True):
        one = torch.autograd.grad(loss, scores, weight, retain_graph=True)[0]
        torch.testing.assert_close(gradient, one, rtol=1e-6, atol=1e-7)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(loss, scores, weights, is_grads_batched=True, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_gradients_keep_their_dtype(entry: Loss, dtype: torch.dtype) -> None:
    batch = random_batch(10, 3, 6, 4, dtype=dtype)
    gradient = grad(lambda scores: entry(scores, *batch.arguments(), reduction="sum"))(batch.scores)
    assert same_bits(gradient, loss_and_gradient(entry, batch)[1])


def test_what_does_not_fit(entry: Loss) -> None:
    batch = Batch(torch.randn(3, 2, 4), [[1, 1, 1], [2]], [3, 3])
    loss = vmap(grad(lambda *call: entry(*call, zero_infinity=True)), in_dims=(1, 0, 0, 0))
    gradients = loss(batch.scores, batch.padded(fill=0), torch.tensor([3, 3]), torch.tensor([3, 1]))
    assert not gradients[0].any()
    assert gradients[1].any()


def test_bad_values_are_refused(entry: Loss, batch: Batch) -> None:
    def loss(target: Tensor) -> Tensor:
        return entry(batch.scores[:, 0], target, [10], [1], check=True)

    with pytest.raises(ValueError, match="got 9 at position 0 of utterance 1"):
        vmap(loss)(torch.tensor([[1], [9]]))


TWICE: dict[str, Any] = {
    "grad of grad": lambda loss: grad(lambda scores: grad(loss)(scores).square().sum()),
    "jacrev of grad": lambda loss: jacrev(grad(loss)),
    "hessian": hessian,
}


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives_are_refused(entry: Loss, batch: Batch, name: str) -> None:
    def loss(scores: Tensor) -> Tensor:
        return entry(scores, *batch.arguments())

    with pytest.raises(RuntimeError, match=r"numbactc (cannot|has no)"):
        TWICE[name](loss)(batch.scores)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_forward_mode_is_refused(entry: Loss, batch: Batch, requires_grad: bool) -> None:
    """Rather than a derivative of 0, which is what a result without a tangent would be taken for."""
    scores, tangent = batch.scores.clone().requires_grad_(requires_grad), torch.randn_like(batch.scores)
    with pytest.raises(NotImplementedError, match="forward-mode"):
        jvp(lambda scores: entry(scores, *batch.arguments()), (scores,), (tangent,))
    with forward_ad.dual_level():
        with pytest.raises(NotImplementedError, match="forward-mode"):
            entry(forward_ad.make_dual(scores, tangent), *batch.arguments())
        entry(scores, *batch.arguments())  # which has no tangent

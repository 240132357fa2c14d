"""The losses as citizens of PyTorch: graphs, modes, repeated backwards, autocast, models, function transforms."""

import pytest
import torch
from torch import nn

import numbactc
from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits
from closeness import with_logits
from oracles import expected

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture
def batch() -> Batch:
    return random_batch(16, 3, 6, 5)


@pytest.mark.simulated
def test_backward_twice_gives_the_same_bits(entry: Loss, batch: Batch) -> None:
    scores, weights = batch.scores.clone().requires_grad_(), torch.randn(3)
    losses = entry(scores, *batch.arguments(), reduction="none")
    (first,) = torch.autograd.grad(losses, scores, weights, retain_graph=True)
    kept = first.clone()
    first.fill_(torch.nan)  # the caller owns what backward returned
    (second,) = torch.autograd.grad(losses, scores, weights, retain_graph=True)
    assert same_bits(second, kept)


def test_backward_twice_with_other_weights(entry: Loss, batch: Batch) -> None:
    """A gradient that was scaled in place would carry the first weights into the second."""
    scores = batch.scores.clone().requires_grad_()
    losses = entry(scores, *batch.arguments(), reduction="none")
    torch.autograd.grad(losses, scores, torch.tensor([3.0, 0.0, -2.0]), retain_graph=True)
    (gradient,) = torch.autograd.grad(losses, scores, torch.ones(3))
    assert same_bits(gradient, loss_and_gradient(entry, batch)[1])


def test_scores_that_are_a_parameter(entry: Loss, batch: Batch) -> None:
    scores = nn.Parameter(batch.scores.clone())
    entry(scores, *batch.arguments(), reduction="sum").backward()
    assert type(scores.grad) is torch.Tensor
    assert same_bits(scores.grad, loss_and_gradient(entry, batch)[1])


def test_gradients_accumulate(entry: Loss, batch: Batch) -> None:
    scores = batch.scores.clone().requires_grad_()
    for _ in range(2):
        entry(scores, *batch.arguments(), reduction="sum").backward()
    assert scores.grad is not None
    assert same_bits(scores.grad, 2 * loss_and_gradient(entry, batch)[1])


def test_two_losses_of_one_input(entry: Loss, batch: Batch) -> None:
    """Two targets for the same scores; both backwards run after both forwards."""
    other = Batch(batch.scores, [[5, 5], [], [1, 2, 3]], [16, 9, 12])
    scores = batch.scores.clone().requires_grad_()
    losses = [entry(scores, *b.arguments(), reduction="sum") for b in (batch, other)]
    (losses[0] + 0.5 * losses[1]).backward()
    separate = loss_and_gradient(entry, batch)[1] + 0.5 * loss_and_gradient(entry, other)[1]
    torch.testing.assert_close(scores.grad, separate, rtol=1e-6, atol=1e-6)


@pytest.mark.simulated
def test_no_grad_gives_the_same_loss_without_a_graph(entry: Loss, batch: Batch) -> None:
    scores = batch.scores.clone().requires_grad_()
    tracked = entry(scores, *batch.arguments(), reduction="none")
    assert tracked.requires_grad
    with torch.no_grad():
        untracked = entry(scores, *batch.arguments(), reduction="none")
    assert not untracked.requires_grad
    assert untracked.grad_fn is None
    assert same_bits(tracked.detach(), untracked)
    assert not entry(batch.scores, *batch.arguments()).requires_grad


def test_inference_mode(entry: Loss, batch: Batch) -> None:
    with torch.inference_mode():
        scores = batch.scores + 0.0
        losses = entry(scores, *batch.arguments(), reduction="none")
        assert losses.is_inference()
    assert same_bits(losses.clone(), entry(batch.scores, *batch.arguments(), reduction="none"))


@pytest.mark.simulated
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_a_second_derivative_is_refused(entry: Loss, batch: Batch, reduction: str) -> None:
    """Also where grad_output is a constant: to leave the second-order term out in silence would be a wrong gradient."""
    scores = batch.scores.clone().requires_grad_()
    loss = entry(scores, *batch.arguments(), reduction=reduction).sum()
    with pytest.raises(RuntimeError, match=r"(?i)differentia|derivative|double backward"):
        (gradient,) = torch.autograd.grad(loss, scores, create_graph=True)
        (loss + gradient.square().sum()).backward()


def test_create_graph_leaves_the_first_derivative_as_it_is(entry: Loss, batch: Batch) -> None:
    """Regularisers ask for it; nobody has yet differentiated a second time."""
    weights = torch.randn(3)
    scores = batch.scores.clone().requires_grad_()
    losses = entry(scores, *batch.arguments(), reduction="none")
    (gradient,) = torch.autograd.grad(losses, scores, weights, create_graph=True)
    assert same_bits(gradient.detach(), loss_and_gradient(entry, batch, weights)[1])


def test_scores_changed_in_place_before_backward_are_noticed(entry: Loss, batch: Batch) -> None:
    """Backward either does not need the scores any more and is right, or says that they have changed."""
    leaf = batch.scores.clone().requires_grad_()
    scores = leaf * 1.0
    loss = entry(scores, *batch.arguments(), reduction="sum")
    scores.detach().add_(1.0)
    truth = loss_and_gradient(entry, batch)[1]
    try:
        (gradient,) = torch.autograd.grad(loss, leaf)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        assert same_bits(gradient, truth)


@pytest.mark.simulated
def test_targets_and_lengths_changed_before_backward_change_nothing(entry: Loss, batch: Batch) -> None:
    """A loader may refill its buffers between forward and backward: right or refused, but never silently wrong."""
    scores = batch.scores.clone().requires_grad_()
    arguments = batch.arguments()
    loss = entry(scores, *arguments, reduction="sum")
    for argument in arguments:
        argument.fill_(1)
    truth = loss_and_gradient(entry, batch)[1]
    try:
        loss.backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        assert scores.grad is not None
        assert same_bits(scores.grad, truth)


@pytest.mark.simulated
def test_losses_overwritten_by_the_caller_do_not_reach_backward(entry: Loss) -> None:
    """float64 losses are what the kernels wrote, not rounded: still a copy, not the memory that backward reads."""
    batch = random_batch(16, 3, 6, 5, dtype=torch.float64)
    scores = batch.scores.clone().requires_grad_()
    losses = entry(scores, *batch.arguments(), reduction="none")
    losses.data.fill_(torch.inf)
    losses.backward(torch.ones(3, dtype=torch.float64))
    assert scores.grad is not None
    assert same_bits(scores.grad, loss_and_gradient(entry, batch)[1])


def test_a_small_model_learns(entry: Loss) -> None:
    """Gradients reach the parameters: a GRU and a projection fit three utterances by plain gradient descent."""
    frames, targets, lengths = torch.randn(20, 3, 8), torch.tensor([[1, 2], [3, 3], [2, 1]]), [20, 18, 15]
    gru, projection = nn.GRU(8, 16), nn.Linear(16, 4)
    parameters = [*gru.parameters(), *projection.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    history = []
    for _ in range(60):
        scores = projection(gru(frames)[0])
        loss = entry(scores if with_logits(entry) else scores.log_softmax(-1), targets, lengths, [2, 2, 2])
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < 0.1 * history[0]


def test_gradients_of_parameters_are_the_oracles(entry: Loss) -> None:
    projection = nn.Linear(5, 4).double()
    frames = torch.randn(12, 2, 5, dtype=torch.float64)
    scores = projection(frames)
    entry(scores, torch.tensor([[1, 2], [3, 3]]), [12, 9], [2, 2], reduction="sum").backward()
    _, slope = expected(scores, [[1, 2], [3, 3]], [12, 9], with_logits=with_logits(entry))
    torch.testing.assert_close(projection.bias.grad, slope.sum((0, 1)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        projection.weight.grad, torch.einsum("tnc,tnd->cd", slope, frames), rtol=1e-12, atol=1e-12
    )


def test_autocast_to_bfloat16() -> None:
    """Under autocast a linear layer gives bfloat16; the loss is float32 of those values, the gradient bfloat16."""
    projection, frames = nn.Linear(8, 6), torch.randn(16, 2, 8)
    arguments = torch.tensor([[1, 2, 2], [5, 4, 3]]), [16, 12], [3, 3]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = projection(frames)
        logits.retain_grad()
        loss = numbactc.ctc_loss_with_logits(logits, *arguments)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    loss.backward()
    upcast = logits.detach().float().requires_grad_()
    truth = numbactc.ctc_loss_with_logits(upcast, *arguments)
    truth.backward()
    assert same_bits(loss.detach(), truth.detach())
    assert logits.grad is not None
    assert upcast.grad is not None
    assert same_bits(logits.grad, upcast.grad.bfloat16())
    assert projection.weight.grad is not None
    assert projection.weight.grad.dtype == torch.float32
    assert projection.weight.grad.any()


def test_a_graph_may_be_freed_without_backward(entry: Loss, batch: Batch) -> None:
    scores = batch.scores.clone().requires_grad_()
    entry(scores, *batch.arguments())
    loss = entry(scores, *batch.arguments())
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.simulated
def test_only_some_losses_are_differentiated(entry: Loss, batch: Batch) -> None:
    scores = batch.scores.clone().requires_grad_()
    losses = entry(scores, *batch.arguments(), reduction="none")
    losses[1].backward()
    assert scores.grad is not None
    assert not scores.grad[:, [0, 2]].any()
    assert same_bits(scores.grad[:, 1], loss_and_gradient(entry, batch)[1][:, 1])


@pytest.mark.simulated
def test_torch_func_grad(entry: Loss, batch: Batch) -> None:
    arguments = batch.arguments()
    gradient = torch.func.grad(lambda scores: entry(scores, *arguments, reduction="sum"))(batch.scores)
    assert same_bits(gradient, loss_and_gradient(entry, batch)[1])


def test_torch_func_grad_with_targets_made_inside(entry: Loss) -> None:
    """There every new tensor is wrapped."""

    def loss(scores: torch.Tensor) -> torch.Tensor:
        return entry(scores, torch.tensor([[1, 2]]), torch.tensor([4]), torch.tensor([2]))

    scores = torch.randn(4, 1, 3)
    leaf = scores.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    assert same_bits(torch.func.grad(loss)(scores), leaf.grad)

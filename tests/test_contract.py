"""What may be passed and what comes back: dtypes, layouts, forms of targets and lengths, reductions, modules."""

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch

import numbactc
from batches import Batch, Loss, loss_and_gradient, random_batch, same_bits

pytestmark = pytest.mark.usefixtures("device")

MODULES = [
    pytest.param(numbactc.CTCLoss, numbactc.ctc_loss, id="CTCLoss"),
    pytest.param(numbactc.CTCLossWithLogits, numbactc.ctc_loss_with_logits, id="CTCLossWithLogits"),
]


@pytest.fixture
def batch() -> Batch:
    return random_batch(14, 4, 6, 5)


def losses_of(entry: Loss, batch: Batch) -> torch.Tensor:
    return entry(batch.scores, *batch.arguments(), blank=batch.blank, reduction="none")


def test_names_and_order_of_arguments_are_torchs() -> None:
    torchs = inspect.signature(torch.nn.functional.ctc_loss).parameters
    for function in (numbactc.ctc_loss, numbactc.ctc_loss_with_logits):
        ours = inspect.signature(function).parameters
        positional = [p for p in ours.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        assert [p.name for p in positional][1:] == list(torchs)[1:]
        assert [p.default for p in positional] == [p.default for p in torchs.values()]
    assert next(iter(inspect.signature(numbactc.ctc_loss).parameters)) == "log_probs"
    assert next(iter(inspect.signature(numbactc.ctc_loss_with_logits).parameters)) == "logits"


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("blank", [0, 5])
def test_the_same_call_as_torchs(blank: int, reduction: str, zero_infinity: bool) -> None:
    """The class swapped and nothing else: same values, same gradient of the logits."""
    batch = random_batch(14, 4, 6, 5, blank=blank)
    values, gradients = [], []
    for module in (torch.nn.CTCLoss, numbactc.CTCLoss):
        logits = batch.scores.clone().requires_grad_()
        value = module(blank, reduction, zero_infinity)(logits.log_softmax(2), *batch.arguments())
        value.sum().backward()
        values.append(value.detach())
        gradients.append(logits.grad)
    torch.testing.assert_close(values[1], values[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-5)


@pytest.mark.simulated
@pytest.mark.parametrize(
    ("dtype", "loss_dtype"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_dtype_of_loss_and_gradient(
    entry: Loss, batch: Batch, reduction: str, dtype: torch.dtype, loss_dtype: torch.dtype
) -> None:
    scores = batch.scores.to(dtype).requires_grad_()
    loss = entry(scores, *batch.arguments(), reduction=reduction)
    assert loss.dtype == loss_dtype
    loss.sum().backward()
    assert scores.grad is not None
    assert scores.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_float32_on_the_upcast_input(entry: Loss, dtype: torch.dtype) -> None:
    batch = random_batch(60, 3, 20, 15, dtype=dtype)
    upcast = Batch(batch.scores.float(), batch.targets, batch.input_lengths)
    losses, gradient = loss_and_gradient(entry, batch)
    float32_losses, float32_gradient = loss_and_gradient(entry, upcast)
    assert same_bits(losses, float32_losses)
    assert same_bits(gradient, float32_gradient.to(dtype))


@pytest.mark.simulated
def test_batch_first_is_the_same_numbers(entry: Loss, batch: Batch) -> None:
    """A transposed view, and memory that is (N, T, C) by itself: the bits are those of (T, N, C)."""
    losses, gradient = loss_and_gradient(entry, batch)
    for scores in (batch.scores.transpose(0, 1), batch.scores.transpose(0, 1).contiguous()):
        leaf = scores.detach().requires_grad_()
        actual = entry(leaf, *batch.arguments(), reduction="none", batch_first=True)
        actual.sum().backward()
        assert leaf.grad is not None
        assert same_bits(actual.detach(), losses)
        assert same_bits(leaf.grad.transpose(0, 1), gradient)


def test_batch_first_is_keyword_only(entry: Loss, batch: Batch) -> None:
    with pytest.raises(TypeError, match="positional"):
        entry(batch.scores, *batch.arguments(), 0, "mean", False, True)


@pytest.mark.simulated
@pytest.mark.parametrize("layout", ["transposed", "strided-classes", "sliced", "flipped-storage", "expanded", "offset"])
def test_any_strides(entry: Loss, batch: Batch, layout: str) -> None:
    scores = batch.scores
    T, N, C = scores.shape
    if layout == "transposed":
        view = scores.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    elif layout == "strided-classes":
        view = torch.full((T, N, 3 * C), torch.nan)[:, :, ::3].copy_(scores)
    elif layout == "sliced":
        view = torch.full((T + 4, N + 2, C + 5), torch.nan)[2:-2, 1:-1, 3:-2].copy_(scores)
    elif layout == "flipped-storage":
        view = torch.full((N, C, 2 * T), torch.nan)[:, :, ::2].permute(2, 0, 1).copy_(scores)
    elif layout == "expanded":
        scores = scores[:, :1].repeat(1, N, 1)
        view = scores[:, :1].expand(T, N, C)
    else:
        view = torch.full((T * N * C + 1,), torch.nan)[1:].view(T, N, C).copy_(scores)
    contiguous = Batch(scores, batch.targets, batch.input_lengths)
    losses, gradient = loss_and_gradient(entry, contiguous)
    leaf = view.detach().requires_grad_()
    assert leaf.stride() == view.stride()
    actual = entry(leaf, *batch.arguments(), reduction="none")
    (actual_gradient,) = torch.autograd.grad(actual.sum(), leaf)
    torch.testing.assert_close(actual.detach(), losses, rtol=1e-7, atol=1e-6)
    torch.testing.assert_close(actual_gradient, gradient, rtol=0, atol=3e-6)


@pytest.mark.simulated
def test_views_that_are_negative_or_conjugate_on_read(entry: Loss, batch: Batch) -> None:
    negated = torch.complex(torch.zeros_like(batch.scores), -batch.scores).conj().imag
    assert negated.is_neg()
    arguments = batch.arguments()
    plain = entry(batch.scores, *arguments, reduction="none")
    torch.testing.assert_close(entry(negated, *arguments, reduction="none"), plain, rtol=1e-7, atol=1e-6)


@pytest.mark.cpu_only
def test_offsets_beyond_32_bits(entry: Loss) -> None:
    """The last frame lies 2**31 elements behind the first, in memory that is reserved but never touched between."""
    batch = random_batch(9, 1, 6, 5, dtype=torch.bfloat16)
    far = torch.empty(2**31 + 64, dtype=torch.bfloat16).as_strided((9, 1, 6), (2**28, 6, 1)).copy_(batch.scores)
    truth = losses_of(entry, batch)
    assert truth.isfinite()
    assert same_bits(entry(far, *batch.arguments(), reduction="none"), truth)


@pytest.mark.simulated
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("form", ["padded", "concatenated", "strided", "padded-with-garbage"])
def test_forms_of_targets(entry: Loss, batch: Batch, form: str, dtype: torch.dtype) -> None:
    if form == "padded":
        targets = batch.padded(fill=0, dtype=dtype)
    elif form == "concatenated":
        targets = batch.concatenated(dtype)
    elif form == "strided":
        targets = batch.padded(dtype=dtype).t().contiguous().t()
    else:
        targets = batch.padded(fill=torch.iinfo(dtype).min, extra=3, dtype=dtype)
        targets[:, -1] = torch.iinfo(dtype).max
    _, input_lengths, target_lengths = batch.arguments()
    actual = entry(batch.scores, targets, input_lengths, target_lengths, reduction="none")
    assert same_bits(actual, losses_of(entry, batch))


@pytest.mark.simulated
@pytest.mark.parametrize("form", ["int32", "int64", "list", "tuple", "strided", "mixed"])
def test_forms_of_lengths(entry: Loss, batch: Batch, form: str) -> None:
    T, L = batch.input_lengths, batch.target_lengths
    lengths: tuple[object, object]
    if form in ("int32", "int64"):
        dtype = getattr(torch, form)
        lengths = torch.tensor(T, dtype=dtype), torch.tensor(L, dtype=dtype)
    elif form == "strided":
        both = torch.tensor([T, L]).t().contiguous()
        lengths = both[:, 0], both[:, 1]
    elif form == "mixed":
        lengths = torch.tensor(T, dtype=torch.int32), L
    else:
        lengths = (list(T), list(L)) if form == "list" else (tuple(T), tuple(L))
    assert same_bits(entry(batch.scores, batch.padded(), *lengths, reduction="none"), losses_of(entry, batch))


@pytest.mark.simulated
@pytest.mark.parametrize("form", ["scalar", "one-element", "list", "tuple"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_unbatched(entry: Loss, reduction: str, form: str) -> None:
    """(T, C) scores and (S,) targets give a scalar under every reduction, as torch's do."""
    lengths: dict[str, tuple[object, object]] = {
        "scalar": (torch.tensor(8), torch.tensor(3)),
        "one-element": (torch.tensor([8]), torch.tensor([3])),
        "list": ([8], [3]),
        "tuple": ((8,), (3,)),
    }
    scores, targets = torch.randn(9, 5, requires_grad=True), torch.tensor([1, 1, 4])
    loss = entry(scores, targets, *lengths[form], reduction=reduction)
    batched = scores.detach().unsqueeze(1).requires_grad_()
    truth = entry(batched, targets.unsqueeze(0), [8], [3], reduction=reduction)
    assert loss.shape == ()
    assert same_bits(loss.detach(), truth.detach().reshape(()))
    loss.backward()
    truth.sum().backward()
    assert scores.grad is not None
    assert batched.grad is not None
    assert same_bits(scores.grad, batched.grad.squeeze(1))


@pytest.mark.simulated
def test_reductions(entry: Loss) -> None:
    batch = Batch(torch.randn(9, 3, 4), [[1, 2, 3], [], [2]], [9, 8, 7])
    arguments = batch.arguments()
    none = entry(batch.scores, *arguments, reduction="none")
    assert none.shape == (3,)
    torch.testing.assert_close(entry(batch.scores, *arguments, reduction="sum"), none.sum())
    mean = (none / torch.tensor([3.0, 1.0, 1.0])).mean()
    torch.testing.assert_close(entry(batch.scores, *arguments, reduction="mean"), mean)
    torch.testing.assert_close(entry(batch.scores, *arguments), mean)


def test_mean_with_lengths_as_a_list(entry: Loss, batch: Batch) -> None:
    truth = entry(batch.scores, *batch.arguments())
    assert same_bits(entry(batch.scores, batch.padded(), batch.input_lengths, batch.target_lengths), truth)


@pytest.mark.parametrize("blank", range(6))
def test_blank_anywhere(entry: Loss, blank: int) -> None:
    """Moving the blank's column, and renaming the labels to match, changes nothing."""
    batch = random_batch(20, 3, 6, 6, ragged=False)
    order = list(range(1, 6))
    order.insert(blank, 0)
    renamed = [[order.index(label) for label in target] for target in batch.targets]
    moved = Batch(batch.scores[:, :, order], renamed, batch.input_lengths, blank)
    losses, gradient = loss_and_gradient(entry, batch)
    moved_losses, moved_gradient = loss_and_gradient(entry, moved)
    torch.testing.assert_close(moved_losses, losses, rtol=1e-7, atol=1e-6)
    torch.testing.assert_close(moved_gradient, gradient[:, :, order], rtol=0, atol=3e-6)


@pytest.mark.simulated
def test_the_callers_tensors_are_only_read(entry: Loss, batch: Batch) -> None:
    scores, weights = batch.scores.clone().requires_grad_(), torch.randn(4)
    tensors = [scores, *batch.arguments(), weights]
    before = [tensor.detach().clone() for tensor in tensors]
    versions = [tensor._version for tensor in tensors]
    entry(*tensors[:4], reduction="none").backward(weights)
    for tensor, copied, version in zip(tensors, before, versions, strict=True):
        assert same_bits(tensor.detach(), copied)
        assert tensor._version == version


@pytest.mark.parametrize(("module", "function"), MODULES)
def test_modules_equal_functions(module: type[torch.nn.Module], function: Loss) -> None:
    batch = Batch(torch.randn(4, 3, 5), [[1, 2], [1, 1, 1], [0]], [4, 4, 3], blank=4)
    arguments = batch.arguments()
    choices: list[dict[str, Any]] = [
        {"blank": 4},
        {"blank": 4, "reduction": "sum", "zero_infinity": True},
        {"blank": 4, "reduction": "none"},
    ]
    for settings in choices:
        assert same_bits(module(**settings)(batch.scores, *arguments), function(batch.scores, *arguments, **settings))
    transposed = module(4, "none", batch_first=True)(batch.scores.transpose(0, 1), *arguments)
    assert same_bits(transposed, function(batch.scores, *arguments, blank=4, reduction="none"))


@pytest.mark.parametrize(("module", "function"), MODULES)
def test_modules_are_plain_modules(module: type[torch.nn.Module], function: Loss) -> None:
    """Printed with their settings, pickled, copied, and without parameters or state."""
    loss = module(blank=2, reduction="none", zero_infinity=True)
    for setting in ("blank=2", "reduction='none'", "zero_infinity=True"):
        assert setting in repr(loss)
    assert not loss.state_dict()
    assert not list(loss.parameters())
    batch = random_batch(10, 2, 4, 3, blank=2)
    truth = function(batch.scores, *batch.arguments(), blank=2, reduction="none", zero_infinity=True)
    for copied in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert repr(copied) == repr(loss)
        assert same_bits(copied(batch.scores, *batch.arguments()), truth)

"""Every mistake a caller can make is refused by a message that names the argument, the value and the utterance."""

import re
from typing import Any

import pytest
import torch

import numbactc
from batches import Loss

pytestmark = [pytest.mark.usefixtures("device"), pytest.mark.simulated]


def naming(*parts: object) -> str:
    """A pattern for a message that has all parts, in any order; a number stands alone, not inside another one."""
    patterns = [rf"(?<![\w.]){re.escape(str(part))}(?![\w])" for part in parts]
    return "(?s)" + "".join(f"(?=.*{pattern})" for pattern in patterns)


def call(entry: Loss, **changes: Any) -> torch.Tensor:
    """A right call for T = 6, N = 3, C = 5, S = 4, but for what is changed; `scores` is the first argument."""
    arguments: dict[str, Any] = {
        "scores": torch.zeros(6, 3, 5),
        "targets": torch.tensor([[1, 2, 3, 4], [1, 1, 0, 0], [2, 0, 0, 0]]),
        "input_lengths": torch.tensor([6, 5, 4]),
        "target_lengths": torch.tensor([4, 2, 1]),
        "check": True,  # which a CPU does not need
    }
    arguments.update(changes)
    return entry(arguments.pop("scores"), **arguments)


def first_argument(entry: Loss) -> str:
    return "logits" if entry is numbactc.ctc_loss_with_logits else "log_probs"


def test_the_call_that_the_mistakes_start_from_is_right(entry: Loss) -> None:
    assert call(entry).isfinite()


@pytest.mark.parametrize("name", ["input_lengths", "target_lengths"])
def test_shape_of_lengths(entry: Loss, name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} must have shape (3,), got (2,)")):
        call(entry, **{name: torch.tensor([1, 1])})
    with pytest.raises(ValueError, match=re.escape(f"{name} must have shape (3,), got (2,)")):
        call(entry, **{name: [1, 1]})
    with pytest.raises(ValueError, match=re.escape(f"{name} must have shape (3,), got (3, 1)")):
        call(entry, **{name: torch.tensor([[1], [1], [1]])})


@pytest.mark.parametrize("values", [[7, 5, 4], [6, 5, -1]], ids=str)
@pytest.mark.parametrize("form", [list, torch.tensor], ids=["list", "tensor"])
def test_input_length_out_of_range(entry: Loss, values: list[int], form: Any) -> None:
    n = next(n for n, value in enumerate(values) if not 0 <= value <= 6)
    with pytest.raises(ValueError, match=naming("input_lengths", 6, values[n], f"utterance {n}")):
        call(entry, input_lengths=form(values))


@pytest.mark.parametrize("values", [[5, 2, 1], [4, -2, 1]], ids=str)
@pytest.mark.parametrize("form", [list, torch.tensor], ids=["list", "tensor"])
def test_target_length_out_of_range(entry: Loss, values: list[int], form: Any) -> None:
    n = next(n for n, value in enumerate(values) if not 0 <= value <= 4)
    with pytest.raises(ValueError, match=naming("target_lengths", values[n], f"utterance {n}")):
        call(entry, target_lengths=form(values))


def test_negative_length_in_concatenated_targets(entry: Loss) -> None:
    """The lengths still add up, so only a look at each of them finds it."""
    with pytest.raises(ValueError, match=naming("target_lengths", -1, "utterance 1")):
        call(entry, targets=torch.tensor([1, 2, 3]), target_lengths=[2, -1, 2])


def test_concatenated_targets_that_do_not_add_up(entry: Loss) -> None:
    for size in (6, 8):
        with pytest.raises(ValueError, match=naming("targets", 7, size)):
            call(entry, targets=torch.ones(size, dtype=torch.int64))


@pytest.mark.parametrize(("label", "n", "position"), [(5, 0, 3), (-1, 1, 1), (2**40, 2, 0), (-(2**40), 0, 0)])
@pytest.mark.parametrize("form", ["padded", "concatenated"])
def test_label_out_of_range(entry: Loss, form: str, label: int, n: int, position: int) -> None:
    targets = torch.tensor([[1, 2, 3, 4], [1, 1, 0, 0], [2, 0, 0, 0]])
    targets[n, position] = label
    if form == "concatenated":
        targets = torch.cat([targets[0], targets[1, :2], targets[2, :1]])
    with pytest.raises(ValueError, match=naming("targets", label, f"utterance {n}")):
        call(entry, targets=targets)


def test_label_out_of_range_in_int32(entry: Loss) -> None:
    targets = torch.tensor([[1, 2, 3, 4], [1, 7, 0, 0], [2, 0, 0, 0]], dtype=torch.int32)
    with pytest.raises(ValueError, match=naming("targets", 7, "utterance 1")):
        call(entry, targets=targets)


@pytest.mark.parametrize("blank", [0, 3])
def test_label_that_is_the_blank(entry: Loss, blank: int) -> None:
    targets = torch.tensor([[1, 2, 4, 4], [1, blank, blank, blank], [2, blank, blank, blank]])
    with pytest.raises(ValueError, match=naming("targets", blank, "blank", "utterance 1")):
        call(entry, targets=targets, blank=blank)


@pytest.mark.parametrize("blank", [-1, 5, 2**40])
def test_blank_out_of_range(entry: Loss, blank: int) -> None:
    with pytest.raises(ValueError, match=naming("blank", 5, blank)):
        call(entry, blank=blank)


def test_blank_of_a_wrong_type(entry: Loss) -> None:
    with pytest.raises(TypeError, match=naming("blank")):
        call(entry, blank="0")


@pytest.mark.parametrize("reduction", ["average", "", "Mean", None])
def test_unknown_reduction(entry: Loss, reduction: object) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(repr(reduction))) as error:
        call(entry, reduction=reduction)
    assert "reduction" in str(error.value)
    assert "mean" in str(error.value)


@pytest.mark.parametrize("shape", [(5,), (6, 3, 5, 1), ()], ids=str)
def test_scores_with_a_wrong_number_of_dimensions(entry: Loss, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(str(shape))) as error:
        call(entry, scores=torch.zeros(shape))
    assert first_argument(entry) in str(error.value)


@pytest.mark.parametrize("shape", [(2, 4), (4, 4), (3, 4, 1), ()], ids=str)
def test_targets_of_a_wrong_shape(entry: Loss, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(str(shape))) as error:
        call(entry, targets=torch.ones(shape, dtype=torch.int64))
    assert "targets" in str(error.value)


def test_no_class_is_left_for_the_blank(entry: Loss) -> None:
    with pytest.raises(ValueError, match=naming("blank")):
        call(entry, scores=torch.zeros(6, 3, 0))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool], ids=str)
def test_scores_of_a_wrong_dtype(entry: Loss, dtype: torch.dtype) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(str(dtype))) as error:
        call(entry, scores=torch.zeros(6, 3, 5, dtype=dtype))
    assert first_argument(entry) in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.bool], ids=str)
@pytest.mark.parametrize("name", ["targets", "input_lengths", "target_lengths"])
def test_integers_of_a_wrong_dtype(entry: Loss, name: str, dtype: torch.dtype) -> None:
    shape = (3, 4) if name == "targets" else (3,)
    with pytest.raises((TypeError, ValueError), match=re.escape(str(dtype))) as error:
        call(entry, **{name: torch.ones(shape, dtype=dtype)})
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scores", [[0.0]]),
        ("scores", None),
        ("targets", [[1, 2], [1, 2], [1, 2]]),
        ("targets", None),
        ("input_lengths", 6),
        ("input_lengths", None),
        ("input_lengths", [6.0, 5.0, 4.0]),
        ("target_lengths", "421"),
        ("target_lengths", ["4", "2", "1"]),
        ("target_lengths", [4.5, 2, 1]),
    ],
    ids=str,
)
def test_arguments_of_a_wrong_type(entry: Loss, name: str, value: object) -> None:
    with pytest.raises(TypeError, match=naming(first_argument(entry) if name == "scores" else name)):
        call(entry, **{name: value})


def test_tensors_on_another_device(entry: Loss) -> None:
    """`meta` stands for any device that is not the scores'."""
    targets = torch.ones(3, 4, dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match=naming("targets", "meta", "cpu")):
        call(entry, targets=targets)


def test_scores_on_a_device_without_kernels(entry: Loss) -> None:
    with pytest.raises((ValueError, NotImplementedError), match="meta"):
        call(entry, scores=torch.zeros(6, 3, 5, device="meta"))


@pytest.mark.parametrize("module", [numbactc.CTCLoss, numbactc.CTCLossWithLogits])
def test_modules_refuse_what_functions_refuse(module: type[torch.nn.Module]) -> None:
    arguments = torch.zeros(6, 1, 5), torch.tensor([[1]]), [6], [1]
    with pytest.raises(ValueError, match=naming("blank", 9)):
        module(blank=9)(*arguments)
    with pytest.raises(ValueError, match="average"):
        module(reduction="average")(*arguments)


def test_the_order_of_utterances_does_not_hide_a_mistake(entry: Loss) -> None:
    """A bad label in the last of many utterances is found as well as in the first."""
    targets = torch.ones(64, 3, dtype=torch.int64)
    targets[63, 2] = 9
    with pytest.raises(ValueError, match=naming("targets", 9, "utterance 63")):
        entry(torch.zeros(8, 64, 5), targets, [8] * 64, [3] * 64, check=True)

"""Who is measured. A peer turns a `Problem` into calls without arguments; what it does before that is not timed.

Every peer starts from the same float32 logits and computes the same number, `mean over N of loss / L`, and where
asked its gradient with respect to the logits. Frameworks are imported when a peer is loaded, so a peer that is not
installed costs nothing but its row, and that row says so.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shapes import Problem

Call = Callable[[], object]
Evaluation = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Calls:
    """What a peer offers for one problem.

    `forward` computes the mean loss without a graph for the gradient. `forward_backward` is one step of training: the
    old gradient is dropped, the loss computed, the gradient of the logits computed. Both return when the result is
    there. `evaluate` gives the losses (N,), in nats, and the gradient (T, N, C) of their sum. `prepare` compiles
    `forward_backward` for this shape without running it, where the peer can tell the two apart.
    """

    forward: Call
    forward_backward: Call
    evaluate: Callable[[], Evaluation]
    prepare: Call = lambda: None


class Installable:
    """Something that needs modules, the one that it is named after first."""

    modules: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """The modules that are not installed; empty when the peer can be measured."""
        return missing(self.modules)

    @property
    def version(self) -> str | None:
        """Version of the peer, None where it is not installed."""
        return None if self.missing else version_of(self.modules[0])


@dataclass(frozen=True)
class Peer(Installable):
    """A name, what it needs, which label it has in tables, how it is bound to a problem, and what runs, in words."""

    name: str
    label: str
    modules: tuple[str, ...]
    load: Callable[[Problem], Calls]
    runs: str = ""


def missing(modules: Sequence[str]) -> list[str]:
    """Those of the modules that are not installed."""
    return [module for module in modules if importlib.util.find_spec(module) is None]


@functools.cache
def version_of(module: str) -> str | None:
    """The version of an installed distribution, or of the one that has this module, else the module's own word."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(module)
    if importlib.util.find_spec(module) is None:
        return None
    for name in importlib.metadata.packages_distributions().get(module, []):
        return importlib.metadata.version(name)
    return getattr(importlib.import_module(module), "__version__", None)


def _torch_calls(problem: Problem, loss_function: Callable[..., Any], dtype: str = "float32") -> Calls:
    """Calls of anything that takes logits, targets, input_lengths, target_lengths and `reduction`."""
    torch = importlib.import_module("torch")
    logits = torch.from_numpy(problem.logits).to(getattr(torch, dtype)).requires_grad_()
    rest = [torch.from_numpy(array) for array in (problem.targets, problem.input_lengths, problem.target_lengths)]

    def forward() -> object:
        with torch.no_grad():
            return loss_function(logits, *rest, reduction="mean")

    def forward_backward() -> object:
        logits.grad = None
        loss_function(logits, *rest, reduction="mean").backward()
        return logits.grad

    def evaluate() -> Evaluation:
        logits.grad = None
        losses = loss_function(logits, *rest, reduction="none")
        losses.sum().backward()
        return losses.detach().numpy(), logits.grad.numpy()

    return Calls(forward, forward_backward, evaluate)


def load_numbactc(problem: Problem) -> Calls:
    """`numbactc.ctc_loss_with_logits`."""
    return _torch_calls(problem, importlib.import_module("numbactc").ctc_loss_with_logits)


def load_torch(problem: Problem, dtype: str = "float32") -> Calls:
    """`log_softmax`, then `torch.nn.functional.ctc_loss`, with the backward of both, since ours starts at logits."""
    functional = importlib.import_module("torch").nn.functional

    def loss_function(logits: Any, *rest: Any, reduction: str) -> Any:
        return functional.ctc_loss(functional.log_softmax(logits, dim=-1), *rest, reduction=reduction)

    return _torch_calls(problem, loss_function, dtype)


def load_optax(problem: Problem) -> Calls:
    """`optax.ctc_loss` under `jax.jit`, compiled for this shape; its logits lie as (N, T, C) from the start."""
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    frames, labels = problem.logits.shape[0], problem.targets.shape[1]
    logits = jax.numpy.asarray(np.ascontiguousarray(problem.logits.transpose(1, 0, 2)))
    targets = jax.numpy.asarray(problem.targets.astype(np.int32))
    # A padding is 1.0 where there is nothing, as optax wants it.
    logit_paddings = (np.arange(frames) >= problem.input_lengths[:, None]).astype(np.float32)
    label_paddings = (np.arange(labels) >= problem.target_lengths[:, None]).astype(np.float32)
    rest = (jax.numpy.asarray(logit_paddings), targets, jax.numpy.asarray(label_paddings))
    weights = jax.numpy.asarray((1 / np.maximum(problem.target_lengths, 1)).astype(np.float32))

    def losses_of(logits: Any, *rest: Any) -> Any:
        return optax.ctc_loss(logits, *rest, blank_id=0)

    def mean(logits: Any, *rest: Any) -> Any:
        return (losses_of(logits, *rest) * weights).mean()

    def total(logits: Any, *rest: Any) -> Any:
        losses = losses_of(logits, *rest)
        return losses.sum(), losses

    functions = {
        "forward": mean,
        "forward_backward": jax.value_and_grad(mean),
        "evaluate": jax.value_and_grad(total, has_aux=True),
    }

    @functools.cache
    def compiled(name: str) -> Any:
        return jax.jit(functions[name]).lower(logits, *rest).compile()

    def call(name: str) -> Any:
        return jax.block_until_ready(compiled(name)(logits, *rest))

    def evaluate() -> Evaluation:
        (_, losses), gradient = call("evaluate")
        return np.asarray(losses), np.asarray(gradient).transpose(1, 0, 2)

    return Calls(
        forward=lambda: call("forward"),
        forward_backward=lambda: call("forward_backward"),
        evaluate=evaluate,
        prepare=lambda: compiled("forward_backward"),
    )


def _quietly(module: str) -> Any:
    """A module whose import warns of what is no concern of ours, such as a compiler's cache that is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def load_tensorflow(problem: Problem) -> Calls:
    """`tf.nn.ctc_loss` with sparse labels under `tf.function`: its C++ kernel."""
    tf = _quietly("tensorflow")
    logits = tf.constant(problem.logits)
    places = np.argwhere(np.arange(problem.targets.shape[1]) < problem.target_lengths[:, None])
    values = problem.targets[tuple(places.T)].astype(np.int32)
    labels = tf.sparse.SparseTensor(places, values, problem.targets.shape)
    frames = tf.constant(problem.input_lengths.astype(np.int32))
    weights = tf.constant((1 / np.maximum(problem.target_lengths, 1) / len(frames)).astype(np.float32))

    def losses_of(logits: Any) -> Any:
        return tf.nn.ctc_loss(labels, logits, None, frames, logits_time_major=True, blank_index=0)

    def mean(logits: Any) -> Any:
        return tf.reduce_sum(losses_of(logits) * weights)

    def slope(loss: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def both(logits: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(logits)
            return value, tape.gradient(value, logits)

        return both

    forward, step, total = (tf.function(each) for each in (mean, slope(mean), slope(losses_of)))

    def evaluate() -> Evaluation:
        losses, gradient = total(logits)
        return losses.numpy(), gradient.numpy()

    def forward_backward() -> object:
        value, gradient = step(logits)
        value.numpy()  # the two come out of one graph
        return gradient

    return Calls(lambda: forward(logits).numpy(), forward_backward, evaluate)


def load_paddle(problem: Problem) -> Calls:
    """`paddle.nn.functional.ctc_loss`, which is warp-ctc: it takes logits, whatever its argument is called."""
    paddle = _quietly("paddle")
    paddle.set_device("cpu")
    logits = paddle.to_tensor(problem.logits, stop_gradient=False)
    arrays = problem.targets.astype(np.int32), problem.input_lengths, problem.target_lengths
    rest = [paddle.to_tensor(array) for array in arrays]

    def forward() -> object:
        with paddle.no_grad():
            return paddle.nn.functional.ctc_loss(logits, *rest, reduction="mean")

    def forward_backward() -> object:
        logits.clear_gradient(False)  # dropped, not filled with zeros
        paddle.nn.functional.ctc_loss(logits, *rest, reduction="mean").backward()
        return logits.grad

    def evaluate() -> Evaluation:
        logits.clear_gradient(False)
        losses = paddle.nn.functional.ctc_loss(logits, *rest, reduction="none")
        losses.sum().backward()
        return losses.numpy().reshape(-1), logits.grad.numpy()

    return Calls(forward, forward_backward, evaluate)


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "numbactc", "numbactc", ("numbactc", "numba", "torch"), load_numbactc,
            "`numbactc.ctc_loss_with_logits`",
        ),
        Peer(
            "torch", "PyTorch", ("torch",), load_torch,
            "`log_softmax`, then `torch.nn.functional.ctc_loss`, float32, with the backward of both",
        ),
        Peer(
            "optax", "optax", ("optax", "jax"), load_optax,
            "`optax.ctc_loss` under `jax.jit`, gradient by `jax.value_and_grad`",
        ),
        Peer(
            "paddle", "Paddle", ("paddle",), load_paddle,
            "`paddle.nn.functional.ctc_loss`, the warp-ctc that PaddlePaddle brings",
        ),
        Peer(
            "tensorflow", "TensorFlow", ("tensorflow",), load_tensorflow,
            "`tf.nn.ctc_loss` of sparse labels under `tf.function`, gradient by `tf.GradientTape`",
        ),
    )
}  # fmt: skip
"""By name, in the order in which they are loaded: PaddlePaddle crashes when it is imported after TensorFlow."""

REFERENCE = "torch"
"""The peer that ratios are taken to."""

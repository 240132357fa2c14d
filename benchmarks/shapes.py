"""The problems that are measured: what size they have and which numbers fill them.

Legend, as everywhere in numbactc: T frames, N utterances in the batch, C classes (class 0 is the blank), L labels a
target. Nothing here imports a framework: a problem is plain NumPy, so that every peer gets the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shape:
    """One problem size. `floor` and `aim` are ratios to PyTorch: one thread, forward + backward from logits."""

    name: str
    T: int
    N: int
    C: int
    L: int
    floor: float | None = None
    aim: float | None = None

    @property
    def logits_bytes(self) -> int:
        """Size of the float32 logits, in bytes; their gradient has the same size."""
        return 4 * self.T * self.N * self.C

    @property
    def sizes(self) -> str:
        """`T, N, C, L` as text for tables."""
        return f"{self.T}, {self.N}, {self.C}, {self.L}"


@dataclass(frozen=True)
class Case:
    """One accuracy question: a shape, the spread of its logits, and the largest errors we accept from numbactc.

    `sigma` is the standard deviation of the logits, in nats. `wrong` is added, in nats, to a class that no target
    contains: a model that is confident and wrong, hence a target of very small probability. `loss_bound` is relative,
    `gradient_bound` is absolute (the gradient of the summed loss lies in [-1, 1]).
    """

    name: str
    shape: Shape
    sigma: float = 1.0
    wrong: float = 0.0
    loss_bound: float = 1e-7
    gradient_bound: float = 3e-6


@dataclass(frozen=True)
class Problem:
    """One batch of full-length utterances: logits (T, N, C) float32, targets (N, L) int64, lengths (N,) int64."""

    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    input_lengths: NDArray[np.int64]
    target_lengths: NDArray[np.int64]


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("text-line", 150, 40, 28, 40, floor=10, aim=16),
        Shape("characters", 400, 16, 29, 100, floor=15, aim=25),
        Shape("long-audio", 1500, 16, 32, 250, floor=22, aim=35),
        Shape("pieces-1024", 750, 16, 1024, 60, floor=12, aim=16),
        Shape("pieces-5000", 400, 16, 5000, 40, floor=11, aim=14),
    )
}

GPU_SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("characters", 400, 16, 29, 100, floor=5),
        Shape("long-audio", 1500, 32, 32, 250, floor=5),
        Shape("pieces-1024", 750, 32, 1024, 60, floor=3),
        Shape("pieces-5000", 400, 64, 5000, 40, floor=3),
        Shape("small", 64, 4, 32, 16),
    )
}
"""On a GPU, where `floor` is the fastest peer's time over ours."""

GPU_DTYPES = ("float32", "bfloat16")

MEMORY_SHAPES = ("long-audio", "pieces-1024", "pieces-5000")
"""Where memory is measured by default: the logits of the two others are smaller than the noise of an allocator."""

MEMORY_BOUND = 0.25
"""Accepted peak of numbactc beyond logits and gradient on the last row, as a part of the logits' size."""

THREADS_BOUND = ("long-audio", 1.6)
"""Where two threads must be at least this many times as fast as one."""

SWEEP_BASE = {"T": 512, "N": 8, "C": 32, "L": 64}
SWEEPS: dict[str, tuple[int, ...]] = {
    "T": (128, 256, 512, 1024, 2048, 4096, 8192),
    "N": (1, 2, 4, 8, 16, 32, 64),
    "C": (8, 32, 128, 512, 2048, 8192),
    "L": (4, 8, 16, 32, 64, 128, 256),
}
"""What each variable of a sweep goes through, while the others stay at the base."""

TINY = Shape("tiny", 2, 1, 4, 1)
"""Next to nothing to compute: what is left is what a call costs the host."""

DETERMINISM_SHAPES = (Shape("few classes", 200, 8, 32, 30), Shape("many classes", 100, 8, 1000, 15))
"""Utterances of these are of different lengths: see `draw_ragged`."""

VERY_LONG = Shape("very-long", 40_000, 1, 32, 2_000)
UNLIKELY = Shape("unlikely", 1_000, 4, 32, 100)
GROWTH = (100, 400, 1_600, 6_400)
"""Frames of the accuracy cases that lead up to `VERY_LONG`: one utterance with a label every 20 frames, as there."""


def sweep_shapes() -> dict[str, Shape]:
    """Every point of the sweeps once, under its sizes as a name: the base belongs to all of them."""
    points = [SWEEP_BASE | {variable: value} for variable, values in SWEEPS.items() for value in values]
    shapes = [Shape(", ".join(map(str, point.values())), **point) for point in points]
    return {shape.name: shape for shape in shapes}


def growth_case(frames: int) -> Case:
    """The accuracy case of a number of frames."""
    return Case(f"T = {frames:,}, L = {frames // 20:,}", replace(VERY_LONG, name="growth", T=frames, L=frames // 20))


def accuracy_cases(names: list[str], extremes: bool = True) -> list[Case]:
    """Both spreads of the logits for each named shape; `extremes` adds ever longer ones and an unlikely target."""
    cases = [growth_case(frames) for frames in GROWTH] if extremes else []
    for name in names:
        cases.append(Case(f"{name}, N(0, 1)", SHAPES[name]))
        cases.append(Case(f"{name}, N(0, 10^2)", SHAPES[name], sigma=10.0, gradient_bound=1e-5))
    if extremes:
        cases.append(growth_case(VERY_LONG.T))
        cases.append(Case("target probability < 1e-3000", UNLIKELY, wrong=40.0))
    return cases


def draw(shape: Shape, sigma: float = 1.0, wrong: float = 0.0, seed: int = 0) -> Problem:
    """The same problem for the same arguments, always. With `wrong`, no target contains the last class."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((shape.T, shape.N, shape.C), dtype=np.float32)
    logits *= np.float32(sigma)
    last = shape.C
    if wrong:
        logits[:, :, -1] += np.float32(wrong)
        last -= 1
    targets = generator.integers(1, last, (shape.N, shape.L), dtype=np.int64)
    input_lengths = np.full(shape.N, shape.T, dtype=np.int64)
    target_lengths = np.full(shape.N, shape.L, dtype=np.int64)
    return Problem(logits, targets, input_lengths, target_lengths)


def draw_ragged(shape: Shape) -> Problem:
    """The same problem with input and target lengths between half and all of T and of L."""
    problem, generator = draw(shape), np.random.default_rng(1)
    lengths = [generator.integers((size + 1) // 2, size + 1, shape.N) for size in (shape.T, shape.L)]
    return replace(problem, input_lengths=lengths[0], target_lengths=lengths[1])


def tiny(shape: Shape) -> Shape:
    """A small relative with as many classes, for warming up: it compiles what `shape` needs and allocates little."""
    return replace(shape, name=f"{shape.name} (tiny)", T=8, N=2, L=3)

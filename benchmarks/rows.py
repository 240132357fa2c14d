"""The rows a run writes, one dataclass a table, and the words for a row without numbers.

A number that could not be had is None, and `status` says why: a lost, failed or missing peer keeps its row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OK = "ok"
TIME_IS_UP = "left out: the time of the run was up"
Row = dict[str, Any]
"""A row as it lies in the JSON file."""

KernelTime = tuple[str, int, float]
"""Name of a kernel, how often it ran, microseconds of all its runs together."""


def not_installed(modules: list[str]) -> str:
    """The status of a peer whose modules are missing."""
    return f"not installed: {', '.join(modules)}"


def failed(error: BaseException) -> str:
    """The status of a peer that raised, out of memory included."""
    return f"failed: {type(error).__name__}: {error}"[:200]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the samples of one quantity, in the unit of the samples."""

    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class SpeedRow:
    """One shape, peer, number of threads and pass. All times in ms.

    `what` is `forward` or `forward_backward`, in blocks of the same call, or `forward_backward_after_others`: one call
    straight after one of another peer. `first_call_ms` is the first call at this shape in this process,
    compilation included. `ratio` is PyTorch's time divided by this peer's, round by round of the same run. `floor`
    and `aim` are the ratios asked of numbactc.
    """

    shape: str
    T: int
    N: int
    C: int
    L: int
    peer: str
    version: str | None
    threads: int
    what: str
    status: str
    repeats: int = 0
    first_call_ms: float | None = None
    time_ms: Spread | None = None
    ratio: Spread | None = None
    floor: float | None = None
    aim: float | None = None
    samples_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class AccuracyRow:
    """One case and peer.

    `loss_error` is the largest of the batch, relative; `gradient_error` the largest of all entries, absolute.
    `loss_nats` is the largest loss of the batch.
    """

    case: str
    T: int
    N: int
    C: int
    L: int
    sigma: float
    peer: str
    version: str | None
    status: str
    loss_nats: float | None = None
    loss_error: float | None = None
    gradient_error: float | None = None
    loss_bound: float | None = None
    gradient_bound: float | None = None


@dataclass(frozen=True)
class MemoryRow:
    """One shape and peer, forward + backward. All sizes in bytes; `extra_bytes` is peak - baseline - gradient."""

    shape: str
    T: int
    N: int
    C: int
    L: int
    peer: str
    version: str | None
    threads: int
    status: str
    method: str | None = None
    logits_bytes: int | None = None
    gradient_bytes: int | None = None
    baseline_bytes: int | None = None
    peak_bytes: int | None = None
    extra_bytes: int | None = None
    extra_over_logits: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class StartupRow:
    """One fresh process of numbactc, forward + backward of a tiny problem. All times in ms.

    `cache` is `cold` (empty Numba cache) or `warm` (the cache the cold process left). PyTorch is imported before
    `import_ms`.
    """

    cache: str
    status: str
    version: str | None = None
    import_ms: float | None = None
    first_call_ms: float | None = None
    second_call_ms: float | None = None


@dataclass(frozen=True)
class DeterminismRow:
    """One problem of utterances of different lengths, one peer, one number of threads.

    `results` is how many different results, to the bit, `runs` runs of the same call had. The others count the
    utterances, of N, whose own bits differ: `alone` from a batch of one, `order` from the batch reversed, `padding`
    from the batch with more frames behind every length, `threads_differ` from the same call on one thread. `bits` are
    digests of the utterances' losses and gradients.
    """

    shape: str
    T: int
    N: int
    C: int
    L: int
    peer: str
    version: str | None
    threads: int
    status: str
    runs: int = 0
    results: int | None = None
    alone: int | None = None
    order: int | None = None
    padding: int | None = None
    threads_differ: int | None = None
    bits: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostRow:
    """Where the host is, of `samples` taken while numbactc repeats forward + backward of a tiny problem.

    `shares` are parts of the samples, the largest first: in which function of numbactc, named by its file, or
    elsewhere, which is PyTorch and the loop.
    """

    peer: str
    version: str | None
    status: str
    samples: int = 0
    shares: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class GpuRow:
    """One shape, dtype, peer and pass on a GPU.

    `time_us` is a call's share of many queued one behind the other, until the last is done: what a busy GPU needs, or
    the host where it is slower. `host_us` is how long one call keeps the host, on an idle GPU. `peak_bytes` is what a
    call takes beyond its logits, result included. `kernels_us` has the kernels of one call, as the profiler saw them,
    where they prove who ran.
    `ratio` is the fastest peer's median over ours, `floor` the ratio that is asked; `bandwidth_us` the time that
    `bytes_per_score` take at the measured rate of a copy.
    """

    shape: str
    T: int
    N: int
    C: int
    L: int
    dtype: str
    peer: str
    version: str | None
    what: str
    status: str
    repeats: int = 0
    first_call_ms: float | None = None
    time_us: Spread | None = None
    host_us: Spread | None = None
    peak_bytes: int | None = None
    kernels_us: tuple[KernelTime, ...] = ()
    ratio: float | None = None
    floor: float | None = None
    bandwidth_us: float | None = None
    samples_us: tuple[float, ...] = ()


AnyRow = SpeedRow | AccuracyRow | MemoryRow | StartupRow | DeterminismRow | HostRow | GpuRow


def as_row(row: AnyRow) -> Row:
    """A row for JSON."""
    return asdict(row)

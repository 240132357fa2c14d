"""The rows of `python -m benchmarks.decode`, one dataclass a table; `benchmarks.rows` has the words for a lost one."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.rows import Spread


@dataclass(frozen=True)
class SearchRow:
    """One task, peer and number of threads.

    `speed` is in utterances per second, of `utterances` decoded in one go. `first_ms` is the first utterance in this
    process, compilation included. `log_prob` is the mean over `judged` utterances of the exact log-probability of the
    first hypothesis, in nats; `behind` how far, at most, it is below the best of all peers on the task. Both are None
    with a language model, where that is not what is looked for. Errors are parts of the reference's tokens and words.
    """

    units: str
    difficulty: str
    beam: int
    cut: str
    model: str | None
    T: int
    C: int
    peer: str
    version: str | None
    exact: bool
    threads: int
    status: str
    utterances: int = 0
    repeats: int = 0
    first_ms: float | None = None
    speed: Spread | None = None
    judged: int = 0
    log_prob: float | None = None
    behind: float | None = None
    token_errors: float | None = None
    word_errors: float | None = None
    samples_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class AlignRow:
    """One size and peer, one thread. `score` is the float64 sum of the log-probabilities on the path, in nats.

    `extra_bytes` is the peak of one call in a fresh process beyond what was there before it, results included.
    """

    T: int
    N: int
    L: int
    C: int
    peer: str
    version: str | None
    threads: int
    status: str
    repeats: int = 0
    first_ms: float | None = None
    time_ms: Spread | None = None
    score: float | None = None
    method: str | None = None
    extra_bytes: int | None = None
    samples_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class PathRow:
    """How often a peer's path is not the best, over `cases` small problems with scores in `dtype`.

    A path is worse if its score is below the best peer's by more than `tolerance` nats, invalid if it does not become
    the target. `largest` is the largest shortfall, in nats.
    """

    dtype: str
    cases: int
    peer: str
    version: str | None
    status: str
    worse: int | None = None
    invalid: int | None = None
    largest: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class FirstRow:
    """What something costs the first time, in a fresh process. All times in ms.

    `cache` is `cold`, or `warm` where an earlier process has left compiled code or arrays.
    """

    what: str
    peer: str
    cache: str
    status: str
    version: str | None = None
    import_ms: float | None = None
    first_ms: float | None = None
    second_ms: float | None = None


DecodeRow = SearchRow | AlignRow | PathRow | FirstRow

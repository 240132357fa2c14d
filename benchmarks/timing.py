"""Timing calls that take turns.

On a shared machine noise comes in waves of seconds. Calls that run one after the other, A B C A B C, share each wave,
and the ratio of two calls of the same round barely feels it. Hence ratios are taken round by round, not from two
separate medians.

A turn is a block of calls, as `timeit` and `torch.utils.benchmark` time them: a warm loop. What a call takes straight
after other work, when the caches hold other data and other code, is another question, and `single_ms` asks it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.rows import Spread

MIN_ROUNDS = 5
"""A budget of time never cuts the rounds below this number."""


TURN_S = 0.1
"""How long a block of calls goes on at least."""


def single_ms(call: Callable[[], object]) -> float:
    """Wall-clock time of one call, in ms, whatever ran before."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def block_ms(call: Callable[[], object], threads: int = 1) -> float:
    """Median wall-clock time of a call in a block of its own, in ms, after calls that warm up."""
    # PyTorch sizes its pools when it is imported, which must not be with this module: see speed.py
    from torch.utils.benchmark import Timer

    timer = Timer("call()", globals={"call": call}, num_threads=threads)
    return float(timer.blocked_autorange(min_run_time=TURN_S).median) * 1e3


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    budget_s: float,
    pause_s: float = 0.0,
    turn: Callable[[Callable[[], object]], float] = single_ms,
) -> dict[str, list[float]]:
    """Samples of each call, in ms, one a round; stops early once `budget_s` is spent and `MIN_ROUNDS` are done.

    `turn` times a call. `pause_s` is slept before it: threads that a peer keeps spinning after its work would take a
    core from the next. Garbage is collected between rounds, never inside a call.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    enabled = gc.isenabled()
    gc.disable()
    try:
        for done in range(rounds):
            if done >= MIN_ROUNDS and time.perf_counter() - start > budget_s:
                break
            for name, call in calls.items():
                if pause_s:
                    time.sleep(pause_s)
                samples[name].append(turn(call))
            gc.collect()
    finally:
        if enabled:
            gc.enable()
    return samples


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles."""
    q1, median, q3 = np.percentile(samples, [25, 50, 75])
    return Spread(float(median), float(q1), float(q3))


def paired_ratio(reference: Sequence[float], other: Sequence[float]) -> Spread:
    """Spread of `reference / other`, round by round: above 1 means that `other` is faster."""
    return spread(np.divide(reference, other).tolist())

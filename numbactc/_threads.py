"""Shares the utterances of a batch among as many threads as torch has been given; the kernels release the GIL.

Numba's own `parallel=True` will not do: two Python threads in it abort the process, or a fork after it is killed,
depending on its layer. Which thread computes an utterance changes nothing in its bits.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
import torch

SMALLEST_SHARE = 100_000
"""Steps of work below which handing it to another thread costs more than it saves."""

_lock = Lock()
_pool: ThreadPoolExecutor | None = None


def share(run: Callable[[np.ndarray], None], utterances: int, costs: Callable[[], np.ndarray]) -> None:
    """Call run with disjoint sets of utterances that make up the batch, in threads, and wait for all of them.

    Args:
        run: takes int64 indices.
        utterances: N.
        costs: (N,) roughly how long each utterance takes, asked for only if there are threads to share among.
    """
    threads = min(torch.get_num_threads(), utterances)
    if threads > 1:
        threads = min(threads, 1 + int(costs().sum()) // SMALLEST_SHARE)
    if threads <= 1:
        run(np.arange(utterances))
        return
    shares = split(costs(), threads)
    futures = [_submit(run, some) for some in shares[1:]]
    try:
        run(shares[0])
    finally:
        # also after an exception: the others still write to this call's memory
        outcomes = [future.exception() for future in futures if future is not None]
    for error in outcomes:
        if error is not None:
            raise error


def split(costs: np.ndarray, parts: int) -> list[np.ndarray]:
    """Indices in `parts` sets of about the same cost: the dearest first, each to the set that has least."""
    sets: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for n in np.argsort(-costs, kind="stable").tolist():
        least = loads.index(min(loads))
        sets[least].append(n)
        loads[least] += int(costs[n])
    return [np.array(sorted(some), np.int64) for some in sets]


def _submit(run: Callable[[np.ndarray], None], some: np.ndarray) -> "Future[None] | None":
    global _pool
    try:
        with _lock:
            if _pool is None:
                _pool = ThreadPoolExecutor(max(32, os.cpu_count() or 1), thread_name_prefix="numbactc")
            return _pool.submit(run, some)
    except RuntimeError:  # the interpreter is shutting down and takes no more work
        run(some)
        return None


def _forget_pool() -> None:
    """A forked child has the pool's object but none of its threads."""
    global _pool, _lock
    _pool, _lock = None, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)

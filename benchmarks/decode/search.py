"""Speed and quality of searches: every peer on every task, in one process with a fixed number of threads.

    python -m benchmarks.decode.search --threads 1 --models FOLDER --tasks 0:8

prints JSON rows. With several threads numbactc takes a whole batch; a peer, which has none, gets as many forked
processes, each with a decoder of its own from before the fork, and sends back tokens only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decode.ours import NOT_RESCORED, ONLY_KNOWN, OURS
from benchmarks.decode.peers import SEARCHERS, Answer, Searcher
from benchmarks.decode.posteriors import BLANK, edit_distance
from benchmarks.decode.rows import SearchRow
from benchmarks.decode.tasks import Material, Task, material, search_tasks
from benchmarks.rows import OK, Row, failed, not_installed
from benchmarks.speed import confine
from benchmarks.timing import single_ms, spread, take_turns

OF_NUMBACTC = {searcher.name: searcher for searcher in (OURS, NOT_RESCORED, ONLY_KNOWN)}
PEERS: dict[str, Searcher] = {**OF_NUMBACTC, **SEARCHERS}
LIMIT_S = 20.0
"""Longer than this for one utterance, and a peer is given up; it is asked in a process that can be ended."""
ONCE_S = 2.0
"""Longer than this for one utterance, and a peer is asked no second time."""
TURN_S = 0.25
"""About how long one call goes on: as many utterances as fit, of those there are."""
HEARD_S = 4.0
"""About how long a peer may take to decode utterances once, for the quality of its answers."""

_decoders: dict[str, Callable[[int], Answer]] = {}


def _decode(name: str, index: int) -> Answer:
    """In a forked process: the decoders came with the fork."""
    return _decoders[name](index)


@dataclass
class Running:
    """A peer on a task: what it has said so far, and the call that is timed."""

    searcher: Searcher
    status: str = OK
    first_ms: float | None = None
    count: int = 1
    answers: list[Answer] = field(default_factory=list)
    call: Callable[[], object] | None = None
    samples: list[float] = field(default_factory=list)
    pool: Pool | None = None


def _first_utterance(running: Running, given: Material) -> None:
    """Load, and decode one utterance; a peer does so in a process that ends when it takes too long."""
    name = running.searcher.name
    _decoders[name] = running.searcher.load(given)
    if name in OF_NUMBACTC:
        running.first_ms = single_ms(lambda: running.answers.append(_decode(name, 0)))
        running.first_ms = min(running.first_ms, single_ms(lambda: _decode(name, 0)))
        return
    pool = multiprocessing.get_context("fork").Pool(1)
    try:
        running.first_ms = single_ms(
            lambda: running.answers.append(pool.apply_async(_decode, (name, 0)).get(LIMIT_S))
        )
    finally:
        pool.terminate()
        pool.join()


def _prepare(running: Running, given: Material, threads: int) -> None:
    """Hear all utterances that there is time for, and make the call that will be timed."""
    name, total = running.searcher.name, len(given.utterances)
    try:
        _first_utterance(running, given)
        seconds = (running.first_ms or 0.0) / 1e3
        if seconds > ONCE_S:
            running.samples = [seconds * 1e3] if threads == 1 else []
            running.status = OK if threads == 1 else f"left out: {seconds:.0f} s an utterance"
            return
        heard = max(1, min(total, int(HEARD_S / seconds)))
        running.answers += [_decode(name, index) for index in range(1, heard)]
        running.count = max(threads, min(total, int(TURN_S * threads / seconds)))
        running.call = _call(running, threads)
        running.call()
    except multiprocessing.TimeoutError:
        running.status = f"left out: above {LIMIT_S:.0f} s an utterance"
    except Exception as error:  # a peer that fails is a row of the table, not the end of the run
        running.status = failed(error)


def _call(running: Running, threads: int) -> Callable[[], object]:
    name, indices = running.searcher.name, range(running.count)
    decode = _decoders[name]
    whole = getattr(decode, "batch", None)
    if whole is not None:
        return lambda: whole(running.count)
    if threads == 1:
        return lambda: [decode(index) for index in indices]
    running.pool = multiprocessing.get_context("fork").Pool(threads)
    pool = running.pool
    return lambda: pool.starmap(_decode, [(name, index) for index in indices], chunksize=1)


def log_prob(tokens: list[int], log_probs: np.ndarray) -> float:
    """The exact log-probability of tokens, over all alignments, by PyTorch in float64."""
    import torch

    scores = torch.from_numpy(log_probs).double().unsqueeze(1)
    lengths = torch.tensor([len(tokens)])
    loss = torch.nn.functional.ctc_loss(
        scores, torch.tensor([tokens], dtype=torch.int64), torch.tensor([len(log_probs)]), lengths, BLANK, "sum"
    )
    return -float(loss)


def judge(found: dict[str, list[Answer]], given: Material) -> dict[str, dict[str, Any]]:
    """Errors of each peer's answers, and without a language model their log-probabilities, alone and compared."""
    said = given.utterances
    values = {
        name: [log_prob(answer.tokens, heard.log_probs) for answer, heard in zip(answers, said, strict=False)]
        for name, answers in found.items()
        if given.task.model is None
    }
    best = [max((scores[i] for scores in values.values() if i < len(scores)), default=0.0) for i in range(len(said))]
    verdicts = {}
    for name, answers in found.items():
        if not answers:
            continue
        heard = said[: len(answers)]
        verdict: dict[str, Any] = {
            "judged": len(answers),
            "token_errors": sum(edit_distance(a.tokens, b.tokens) for a, b in zip(answers, heard, strict=True))
            / sum(len(one.tokens) for one in heard),
            "word_errors": sum(
                edit_distance(a.text.split(), b.text.split()) for a, b in zip(answers, heard, strict=True)
            )
            / sum(len(one.text.split()) for one in heard),
        }
        if name in values:
            verdict["log_prob"] = float(np.mean(values[name]))
            verdict["behind"] = max(top - own for top, own in zip(best, values[name], strict=False))
        verdicts[name] = verdict
    return verdicts


def measure_task(task: Task, models: Path, peers: list[str], threads: int, rounds: int, budget_s: float) -> list[Row]:
    """The rows of one task: every peer that takes it, in turns."""
    given = material(task, models)
    runners = {name: Running(PEERS[name]) for name in peers if PEERS[name].takes(task)}
    for running in runners.values():
        if running.searcher.missing:
            running.status = not_installed(running.searcher.missing)
        else:
            _prepare(running, given, threads)
    calls = {name: running.call for name, running in runners.items() if running.call is not None}
    for name, samples in take_turns(calls, rounds, budget_s).items():
        runners[name].samples = [sample / runners[name].count for sample in samples]
    for running in runners.values():
        if running.pool is not None:
            running.pool.terminate()
            running.pool.join()
    verdicts = judge({name: running.answers for name, running in runners.items()}, given)
    frames, classes = given.utterances[0].log_probs.shape
    rows = []
    for name, running in runners.items():
        row = SearchRow(
            **asdict(task), T=frames, C=classes, peer=name, version=running.searcher.version,
            exact=running.searcher.exact, threads=threads, status=running.status, utterances=running.count,
            repeats=len(running.samples), first_ms=running.first_ms,
            speed=spread([1e3 / sample for sample in running.samples]) if running.samples else None,
            samples_ms=tuple(round(sample, 4) for sample in running.samples),
            **verdicts.get(name, {}),
        )  # fmt: skip
        rows.append(asdict(row))
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure as asked and print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--tasks", default=":", help="which of search_tasks(), as a slice")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=6.0, help="seconds for one task, all peers")
    options = parser.parse_args(arguments)
    confine(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    chosen = slice(*(int(bound) if bound else None for bound in options.tasks.split(":")))
    rows: list[Row] = []
    with contextlib.redirect_stdout(sys.stderr):
        for task in search_tasks()[chosen]:
            print(f"search, {options.threads} thread(s): {task}", flush=True)
            rows += measure_task(
                task, options.models, options.peers.split(","), options.threads, options.rounds, options.budget
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()

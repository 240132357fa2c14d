"""The loop that trains, in one process or many: budget, order of the batches, interruption, saving."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from common import checkpoint
from common.batches import BucketSampler, E, Examples, load
from common.distributed import Lost, Processes
from common.trainer import C, Trainer, log


class Interrupted:
    """Truthy once the user has asked to stop: the present step is finished, so last.pt holds whole steps."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked

    def ask(self, *_: object) -> None:
        self.asked = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask, until the block ends."""
        before = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def all_the_same(train_set: Examples[E], processes: Processes) -> None:
    """Raise unless every process has the same training utterances: batches are numbers of them."""
    found = processes.everyone((checkpoint.fingerprint(train_set.utterances), len(train_set)))
    if others := [rank for rank, mark in enumerate(found) if mark != found[0]]:
        counts = ", ".join(f"{count} in process {rank}" for rank, (_, count) in enumerate(found))
        raise ValueError(f"every process must read the same training utterances, {others} differ from 0: {counts}")


def train(trainer: Trainer[C, E]) -> None:
    """Train until the budget is used up or the user interrupts; either way last.pt is written."""
    config, processes, interrupted = trainer.config, trainer.processes, Interrupted()
    if config.train.accumulate < 1:
        raise ValueError(f"train.accumulate must be positive, got {config.train.accumulate}")
    writer: SummaryWriter | None = None
    if processes.first:
        checkpoint.write_atomically(config.exp / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False))
        writer = SummaryWriter(str(config.exp / "tensorboard"), purge_step=trainer.step + 1)
    train_set, dev_set = trainer.data_sets()
    all_the_same(train_set, processes)
    sampler = BucketSampler(
        train_set.lengths, trainer.batch_length, config.train.seed, sorted_epochs=config.train.sorted_epochs
    )
    shown = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    done = min(1.0, trainer.progress())
    bar = tqdm(total=1.0, initial=done, desc="train", bar_format=shown, disable=not processes.first)
    with logging_redirect_tqdm([log]), writer or nullcontext(), bar, interrupted.listening():
        saved = clock = time.perf_counter()
        begun, asked = trainer.step, False
        while not (asked or trainer.done()):
            sampler.epoch = train_set.epoch = trainer.epoch
            batches = sampler.batches()
            numbers = range(trainer.batch, len(batches))[processes.rank :: processes.count]
            reader = iter(load(train_set, [batches[k] for k in numbers]))
            while trainer.batch < len(batches):
                # what depends on one process's clock or user, all of them hear before each step
                seconds, asking = processes.total(trainer.seconds if processes.first else 0.0, bool(interrupted))
                trainer.seconds, asked = seconds, asking > 0
                progress = trainer.progress(trainer.batch / len(batches))
                if progress >= 1 or asked:
                    break
                end = min(trainer.batch + processes.count * config.train.accumulate, len(batches))
                mine = range(trainer.batch, end)[processes.rank :: processes.count]
                loss = trainer.train_step([(k, next(reader)) for k in mine], progress)
                trainer.batch = end
                trainer.record(loss, writer)
                bar.set_postfix(epoch=trainer.epoch, loss=f"{loss:.3f}", dev_wer=f"{trainer.best:.1f}", refresh=False)
                bar.update(min(1.0, progress) - bar.n)
                now = time.perf_counter()
                if trainer.step == begun + 1:  # it compiles, for longer than a run of minutes warms up: not counted
                    clock = now
                trainer.seconds, clock = trainer.seconds + now - clock, now
                if now - saved > 60 * config.train.save_minutes:
                    trainer.save()
                    saved = now
            if asked:
                break
            if trainer.batch == len(batches):
                trainer.epoch, trainer.batch = trainer.epoch + 1, 0
            trainer.score(dev_set, writer)
            now = time.perf_counter()
            trainer.seconds, clock, saved = trainer.seconds + now - clock, now, now
            trainer.save()
    trainer.finished = trainer.done()
    trainer.save()
    if processes.first and not trainer.finished:
        log.info("interrupted at step %d: the same command continues", trainer.step)


def set_up_log(path: Path, processes: Processes) -> None:
    """Lines to the screen and to exp/<name>/log; of other processes than the first, errors only, to the screen."""
    log.setLevel(logging.INFO if processes.first else logging.ERROR)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if processes.first:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)


def run(trainer: Trainer[C, E]) -> None:
    config = trainer.config
    trainer.resume()
    if trainer.finished:
        log.info("%s is finished: %d epochs, %.1f min", config.exp, trainer.epoch, trainer.seconds / 60)
        return
    parameters = sum(p.numel() for p in trainer.model.parameters())
    log.info(
        "%s: %.2f M parameters, %s on %s, from step %d, %d processes of %d threads", config.name, parameters / 1e6,
        trainer.precision, trainer.device, trainer.step, trainer.processes.count, torch.get_num_threads(),
    )  # fmt: skip
    train(trainer)


def main(make: Callable[[C, Processes], Trainer[C, E]], config: C) -> None:
    """A stage's whole program: begin the run of these settings, or go on with it."""
    processes = Processes()
    set_up_log(config.exp / "log", processes)
    trainer = make(config, processes)
    try:
        with processes.joined(trainer.device):
            run(trainer)
    except Lost as error:
        log.error("%s", error)
        sys.exit(1)
    if not trainer.finished:
        sys.exit(130)

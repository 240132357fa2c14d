"""Stage 2: train the acoustic model with numbactc's CTC loss on its logits.

Interrupted, it continues from exp/<name>/last.pt at the very batch; finished, it says so and stops. The budget is
``train.minutes`` of training (resumes add up), ``train.epochs``, or both; the learning rate follows the budget.
"""

from __future__ import annotations

import logging
import math
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

import config as configs
from data import BucketSampler, SpeechDataset, load
from manifest import read_manifests
from trainer import Trainer, log


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


def data_sets(trainer: Trainer) -> tuple[SpeechDataset, SpeechDataset]:
    """Features of the training set, at all speeds, and of as much of the dev set as is scored after each epoch."""
    config = trainer.config
    parts = config, trainer.tokens, trainer.log_mel
    train = SpeechDataset(trainer.train_set, *parts, training=True, report=log.warning)
    chosen = read_manifests(config, config.data.dev)
    if 0 < config.data.dev_limit < len(chosen):
        chosen = random.Random(config.train.seed).sample(chosen, config.data.dev_limit)
    return train, SpeechDataset(chosen, *parts)


def train(trainer: Trainer) -> None:
    """Train until the budget is used up or the user interrupts; either way last.pt is written."""
    config, interrupted = trainer.config, Interrupted()
    (config.exp / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False), encoding="utf-8")
    train_set, dev_set = data_sets(trainer)
    durations = [u.duration / min(config.data.speeds) for u in train_set.utterances]
    sampler = BucketSampler(durations, config.train.batch_seconds, config.train.seed)
    writer = SummaryWriter(str(config.exp / "tensorboard"), purge_step=trainer.step + 1)
    shown = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    bar = tqdm(total=1.0, initial=min(1.0, trainer.progress()), desc="train", bar_format=shown)
    with logging_redirect_tqdm([log]), writer, bar, interrupted.listening():
        saved = clock = time.perf_counter()
        recent: list[float] = []
        while trainer.progress() < 1 and not interrupted:
            sampler.epoch = train_set.epoch = trainer.epoch
            batches = sampler.batches()
            for batch in load(train_set, batches[trainer.batch :]):
                progress = trainer.progress(trainer.batch / len(batches))
                if progress >= 1 or interrupted:
                    break
                for line in batch.reports:
                    log.warning(line)
                loss = trainer.train_step(batch, progress)
                if math.isfinite(loss):
                    recent.append(loss)
                now = time.perf_counter()
                trainer.seconds, clock = trainer.seconds + now - clock, now
                if trainer.step % 10 == 0 and recent:
                    trainer.losses.append([trainer.step, sum(recent) / len(recent)])
                    recent.clear()
                    writer.add_scalar("train/loss", trainer.losses[-1][1], trainer.step)
                    writer.add_scalar("train/lr", trainer.optimizer.param_groups[0]["lr"], trainer.step)
                bar.set_postfix(epoch=trainer.epoch, loss=f"{loss:.3f}", dev_wer=f"{trainer.best:.1f}", refresh=False)
                bar.update(min(1.0, progress) - bar.n)
                if now - saved > 60 * config.train.save_minutes:
                    trainer.save()
                    saved = now
            if interrupted:
                break
            trainer.epoch, trainer.batch = trainer.epoch + 1, 0
            trainer.score(dev_set, writer)
            now = time.perf_counter()
            trainer.seconds, clock, saved = trainer.seconds + now - clock, now, now
            trainer.save()
    trainer.finished = not interrupted
    trainer.save()
    if interrupted:
        log.info("interrupted at step %d: the same command continues", trainer.step)


def set_up_log(path: Path) -> None:
    """Lines to the screen and to exp/<name>/log."""
    log.setLevel(logging.INFO)
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), logging.FileHandler(path, encoding="utf-8")]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)


def main() -> None:
    args = configs.argument_parser(__doc__).parse_args()
    config = configs.load(args.config, args.overrides)
    set_up_log(config.exp / "log")
    trainer = Trainer(config)
    trainer.resume()
    if trainer.finished:
        log.info("%s is finished: %d epochs, %.1f min", config.exp, trainer.epoch, trainer.seconds / 60)
        return
    parameters = sum(p.numel() for p in trainer.model.parameters())
    log.info(
        "%s: %.2f M parameters, %s, from step %d, on %d threads", config.name, parameters / 1e6,
        trainer.precision, trainer.step, torch.get_num_threads(),
    )  # fmt: skip
    train(trainer)
    if not trainer.finished:
        sys.exit(130)


if __name__ == "__main__":
    main()

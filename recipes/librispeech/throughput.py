"""Hours of speech that training gets through in an hour, with numbactc's CTC loss and with PyTorch's.

    python throughput.py --config conf/mini.yaml --steps 20
    python throughput.py --config conf/train-960.yaml data.root=DIR data.train=train-clean-100 --hours 960.9

After stages 0 and 1. Both train the same model in one process, in turns: each step is done by one, then by the other,
on the same batch, and who is first alternates. A step is all that training does but reading: SpecAugment, forward,
loss, backward, clipping, AdamW, averaging. Prints a line each, and writes exp/<name>/throughput.json. Where the
configuration has a number of epochs, a line more estimates what they take; ``--hours`` is for a part of the data that
stands for all of it, as above.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from typing import Any

import torch

import config as configs
from common.batches import BucketSampler, collate
from common.objective import Objective
from config import Config
from data import Batch
from trainer import Trainer

PACKAGES = ["numbactc", "torch"]
WARM_UP = 2  # steps of each that do not count: compilation, first allocations


def drawn_batches(trainer: Trainer, count: int) -> list[Batch]:
    """``count`` batches of the training set, by lot; only their utterances are read."""
    config = trainer.config
    durations = [u.duration for u in trainer.train_set]
    sampler = BucketSampler(durations, config.train.batch_seconds, config.train.seed)
    sampler.epoch = 1  # any but the first, which goes from short to long
    batches = sampler.batches()
    chosen = [batches[k % len(batches)] for k in range(count)]
    wanted = sorted({index for batch in chosen for index in batch})
    trainer.train_set = [trainer.train_set[index] for index in wanted]
    place = {index: k for k, index in enumerate(wanted)}
    train_set, _ = trainer.data_sets()
    return [collate([train_set[place[index]] for index in batch]) for batch in chosen]


def seconds_of(trainer: Trainer, number: int, batch: Batch, objective: Objective) -> float:
    """One step, from begin to end, on a GPU too."""
    trainer.objective = objective
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
    begin = time.perf_counter()
    trainer.train_step([(number, batch)], progress=0.5)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
    return time.perf_counter() - begin


def measure(config: Config, steps: int) -> dict[str, Any]:
    """Seconds of each step with each loss, the audio in it, and what the figures must be quoted with."""
    if steps < 1:
        raise ValueError(f"--steps must be positive, got {steps}")
    trainer = Trainer(config)
    speech = sum(u.duration for u in trainer.train_set) / 3600
    batches = drawn_batches(trainer, WARM_UP + steps)
    objectives = {name: Objective(replace(config.loss, package=name)) for name in PACKAGES}
    seconds: dict[str, list[float]] = {name: [] for name in PACKAGES}
    for number, batch in enumerate(batches):
        for name in PACKAGES if number % 2 == 0 else reversed(PACKAGES):
            seconds[name].append(seconds_of(trainer, number, batch, objectives[name]))
    audio = [sum(u.duration for u in batch.utterances) for batch in batches][WARM_UP:]
    seconds = {name: times[WARM_UP:] for name, times in seconds.items()}
    ratios = sorted(b / a for a, b in zip(seconds["numbactc"], seconds["torch"], strict=True))
    return {
        "name": config.name,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "training_hours": speech,
        "device": torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else "cpu",
        "precision": trainer.precision,
        "environment": trainer.environment,
        "audio": audio,
        "seconds": seconds,
        "hours_per_hour": {name: sum(audio) / sum(times) for name, times in seconds.items()},
        "ratio": {"median": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1]},
    }


def main() -> None:
    parser = configs.argument_parser(__doc__)
    parser.add_argument("--steps", type=int, default=20, help="steps that count, with each loss")
    parser.add_argument("--hours", type=float, help="of training speech, for the estimate (default: what there is)")
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    config = replace(config, data=replace(config.data, dev_limit=1))  # which is read, but not scored
    result = measure(config, args.steps)
    (config.exp / "throughput.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, hours in result["hours_per_hour"].items():
        print(f"{name}: {hours:.0f} hours of speech an hour, {result['device']}, {result['precision']}")
    ratio = result["ratio"]
    print(
        f"a step with PyTorch's loss takes {ratio['median']:.2f} times as long ({ratio['lowest']:.2f} to "
        f"{ratio['highest']:.2f} of {args.steps})"
    )
    if config.train.epochs:
        speech = args.hours or result["training_hours"]
        epochs = config.train.epochs
        hours = epochs * speech / result["hours_per_hour"]["numbactc"]
        print(f"estimate: {epochs} epochs of {speech:.1f} h take {hours:.1f} h, reading and scoring left out")


if __name__ == "__main__":
    main()

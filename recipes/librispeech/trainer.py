"""What a run is made of: weights, optimiser, schedule, counters; one step, one scoring, saving and resuming."""

from __future__ import annotations

import logging
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

import checkpoint
import environment
from config import Config
from data import Batch, SpeechDataset, fingerprint, read_manifests
from decoders import greedy
from features import SpecAugment
from model import AcousticModel
from numbactc import CTCLossWithLogits
from optimisation import averaging, learning_rate, use_bfloat16
from rates import error_rates
from scores import scored
from tokens import BLANK, read_tokens

log = logging.getLogger("train")


class Trainer:
    """All that a run is made of; ``state`` is what last.pt holds of it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        config.exp.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.train.seed)
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        self.bfloat16 = use_bfloat16(config.train.precision)
        self.tokens = read_tokens(config)
        self.model = checkpoint.build_model(config, self.tokens)
        self.average = AveragedModel(self.model, multi_avg_fn=averaging(config.optim.average))
        self.augment = SpecAugment(config.features)
        self.loss = CTCLossWithLogits(blank=BLANK, reduction="mean", zero_infinity=False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), config.optim.lr, (0.9, 0.98), weight_decay=config.optim.weight_decay
        )
        self.step = self.epoch = self.batch = 0
        self.seconds = 0.0
        self.best = math.inf
        self.finished = False
        self.losses: list[list[float]] = []  # [step, loss], a mean of ten steps
        self.rates: list[list[float]] = []  # [step, dev loss, dev WER, dev CER]
        self.train_set = read_manifests(config, config.data.train)
        self.data = fingerprint(self.train_set)
        self.environment = environment.describe()
        self.precision = "bfloat16" if self.bfloat16 else "float32"

    def state(self) -> dict[str, Any]:
        names = ["step", "epoch", "batch", "seconds", "best", "finished", "losses", "rates"]
        names += ["environment", "precision", "data"]
        return {
            "config": self.config.to_dict(),
            "tokens": self.tokens.state(),
            "model": self.average.module.state_dict(),
            "raw_model": self.model.state_dict(),
            "averaged": self.average.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            **{name: getattr(self, name) for name in names},
        }

    def resume(self) -> None:
        path = self.config.exp / "last.pt"
        if not path.exists():
            return
        state = checkpoint.load(path)
        checkpoint.must_match(state["config"], self.config, path)
        if state["data"] != self.data or checkpoint.tokens_of(state).state() != self.tokens.state():
            raise ValueError(f"{path} was trained on other utterances or tokens: remove it or choose another name=")
        self.model.load_state_dict(state["raw_model"])
        self.average.module.load_state_dict(state["model"])
        self.average.n_averaged.copy_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        for name in ["step", "epoch", "batch", "seconds", "best", "losses", "rates", "environment"]:
            setattr(self, name, state[name])
        self.finished = state["finished"] and self.progress() >= 1

    def save(self) -> None:
        checkpoint.save(self.config.exp / "last.pt", self.state())

    def progress(self, part: float = 0.0) -> float:
        """Share of the budget that is used; ``part`` is the share done of the current epoch."""
        budget = self.config.train
        if budget.minutes <= 0 and budget.epochs <= 0:
            raise ValueError("train.minutes or train.epochs must be positive, got 0 and 0")
        by_time = self.seconds / (60 * budget.minutes) if budget.minutes > 0 else 0.0
        return max(by_time, (self.epoch + part) / budget.epochs if budget.epochs > 0 else 0.0)

    def train_step(self, batch: Batch, progress: float) -> float:
        """One batch forward, backward and one step of the optimiser; returns its loss in nats a character."""
        rate = learning_rate(progress, self.config.optim.lr, self.config.optim.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.step += 1
        self.batch += 1
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits, input_lengths = self.model(self.augment(batch.features), batch.lengths)
        loss: Tensor = self.loss(logits, batch.targets, input_lengths, batch.target_lengths)
        if not torch.isfinite(loss):
            log.warning("skipped a batch with loss %s: %s", loss.item(), " ".join(u.id for u in batch.utterances))
            return math.nan
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip)
        if not torch.isfinite(norm):
            log.warning("skipped a batch with gradient %s: %s", norm.item(), " ".join(u.id for u in batch.utterances))
            return math.nan
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return loss.item()

    def score(self, dataset: SpeechDataset, writer: SummaryWriter) -> None:
        """Dev loss, WER and CER of the averaged weights; the best so far becomes best.pt."""
        total, references, hypotheses = 0.0, [], []
        model = cast(AcousticModel, self.average.module)
        for batch, logits, input_lengths in scored(model, dataset, self.config.train.batch_seconds):
            loss = self.loss(logits, batch.targets, input_lengths, batch.target_lengths).item()
            total += loss * len(batch.utterances)
            references += [u.text for u in batch.utterances]
            hypotheses += greedy(logits, input_lengths, self.tokens)
        rates = error_rates(references, hypotheses)
        loss, wer, cer = total / len(dataset), rates["WER"]["percent"], rates["CER"]["percent"]
        self.rates.append([self.step, loss, wer, cer])
        for name, value in [("loss", loss), ("WER", wer), ("CER", cer)]:
            writer.add_scalar(f"dev/{name}", value, self.step)
        log.info(
            "epoch %d, step %d, %.1f min: train loss %.3f, dev loss %.3f, WER %.2f %%, CER %.2f %%",
            self.epoch, self.step, self.seconds / 60, self.losses[-1][1] if self.losses else math.nan, loss, wer, cer,
        )  # fmt: skip
        # above 100 % the rate says nothing about progress: the later weights are the better ones
        if min(wer, 100.0) <= self.best:
            self.best = min(wer, 100.0)
            keep = ["config", "tokens", "model", "step", "epoch", "seconds"]
            content = {name: value for name, value in self.state().items() if name in keep}
            checkpoint.save(self.config.exp / "best.pt", content)

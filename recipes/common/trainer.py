"""What a run is made of: weights, optimiser, schedule, counters; one step, one scoring, saving and resuming.

Shapes: T frames, N utterances, C classes.
"""

from __future__ import annotations

import logging
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from common import checkpoint, environment, origin
from common.batches import Batch, E, Examples
from common.config import Settings, filled
from common.decoders import greedy
from common.distributed import Processes
from common.objective import Objective
from common.optimisation import averaging, check, learning_rate, use_bfloat16
from common.rates import error_rates
from common.scores import scored
from common.tokens import Tokens

log = logging.getLogger("train")

C = TypeVar("C", bound=Settings)

COUNTERS = ["step", "epoch", "batch", "seconds", "best", "stale", "losses", "recent", "rates"]


class Trainer(ABC, Generic[C, E]):
    """All that a run is made of; ``state`` is what last.pt holds of it. Each recipe says what its abstract methods do.

    Nothing is drawn from a generator that has run: dropout is seeded by (``train.seed``, epoch, number of the batch in
    its epoch), what augmentation draws by (seed, epoch, utterance). So both are the same after a resume, and whichever
    process has the batch.

    Attributes:
        step: steps of the optimiser so far, those that were skipped included.
        epoch: epochs finished. batch: batches used of the next one, by all processes.
        seconds: of training and scoring, by the first process's clock, without the first step of each leg: it compiles.
        best: lowest dev WER in percent, at most 100. stale: scorings since that did not reach it.
        losses: [step, loss], a mean of ten steps; recent: the finite losses since. rates: [step, dev loss, WER, CER].
        legs: environments of the run, each with the step from which on it went on there.
        origin: what a report says of ``train.init``.
        packages: those whose versions matter, beside PyTorch and ours.
        meaning: settings that the weights were learnt for and no shape shows.
    """

    packages: Sequence[str] = ()
    meaning: Sequence[str] = ()

    def __init__(self, config: C, processes: Processes | None = None) -> None:
        self.config = config
        self.processes = processes or Processes()
        if self.processes.first:
            config.exp.mkdir(parents=True, exist_ok=True)
        check(config.optim)
        torch.manual_seed(config.train.seed)
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        self.device = self.processes.device(config.train.device)
        self.bfloat16 = use_bfloat16(config.train.precision, self.device)
        self.tokens, self.model = self.build()
        # copied before either goes to a GPU: there each LSTM then lays its weights out in one block
        self.average = AveragedModel(self.model, multi_avg_fn=averaging(config.optim.average)).to(self.device)
        self.model.to(self.device)
        self.objective = Objective(config.loss)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), config.optim.lr, (0.9, 0.98), weight_decay=config.optim.weight_decay
        )
        self.step = self.epoch = self.batch = self.stale = 0
        self.seconds = 0.0
        self.best = math.inf
        self.finished = False
        self.losses: list[list[float]] = []
        self.recent: list[float] = []
        self.rates: list[list[float]] = []
        self.train_set = self.examples()
        self.data = checkpoint.fingerprint(self.train_set)
        self.environment = environment.describe(self.packages, self.device, self.processes.count)
        self.legs: list[dict[str, Any]] = [{"step": 0, **self.environment}]
        self.origin = ""
        self.precision = "bfloat16" if self.bfloat16 else "float32"

    @abstractmethod
    def build(self) -> tuple[Tokens, nn.Module]:
        """Tokens, and the model on the CPU. Whatever else turns a batch into scores is made here, on ``device``."""

    @abstractmethod
    def examples(self) -> list[E]:
        """The training set."""

    @abstractmethod
    def data_sets(self) -> tuple[Examples[E], Examples[E]]:
        """``train_set`` with what is learnt from, and as much of the dev set as is scored after each epoch."""

    @property
    @abstractmethod
    def batch_length(self) -> float:
        """The most of one batch, in the unit of the data sets' ``lengths``."""

    @abstractmethod
    def all_scores(self, batch: Batch[E], views: int) -> tuple[list[Tensor], Tensor]:
        """Of ``views`` copies of a batch, each augmented by itself: logits (T, V * N, C) of each layer that has a loss,
        those of the last layer last, and input_lengths (V * N,).
        """

    @abstractmethod
    def score_batch(self, batch: Batch[E]) -> tuple[Tensor, Tensor]:
        """Logits (T, N, C) in float32 and input_lengths (N,) of a batch by the averaged model."""

    def take(self, content: dict[str, Any]) -> None:
        """What else of a checkpoint its weights go with; a recipe may have such things."""

    def kept(self) -> dict[str, Any]:
        """What best.pt holds: the averaged model and all that its use takes."""
        return {
            "config": self.config.to_dict(),
            "tokens": self.tokens.state(),
            "model": self.average.module.state_dict(),
            **{name: getattr(self, name) for name in ("step", "epoch", "seconds")},
        }

    def state(self) -> dict[str, Any]:
        names = [*COUNTERS, "finished", "legs", "origin", "precision", "data"]
        return {
            **self.kept(),
            "raw_model": self.model.state_dict(),
            "averaged": self.average.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in names},
        }

    def resume(self) -> None:
        """Continue from last.pt, where there is one, else begin; the first process reads it for all."""
        path = self.config.exp / "last.pt"
        state = self.processes.from_first(checkpoint.load(path) if self.processes.first and path.exists() else None)
        if state is None:
            self._begin()
            return
        checkpoint.must_match(state["config"], self.config, path)
        if state["data"] != self.data or checkpoint.tokens_of(state).state() != self.tokens.state():
            raise ValueError(f"{path} was trained on other utterances or tokens: remove it or choose another name=")
        self.model.load_state_dict(state["raw_model"])
        self.average.module.load_state_dict(state["model"])
        self.average.n_averaged.copy_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.take(state)
        self.finished = state["finished"] and self.done()
        self.origin = state.get("origin", "")
        self.legs = [leg for leg in checkpoint.legs_of(state) if leg["step"] < self.step]  # those that made a step
        if not self.legs or any(self.legs[-1][key] != value for key, value in self.environment.items()):
            self.legs.append({"step": self.step, **self.environment})
        begun, asked = state["config"]["train"].get("init", ""), self.config.train.init
        if asked not in ("", begun):
            log.warning("train.init=%s is not read: the run goes on from %s", asked, path)
        self.config = filled(self.config, {"train": {"init": begun}})

    def _begin(self) -> None:
        """Take the averaged weights of the run at ``train.init``, where one is named; its optimiser and budget not."""
        if not self.config.train.init:
            return
        found = origin.read(self.tokens, self.config, self.meaning) if self.processes.first else None
        content, self.origin = self.processes.from_first(found)
        try:
            self.model.load_state_dict(content["model"])
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            path = self.config.train.init
            raise ValueError(f"train.init must be a checkpoint of this run's model, got {path!r}: {first}") from None
        self.average.module.load_state_dict(content["model"])
        self.take(content)
        log.info("begun with the weights of %s", self.origin)

    def save(self) -> None:
        """Write last.pt; only the first process does."""
        if self.processes.first:
            checkpoint.save(self.config.exp / "last.pt", self.state())

    def progress(self, part: float = 0.0) -> float:
        """Share of the budget that is used; ``part`` is the share done of the current epoch."""
        budget = self.config.train
        shares = {"minutes": self.seconds / 60, "epochs": self.epoch + part, "steps": float(self.step)}
        used: list[float] = [
            amount / getattr(budget, name) for name, amount in shares.items() if getattr(budget, name) > 0
        ]
        if not used:
            given = f"{budget.minutes:g}, {budget.epochs} and {budget.steps}"
            raise ValueError(f"train.minutes, train.epochs or train.steps must be positive, got {given}")
        return max(used)

    def done(self) -> bool:
        """Whether the budget is used up, or ``train.patience`` is, and the weights of the last step are scored."""
        used_up = self.progress() >= 1 or 0 < self.config.train.patience <= self.stale
        return used_up and bool(self.rates) and self.rates[-1][0] == self.step

    def train_step(self, batches: Sequence[tuple[int, Batch[E]]], progress: float) -> float:
        """One step on the ``batches`` of all processes together, each with its number in the epoch.

        The gradient is that of the mean over all their utterances, however they are dealt to batches and processes.
        An utterance without a finite loss is left out of it; a step without a finite gradient changes no weight. Both
        are reported. Returns the mean loss in nats a label, NaN if the step was skipped.
        """
        rate = learning_rate(progress, self.config.optim.lr, self.config.optim.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.step += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.model.train()
        loss, count, reports = 0.0, 0, list[str]()
        for number, batch in batches:
            torch.manual_seed(random.Random(f"{self.config.train.seed} {self.epoch} {number}").getrandbits(63))
            reports += batch.reports
            losses = self._add_gradient(batch.to(self.device), reports) if batch.utterances else []
            loss, count = loss + math.fsum(losses), count + len(losses)
        loss, count_all, reported = self.processes.total(loss, count, len(reports))
        if reported:
            self._report([line for lines in self.processes.everyone(reports) for line in lines])
        if count_all == 0:
            return math.nan
        parameters = list(self.model.parameters())
        self.processes.add_gradients(parameters)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= count_all
        norm = nn.utils.clip_grad_norm_(parameters, self.config.optim.clip or math.inf)
        if not torch.isfinite(norm):
            named = self.processes.everyone(" ".join(u.id for _, batch in batches for u in batch.utterances))
            self._report([f"skipped step {self.step} with gradient {norm.item()}: {' '.join(named)}"])
            return math.nan
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return loss / count_all

    def _add_gradient(self, batch: Batch[E], reports: list[str]) -> list[float]:
        """Add the gradient of the sum of the batch's finite losses to ``.grad``; returns these losses."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            scores, input_lengths = self.all_scores(batch, self.objective.views)
        losses = self.objective(scores, batch, input_lengths)
        values: list[float] = losses.tolist()
        finite = [n for n, value in enumerate(values) if math.isfinite(value)]
        if len(finite) == len(values):
            losses.sum().backward()
            return values
        for utterance, value in zip(batch.utterances, values, strict=True):
            if not math.isfinite(value):
                reports.append(f"step {self.step}: left out {utterance.id}, its loss is {value}")
        # Once more without them: times 0, a NaN would still be NaN in the gradient of every weight.
        return self._add_gradient(batch.only(finite), reports) if finite else []

    def record(self, loss: float, writer: SummaryWriter | None) -> None:
        """Add a step's loss to the curve; one that is NaN, of a step that was skipped, is no part of it."""
        if math.isfinite(loss):
            self.recent.append(loss)
        if self.step % 10 == 0 and self.recent:
            self.losses.append([self.step, math.fsum(self.recent) / len(self.recent)])
            self.recent.clear()
            if writer:
                writer.add_scalar("train/loss", self.losses[-1][1], self.step)
                writer.add_scalar("train/lr", self.optimizer.param_groups[0]["lr"], self.step)

    def _report(self, lines: list[str]) -> None:
        if self.processes.first:
            for line in lines:
                log.warning("%s", line)

    def score(self, dataset: Examples[E], writer: SummaryWriter | None) -> None:
        """Dev loss, WER and CER of the averaged weights; the best so far becomes best.pt. The first process does it."""
        if self.processes.first:
            self._score(dataset, writer)
        self.best, self.stale, self.rates = self.processes.from_first((self.best, self.stale, self.rates))

    def _score(self, dataset: Examples[E], writer: SummaryWriter | None) -> None:
        losses: list[float] = []
        references, hypotheses = [], []
        for batch, logits, input_lengths in scored(self.average, self.score_batch, dataset, self.batch_length):
            losses += self.objective.ctc(logits, batch.to(self.device), input_lengths).tolist()
            references += [u.text for u in batch.utterances]
            hypotheses += greedy(logits, input_lengths, self.tokens)
        rates = error_rates(references, hypotheses)
        wer, cer = rates["WER"]["percent"], rates["CER"]["percent"]
        possible = [loss for loss in losses if loss != math.inf]
        if lacking := len(losses) - len(possible):
            log.warning("dev loss without %d of %d: their texts have more tokens than fit", lacking, len(losses))
        loss = math.fsum(possible) / len(possible) if possible else math.nan
        self.rates.append([self.step, loss, wer, cer])
        if writer:
            for name, value in [("loss", loss), ("WER", wer), ("CER", cer)]:
                writer.add_scalar(f"dev/{name}", value, self.step)
        log.info(
            "epoch %d, step %d, %.1f min: train loss %.3f, dev loss %.3f, WER %.2f %%, CER %.2f %%",
            self.epoch, self.step, self.seconds / 60, self.losses[-1][1] if self.losses else math.nan, loss, wer, cer,
        )  # fmt: skip
        # above 100 % the rate says nothing about progress: the later weights are the better ones
        self.stale += 1
        if min(wer, 100.0) <= self.best:
            self.best, self.stale = min(wer, 100.0), 0
            checkpoint.save(self.config.exp / "best.pt", self.kept())

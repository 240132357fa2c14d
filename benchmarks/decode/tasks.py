"""What is searched: which posteriors, how many beams, what may be left out, with which language model.

A decoder that prunes does less work than one that does not, so speed is only compared between decoders that leave out
the same: `CUTS` names the ways.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks.decode.posteriors import UNITS, Utterance, utterances
from benchmarks.decode.texts import MARK, as_characters, as_text, sentences

TRAINING_WORDS = 200_000
LM_WEIGHT, WORD_BONUS, UNKNOWN_PENALTY = 0.5, 1.5, -10.0
"""pyctcdecode's alpha, beta and unk_score_offset, for every decoder: in units of nats, but the last, of log10."""
TOKEN_LM_WEIGHT = 0.3
"""With a model of characters or pieces, and no bonus."""


@dataclass(frozen=True)
class Cut:
    """What a search leaves out: tokens of a frame and beams below these log-probabilities, in nats.

    `token` is absolute, `beam` relative to the best beam of the frame.
    """

    token: float
    beam: float


CUTS = {
    "nothing": Cut(-math.inf, -math.inf),
    "tokens < 1e-3": Cut(math.log(1e-3), -math.inf),
    "beams < e^-10": Cut(-math.inf, -10.0),
    "tokens < e^-5, beams < e^-10": Cut(-5.0, -10.0),
}
EXACT, FAST_CTC, BEAMS, PYCTC = CUTS
"""No cut, the one of fast-ctc-decode as its users set it, flashlight's kind, and pyctcdecode's default."""


@dataclass(frozen=True)
class Task:
    """One row's question, but for the peer. `beam` 0 is the best path. `model` is None, `token` or `word`: a 3-gram."""

    units: str
    difficulty: str
    beam: int
    cut: str = EXACT
    model: str | None = None


@dataclass(frozen=True)
class Material:
    """What a peer gets for a task; `arpa` is the file of its language model, where it has one."""

    task: Task
    labels: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    arpa: Path | None

    @property
    def cut(self) -> Cut:
        """The task's cut in numbers."""
        return CUTS[self.task.cut]

    def text(self, tokens: list[int]) -> str:
        """Words with single spaces between, of classes."""
        pieces = "".join(self.labels[token] for token in tokens)
        return " ".join(pieces.replace(MARK, " ").split())


def search_tasks() -> list[Task]:
    """Every task of the tables: without a model, with one of tokens, with one of words; and the best path."""
    sets = [(units, difficulty) for units in UNITS for difficulty in ("easy", "hard")]
    tasks = [Task(units, difficulty, 0) for units, difficulty in sets]
    words = [("chars", difficulty) for difficulty in ("easy", "hard")]
    for model, cuts, given in (
        (None, (EXACT, FAST_CTC, PYCTC), sets),
        ("token", (EXACT, BEAMS), sets),
        ("word", (EXACT, BEAMS, PYCTC), words),
    ):
        tasks += [Task(*each, beam, cut, model) for cut in cuts for each in given for beam in (16, 100)]
    return tasks


def material(task: Task, models: Path) -> Material:
    """The utterances of a task; its language model is one of the files in `models`."""
    arpa = None if task.model is None else models / f"{task.units}-{task.model}.arpa"
    return Material(task, UNITS[task.units].labels(), utterances(task.units, task.difficulty), arpa)


def write_models(folder: Path) -> None:
    """Train every language model of the tasks on 200,000 words and write them as ARPA files, a space as `|`."""
    from numbactc import NgramLM

    said = sentences(TRAINING_WORDS, seed=1)
    NgramLM.train([as_text(sentence) for sentence in said], 3).write(folder / "chars-word.arpa")
    for name, units in UNITS.items():
        labels = units.labels()
        texts = [[labels[token].replace(" ", "|") for token in units.spell(sentence)] for sentence in said]
        NgramLM.train(texts, 3, smoothing="witten-bell").write(folder / f"{name}-token.arpa")


def lexicon_words() -> list[str]:
    """The words that may be written where a decoder writes only words it knows: those of the training text."""
    return sorted({"".join(word) for sentence in sentences(TRAINING_WORDS, seed=1) for word in sentence})


def spell(word: str) -> list[int]:
    """A word in characters."""
    return as_characters([(word,)])

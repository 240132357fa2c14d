"""Weights of the language model: a search on dev, and where the set to be decoded is dev itself, on its other half."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from common.batches import Example
from common.checkpoint import write_atomically
from common.config import DecodeConfig
from common.decoders import Decoder, Weights, first_weights
from common.rates import error_rates
from common.scores import Scored

GRIDS: dict[str, tuple[float, ...]] = {
    "lm_weight": (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4),
    "word_bonus": (-2.0, 0.0, 1.0, 2.0, 3.0, 4.0),
    "token_bonus": (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5),
    "unknown_penalty": (-1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 14.0),  # -1: none but the lexicon's words
}
ROUNDS = 3
SEARCH = ("beam_size", "beam_threshold", "token_threshold")  # settings of how wide a search is


def search(
    start: Weights, names: Iterable[str], rate: Callable[[Weights], tuple[float, float]]
) -> tuple[Weights, list[dict[str, float]]]:
    """The weights with the lowest ``rate``, (WER, CER), and all that was tried, in order.

    One weight after the other takes each value of its grid while the others stand still, and keeps the best; until a
    round over all ``names`` changes none, or ``ROUNDS`` are over. Of equals the first that was tried is kept.
    """
    known: dict[Weights, tuple[float, float]] = {}

    def rated(weights: Weights) -> tuple[float, float]:
        if weights not in known:
            known[weights] = rate(weights)
        return known[weights]

    best = start
    names = list(names)
    for _ in range(ROUNDS):
        before = best
        for name in names:
            tries = [best, *(replace(best, **{name: value}) for value in GRIDS[name])]
            best = min(tries, key=rated)
        if best == before:
            break
    rated(best)
    tried = [{**asdict(weights), "WER": wer, "CER": cer} for weights, (wer, cer) in known.items()]
    return best, tried


class Tuned(NamedTuple):
    """Weights, the error rates they had where they were tuned, and all that was tried."""

    weights: Weights
    record: dict[str, Any]


class Tuning:
    """Searches on one set, all of it or some of its utterances; each choice of weights decodes it once for them all."""

    def __init__(self, decoder: Decoder, dev: Scored, name: str) -> None:
        self.decoder, self.dev, self.name = decoder, dev, name
        self._texts: dict[Weights, list[str]] = {}

    def texts(self, weights: Weights) -> list[str]:
        """Of all utterances."""
        if weights not in self._texts:
            self._texts[weights] = self.decoder.texts(self.dev.log_probs, weights)
        return self._texts[weights]

    def best(self, indexes: Sequence[int] | None = None) -> Tuned:
        """The best weights for the utterances with these indexes; None for all."""
        chosen = range(len(self.dev.utterances)) if indexes is None else indexes
        references = [self.dev.utterances[i].text for i in chosen]

        def rate(weights: Weights) -> tuple[float, float]:
            texts = self.texts(weights)
            rates = error_rates(references, [texts[i] for i in chosen])
            return rates["WER"]["percent"], rates["CER"]["percent"]

        best, tried = search(first_weights(self.decoder.settings), self.decoder.tuned, rate)
        sources = sorted({self.dev.utterances[i].source for i in chosen})
        record = {"lm": self.decoder.language.name, "tuned on": self.name, f"{self.dev.noun}s": sources}
        return Tuned(best, {**record, "weights": asdict(best), "tried": tried})


def halves(utterances: Sequence[Example]) -> tuple[list[int], list[int]]:
    """Indexes of the utterances of every other speaker, and those of the speakers between; no speaker is in both."""
    even = set(sorted({u.source for u in utterances})[::2])
    inside = [u.source in even for u in utterances]
    return [i for i, is_in in enumerate(inside) if is_in], [i for i, is_in in enumerate(inside) if not is_in]


class Transcripts(NamedTuple):
    """The texts of a set, how their weights came about, in words, and the records of the searches."""

    texts: list[str]
    how: str
    records: list[dict[str, Any]]


def across_halves(tuning: Tuning) -> Transcripts:
    """Each half of a set's speakers decoded with the weights that were best on the other half."""
    utterances = tuning.dev.utterances
    texts = [""] * len(utterances)
    records = []
    first, second = halves(utterances)
    for here, there in ((first, second), (second, first)):
        tuned = tuning.best(there)
        records.append({"decoded": sorted({utterances[i].source for i in here}), **tuned.record})
        found = tuning.texts(tuned.weights)
        for i in here:
            texts[i] = found[i]
    return Transcripts(texts, f"weights for each half of its {tuning.dev.noun}s tuned on the other half", records)


def remembered(exp: Path) -> dict[str, dict[str, Any]]:
    """What tuned.json holds: how the evaluation last decoded by each method; it did not decode what it kept."""
    path = exp / "lm" / "tuned.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def remember(exp: Path, decoder: Decoder, record: dict[str, Any]) -> None:
    """Add to tuned.json how wide the search was, and the ``record`` of its weights."""
    kept = {key: value for key, value in record.items() if key != "tried"}
    found = remembered(exp) | {decoder.method: kept | {name: getattr(decoder.settings, name) for name in SEARCH}}
    (exp / "lm").mkdir(exist_ok=True)
    write_atomically(exp / "lm" / "tuned.json", json.dumps(found, indent=1) + "\n")


def as_evaluated(exp: Path, method: str, settings: DecodeConfig) -> DecodeConfig:
    """``settings``, their search as wide as when the evaluation last decoded by this method."""
    record = remembered(exp).get(method, {})
    return replace(settings, **{name: record[name] for name in SEARCH if name in record})


def tuned_weights(exp: Path, decoder: Decoder) -> Weights:
    """Those with which the evaluation last decoded by this method and model: the best on dev, or what it was given with
    ``decode.tune=false``. Else those of the settings. stderr tells where they are not the best on dev.
    """
    record = remembered(exp).get(decoder.method)
    if record and record["lm"] == decoder.language.name:
        if decoder.tuned and "tuned on" not in record:
            print(f"weights of {decoder.name}: not tuned, those it was evaluated with", file=sys.stderr)
        return Weights(**record["weights"])
    if decoder.tuned:
        print(f"weights of {decoder.name}: never tuned, those of the settings", file=sys.stderr)
    return first_weights(decoder.settings)

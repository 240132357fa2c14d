"""Error rates of a checkpoint on every set by every method, weights tuned on dev, and the files of each result."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic

from common import language
from common.batches import E
from common.checkpoint import fingerprint, write_atomically
from common.config import Settings
from common.decoders import Decoder, first_weights, methods_of
from common.rates import error_rates, figures, write_errors, write_trn
from common.scores import Scored
from common.tokens import Tokens
from common.tuning import Transcripts, Tuning, across_halves, remember


class Evaluation(ABC, Generic[E]):
    """A checkpoint and the settings to decode with; scores of a set are computed when they are first asked for.

    ``content`` is the checkpoint's, ``config`` what it was trained with; results go to ``exp``.
    """

    def __init__(
        self, content: dict[str, Any], config: Settings, tokens: Tokens, settings: Settings, exp: Path
    ) -> None:
        self.content, self.config, self.tokens, self.exp = content, config, tokens, exp
        self.settings = settings.decode
        self.dev = "+".join(config.data.dev)
        self._scored: dict[str, Scored] = {}

    @abstractmethod
    def read(self, subsets: Sequence[str]) -> list[E]:
        """The utterances of some sets."""

    @abstractmethod
    def score(self, utterances: list[E]) -> Scored: ...

    def details(self, references: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
        """What a recipe counts beside words and characters."""
        return {}

    def utterances(self, subset: str) -> list[E]:
        """Those of one set; of the dev sets together for their name."""
        return self.read(self.config.data.dev if subset == self.dev else [subset])

    def left_out(self, subset: str) -> int:
        """How many of a set cannot be used by any model, such as files that are damaged: lines of <set>.dropped.txt."""
        return len((self.config.manifests / f"{subset}.dropped.txt").read_text(encoding="utf-8").split("\n")) - 1

    def scored(self, subset: str) -> Scored:
        if subset not in self._scored:
            self._scored[subset] = self.score(self.utterances(subset))
        return self._scored[subset]

    def known(self, subset: str) -> dict[str, Any]:
        """What a result depends on: one with the same is kept."""
        utterances = self.utterances(subset)
        known: dict[str, Any] = {"set": subset, "utterances": len(utterances), "nouns": list(utterances[0].nouns)}
        known |= {"data": fingerprint(utterances), "left out": self.left_out(subset)}
        known |= {key: self.content[key] for key in ("step", "epoch", "seconds")}
        known["decode"] = {k: v for k, v in vars(self.settings).items() if k != "methods"}
        for key in ("lm", "vocabulary"):
            if path := getattr(self.settings, key):
                known[key] = [Path(path).stat().st_size, Path(path).stat().st_mtime_ns]
        return known

    def decoder(self, method: str) -> Decoder:
        """Ready to decode; its model is learnt here if it is one of the training transcripts."""
        folder = self.exp / "lm"
        if method in ("words", "tokens"):
            texts = [u.text for u in self.read(self.config.data.train)]
            language.train(method, texts, self.tokens, self.settings, folder)
        return Decoder(method, self.tokens, self.settings, language.read(method, self.tokens, self.settings, folder))

    def transcripts(self, decoder: Decoder, subset: str) -> Transcripts:
        """The texts of a set, in the order of its ``scored``, with weights that never saw their own speakers."""
        scored = self.scored(subset)
        if not decoder.tuned or not self.settings.tune:
            how = "weights of the configuration" if decoder.tuned else ""
            weights = first_weights(self.settings)
            if decoder.method != "greedy":
                remember(self.exp, decoder, {"lm": decoder.language.name, "weights": asdict(weights)})
            return Transcripts(decoder.texts(scored.log_probs, weights), how, [])
        tuning = Tuning(decoder, self.scored(self.dev), self.dev)
        best = tuning.best()
        remember(self.exp, decoder, best.record)
        if subset in self.config.data.dev and len({u.source for u in scored.utterances}) > 1:
            return across_halves(tuning if subset == self.dev else Tuning(decoder, scored, subset))
        same = f"this very set, which has one {scored.noun}: too good"
        how = f"weights tuned on {same if subset in self.config.data.dev else self.dev}"
        return Transcripts(decoder.texts(scored.log_probs, best.weights), how, [best.record])


def evaluate_set(evaluation: Evaluation[E], subset: str, method: str) -> dict[str, Any]:
    """Decode one set by one method and write its files; a result of the same checkpoint and settings is kept."""
    out = evaluation.exp / f"decode_{subset}_{method}"
    known = evaluation.known(subset)
    if (out / "result.json").exists():
        before: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
        if all(before.get(key) == value for key, value in known.items()):
            return before
    decoder = evaluation.decoder(method)
    utterances, log_probs = evaluation.scored(subset)
    found = evaluation.transcripts(decoder, subset)
    references = [u.text for u in utterances]
    result: dict[str, Any] = {**known, "folder": out.name, "method": decoder.name, "weights": found.how}
    result |= {"sources": len({u.source for u in utterances}), "unreadable": sum(len(x) == 0 for x in log_probs)}
    if decoder.language.lexicon:
        result["unknown words"] = language.unknown_words(references, decoder.language.lexicon)
    result |= error_rates(references, found.texts) | evaluation.details(references, found.texts)
    out.mkdir(exist_ok=True)
    (out / "result.json").unlink(missing_ok=True)  # it comes last: where it is, all beside it is of the same result
    ids = [u.id for u in utterances]
    write_trn(out / "ref.trn", ids, references)
    write_trn(out / "hyp.trn", ids, found.texts)
    write_errors(out / "errors.txt", list(zip(utterances, found.texts, strict=True)))
    (out / "tuning.json").unlink(missing_ok=True)
    if found.records:
        write_atomically(out / "tuning.json", json.dumps(found.records, indent=1) + "\n")
    write_atomically(out / "result.json", json.dumps(result, indent=1) + "\n")
    return result


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "speaker"), counted(2, "speaker")
    ('1 speaker', '2 speakers')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def heading(result: dict[str, Any], note: str) -> str:
    """What an error rate is of: set, method, and how the weights came about."""
    one, source = result["nouns"]
    parts = [f"{result['set']} ({note})"]
    parts.append(f"{counted(result['utterances'], one)} of {counted(result['sources'], source)}")
    parts.append(result["method"])
    if "unknown words" in result:
        parts[-1] += f" ({result['unknown words']:.1f} % of the words are unknown to it)"
    if result["weights"]:
        parts.append(result["weights"])
    if result.get("left out"):
        parts.append(f"{result['left out']} left out, see {result['set']}.dropped.txt")
    if result["unreadable"]:
        parts.append(f"{result['unreadable']} unreadable, counted as empty")
    return ", ".join(parts)


def evaluate(evaluation: Evaluation[E], settings: Settings) -> list[dict[str, Any]]:
    """Every set of ``data.test`` by every method, results in that order."""
    pairs: Sequence[tuple[str, str]] = [
        (subset, method) for subset in settings.data.test for method in methods_of(settings.decode)
    ]
    results = []
    for subset, method in pairs:
        results.append(evaluate_set(evaluation, subset, method))
        print("\n".join([heading(results[-1], settings.data.note), *figures(results[-1])]), flush=True)
    return results

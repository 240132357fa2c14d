"""numbactc as it is measured: `greedy_decode` and `beam_search_decode`, on whole batches where there are threads."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.decode.peers import Answer, Searcher
from benchmarks.decode.tasks import (
    LM_WEIGHT,
    TOKEN_LM_WEIGHT,
    UNKNOWN_PENALTY,
    WORD_BONUS,
    Material,
    lexicon_words,
)


class Decoder:
    """Called with the number of an utterance it decodes that one; `batch(count)` decodes the first ones at once."""

    def __init__(self, material: Material, run: Callable[[Any], list[list[int]]]) -> None:
        torch = importlib.import_module("torch")
        self._material, self._run = material, run
        scores = np.stack([utterance.log_probs for utterance in material.utterances])
        self._scores = torch.from_numpy(scores)

    def __call__(self, index: int) -> Answer:
        [tokens] = self._run(self._scores[index : index + 1])
        return Answer(tokens, self._material.text(tokens))

    def batch(self, count: int) -> list[list[int]]:
        """The best hypotheses of the first `count` utterances."""
        return self._run(self._scores[:count])


def load_numbactc(material: Material, unknown: bool = True, rescore: bool = True) -> Decoder:
    """The decoder of a task."""
    numbactc = importlib.import_module("numbactc")
    if material.task.beam == 0:

        def best_paths(scores: Any) -> list[list[int]]:
            return [path.tokens.tolist() for path in numbactc.greedy_decode(scores, batch_first=True)]

        return Decoder(material, best_paths)
    options = {
        "token_threshold": None if material.cut.token == -math.inf else material.cut.token,
        "beam_threshold": None if material.cut.beam == -math.inf else -material.cut.beam,
        "rescore": rescore,
    } | _language(numbactc, material, unknown)

    def run(scores: Any) -> list[list[int]]:
        found = numbactc.beam_search_decode(scores, beam_size=material.task.beam, batch_first=True, **options)
        return [best.tokens.tolist() for best, *_ in found]

    return Decoder(material, run)


def _language(numbactc: Any, material: Material, unknown: bool) -> dict[str, Any]:
    """The options that a task with a language model adds; `unknown` lets words in that the lexicon has not."""
    if material.task.model is None:
        return {}
    if material.task.model == "token":
        model = numbactc.NgramLM.read(material.arpa, labels=material.labels)
        return {"language_model": model, "lm_weight": TOKEN_LM_WEIGHT}
    return {
        "language_model": numbactc.NgramLM.read(material.arpa),
        "lm_weight": LM_WEIGHT,
        "word_bonus": WORD_BONUS,
        "lexicon": numbactc.Lexicon.from_characters(lexicon_words(), material.labels),
        "unknown_penalty": -UNKNOWN_PENALTY * LM_WEIGHT * math.log(10) if unknown else None,
    }



_MODULES = ("numbactc", "numba", "torch")
OURS = Searcher("numbactc", _MODULES, True, lambda task: True, load_numbactc)
ONLY_KNOWN = Searcher(
    "numbactc (known words)",
    _MODULES,
    True,
    lambda task: task.model == "word",
    lambda material: load_numbactc(material, unknown=False),
)
NOT_RESCORED = Searcher(
    "numbactc (not rescored)",
    _MODULES,
    True,
    lambda task: task.model is None and task.beam > 0,
    lambda material: load_numbactc(material, rescore=False),
)

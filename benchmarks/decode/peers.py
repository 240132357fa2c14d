"""Who searches besides numbactc. A peer turns `Material` into a function from the number of an utterance to what was
heard in it.

What happens before that function is called is not timed: reading the language model, bringing the scores into the form
that a peer wants. All start at the same float32 log-probabilities and are asked for the best hypothesis.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.decode.posteriors import BLANK
from benchmarks.decode.tasks import (
    BEAMS,
    EXACT,
    FAST_CTC,
    LM_WEIGHT,
    PYCTC,
    TOKEN_LM_WEIGHT,
    UNKNOWN_PENALTY,
    WORD_BONUS,
    Material,
    Task,
    lexicon_words,
    spell,
)
from benchmarks.peers import Installable


class Answer(NamedTuple):
    """A best hypothesis: its classes, and its words."""

    tokens: list[int]
    text: str


Decode = Callable[[int], Answer]


@dataclass(frozen=True)
class Searcher(Installable):
    """A name, the module and distribution, the label in tables, what the peer can do, and how it is bound to a task.

    `exact` is true of a search that sums over all alignments of the prefixes it keeps, where it is not told to prune.
    """

    name: str
    modules: tuple[str, ...]
    exact: bool
    takes: Callable[[Task], bool]
    load: Callable[[Material], Decode]


SIGNS = 0x4E00
"""Peers that answer with a string get one sign for each class: any that no peer has a meaning for."""


UNKNOWN = "⁇"
"""What pyctcdecode writes for the label <unk>."""


def signs_of(units: str, labels: Sequence[str]) -> list[str]:
    """Labels from whose text the classes can be told: characters are what they are, a syllable is one sign."""
    if units == "chars":
        return list(labels)
    syllables = (len(labels) - 2) // 2
    signs = [chr(SIGNS + index) for index in range(syllables)]
    return ["", *("▁" + sign for sign in signs), *signs, "<unk>"]


def classes_of(text: str, units: str, labels: Sequence[str]) -> list[int]:
    """The classes of a text in `signs_of` labels; a space at its ends, or a second one, is not there to be told."""
    if units == "chars":
        return [labels.index(character) for character in text]
    inside = 1 + (len(labels) - 2) // 2
    return [
        len(labels) - 1 if sign == UNKNOWN else ord(sign) - SIGNS + (inside if position else 1)
        for word in text.split()
        for position, sign in enumerate(word)
    ]


def collapsed(path: Sequence[int]) -> list[int]:
    """The classes of a path, one a frame."""
    kept = [token for token, last in zip(path, [BLANK, *path], strict=False) if token != last]
    return [token for token in kept if token != BLANK]


def load_fast_ctc_decode(material: Material) -> Decode:
    """`fast_ctc_decode.beam_search` on probabilities, or `viterbi_search`; its cut must be below 1 / C."""
    module = importlib.import_module("fast_ctc_decode")
    task, classes = material.task, len(material.labels)
    alphabet = [chr(SIGNS + index) for index in range(classes)]
    cut = 0.0 if task.cut == EXACT else min(float(np.exp(material.cut.token)), 0.99 / classes)
    probabilities = [np.exp(utterance.log_probs) for utterance in material.utterances]

    def decode(index: int) -> Answer:
        if task.beam == 0:
            found, _ = module.viterbi_search(probabilities[index], alphabet)
        else:
            found, _ = module.beam_search(probabilities[index], alphabet, task.beam, cut)
        tokens = [ord(sign) - SIGNS for sign in found]
        return Answer(tokens, material.text(tokens))

    return decode


def _load_pyctcdecode_like(name: str, material: Material) -> Decode:
    """pyctcdecode and ctc-beam-decoder, which has the same interface."""
    build = importlib.import_module(name).build_ctcdecoder
    logging.getLogger(name).setLevel(logging.ERROR)  # a word on the size of the vocabulary
    task = material.task
    labels = signs_of(task.units, material.labels)
    if task.model is None:
        decoder = build(labels)
    else:
        weights = {"alpha": LM_WEIGHT, "beta": WORD_BONUS, "unk_score_offset": UNKNOWN_PENALTY}
        decoder = build(labels, kenlm_model_path=str(material.arpa), unigrams=lexicon_words(), **weights)
    settings = {
        "beam_width": task.beam,
        "token_min_logp": material.cut.token,
        "beam_prune_logp": material.cut.beam,
    }

    def decode(index: int) -> Answer:
        text = decoder.decode(material.utterances[index].log_probs, **settings)
        tokens = classes_of(text, task.units, material.labels)
        return Answer(tokens, text if task.units == "chars" else material.text(tokens))

    return decode


def load_flashlight(material: Material) -> Decode:
    """flashlight-text, adding probabilities where hypotheses meet, with KenLM where the task has a language model."""
    module = importlib.import_module("flashlight.lib.text.decoder")
    task = material.task
    frames, classes = material.utterances[0].log_probs.shape
    arrays = [np.ascontiguousarray(utterance.log_probs) for utterance in material.utterances]
    threshold = -material.cut.beam if np.isfinite(material.cut.beam) else 1e30
    options: dict[str, Any] = {
        "beam_size": task.beam,
        "beam_size_token": classes,
        "beam_threshold": threshold,
        "lm_weight": 0.0 if task.model is None else LM_WEIGHT if task.model == "word" else TOKEN_LM_WEIGHT,
        "sil_score": 0.0,
        "log_add": True,
        "criterion_type": module.CriterionType.CTC,
    }
    words: list[str] = []
    if task.model == "word":
        decoder, words = _flashlight_of_words(module, options, material)
    else:
        model = module.ZeroLM() if task.model is None else _flashlight_of_tokens(module, material)
        decoder = module.LexiconFreeDecoder(module.LexiconFreeDecoderOptions(**options), model, -1, BLANK, [])

    def decode(index: int) -> Answer:
        best = decoder.decode(arrays[index].ctypes.data, frames, classes)[0]
        tokens = collapsed(best.tokens[1:-1])  # a frame before the first and one after the last are put around
        if task.model == "word":
            return Answer(tokens, " ".join(words[word] for word in best.words if word >= 0))
        return Answer(tokens, material.text(tokens))

    return decode


def _flashlight_of_tokens(module: Any, material: Material) -> Any:
    dictionary = importlib.import_module("flashlight.lib.text.dictionary").Dictionary()
    for label in material.labels:
        dictionary.add_entry({"": "<blank>", " ": "|"}.get(label, label))
    return module.KenLM(str(material.arpa), dictionary)


def _flashlight_of_words(module: Any, options: dict[str, Any], material: Material) -> tuple[Any, list[str]]:
    words = [*lexicon_words(), "<unk>"]
    dictionary = importlib.import_module("flashlight.lib.text.dictionary").Dictionary()
    for word in words:
        dictionary.add_entry(word)
    model = module.KenLM(str(material.arpa), dictionary)
    space = material.labels.index(" ")
    trie = module.Trie(len(material.labels), space)
    start = model.start(False)
    for number, word in enumerate(words[:-1]):
        trie.insert([*spell(word), space], number, model.score(start, number)[1])
    trie.smear(module.SmearingMode.MAX)
    options |= {"word_score": WORD_BONUS, "unk_score": -float("inf")}
    settings = module.LexiconDecoderOptions(**options)
    return module.LexiconDecoder(settings, trie, model, space, BLANK, len(words) - 1, [], False), words


def _takes_pyctcdecode(task: Task) -> bool:
    return task.beam > 0 and task.cut == PYCTC and task.model in (None, "word")


SEARCHERS: dict[str, Searcher] = {
    searcher.name: searcher
    for searcher in (
        Searcher(
            "fast-ctc-decode",
            ("fast_ctc_decode",),
            True,
            lambda task: task.model is None and task.cut in (EXACT, FAST_CTC),
            load_fast_ctc_decode,
        ),
        Searcher(
            "ctc-beam-decoder",
            ("ctc_beam_decoder",),
            False,
            _takes_pyctcdecode,
            lambda material: _load_pyctcdecode_like("ctc_beam_decoder", material),
        ),
        Searcher(
            "pyctcdecode",
            ("pyctcdecode", "kenlm"),
            False,
            _takes_pyctcdecode,
            lambda material: _load_pyctcdecode_like("pyctcdecode", material),
        ),
        Searcher(
            "flashlight-text",
            ("flashlight", "kenlm"),
            True,
            lambda task: task.beam > 0 and task.cut in (EXACT, BEAMS),
            load_flashlight,
        ),
    )
}

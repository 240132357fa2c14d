"""From scores to text: greedy, or by beam search, with or without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import numbactc
from common.config import DecodeConfig
from common.language import Language
from common.tokens import BLANK, Tokens

METHODS = ("greedy", "beam", "words", "tokens", "arpa")
GROUP = 64  # utterances that are padded to one tensor


@dataclass(frozen=True)
class Weights:
    """What is tuned; nats, but for the first. A negative unknown_penalty: no words but the lexicon's."""

    lm_weight: float
    word_bonus: float
    token_bonus: float
    unknown_penalty: float


class Path(NamedTuple):
    """A text as classes, and the frame in which each of them begins."""

    tokens: list[int]
    times: list[int]


def methods_of(settings: DecodeConfig) -> list[str]:
    """``decode.methods``, and "arpa" where ``decode.lm`` names a file."""
    methods = list(dict.fromkeys(settings.methods + (["arpa"] if settings.lm else [])))
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"decode.methods must be some of {', '.join(METHODS)}, got {method!r}")
    if "arpa" in methods and not settings.lm:
        raise ValueError("decode.lm must name an ARPA file for the method arpa, got none")
    return methods


def first_weights(settings: DecodeConfig) -> Weights:
    """Those of the configuration."""
    return Weights(settings.lm_weight, settings.word_bonus, settings.token_bonus, settings.unknown_penalty)


def plain(tokens: Tokens, labels: Sequence[int]) -> str:
    """The text of some classes, with one space between words and none elsewhere."""
    return " ".join(tokens.decode(labels).split())


def greedy(logits: Tensor, input_lengths: Tensor, tokens: Tokens) -> list[str]:
    """The most probable class of each frame of (T, N, C) logits, merged and without blanks: N transcripts."""
    paths = numbactc.greedy_decode(logits, input_lengths, blank=BLANK)
    return [plain(tokens, path.tokens.tolist()) for path in paths]


@dataclass(frozen=True)
class Decoder:
    """One way to decode: a method with all that it needs but for the weights."""

    method: str
    tokens: Tokens
    settings: DecodeConfig
    language: Language = field(default_factory=Language)

    @property
    def tuned(self) -> list[str]:
        """Which weights matter."""
        if self.language.model is None:
            return []
        own = ["word_bonus", "unknown_penalty"] if self.language.lexicon else ["token_bonus"]
        return ["lm_weight", *own]

    @property
    def name(self) -> str:
        if self.method == "greedy":
            return "greedy"
        words = f", {len(self.language.lexicon.words):,} words" if self.language.lexicon else ""
        return f"beam {self.settings.beam_size}" + (f" + {self.language.name}{words}" if self.language.name else "")

    def paths(self, scores: Sequence[Tensor], weights: Weights) -> list[Path]:
        """The best text of each utterance's (T, C) log-probabilities."""
        found = []
        for start in range(0, len(scores), GROUP):
            group = list(scores[start : start + GROUP])
            found += self._group(pad_sequence(group), [len(frames) for frames in group], weights)
        return found

    def texts(self, scores: Sequence[Tensor], weights: Weights) -> list[str]:
        """As ``paths``, in words."""
        return [plain(self.tokens, path.tokens) for path in self.paths(scores, weights)]

    def _group(self, scores: Tensor, lengths: list[int], weights: Weights) -> list[Path]:
        if self.method == "greedy":
            paths = numbactc.greedy_decode(scores, lengths, blank=BLANK)
            return [Path(path.tokens.tolist(), path.times.tolist()) for path in paths]
        penalty = weights.unknown_penalty if weights.unknown_penalty >= 0 else None
        lexicon = self.language.lexicon
        hypotheses = numbactc.beam_search_decode(
            scores, lengths, self.settings.beam_size, blank=BLANK,
            beam_threshold=self.settings.beam_threshold, token_threshold=self.settings.token_threshold,
            language_model=self.language.model, lm_weight=weights.lm_weight, lexicon=lexicon,
            word_bonus=weights.word_bonus if lexicon else 0.0, unknown_penalty=penalty if lexicon else None,
            token_bonus=weights.token_bonus if "token_bonus" in self.tuned else 0.0,
        )  # fmt: skip
        return [Path(best.tokens.tolist(), best.times.tolist()) for (best, *_) in hypotheses]

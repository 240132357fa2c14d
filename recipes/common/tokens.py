"""Tokens: texts as class numbers and back, blank 0; characters, or pieces of words by byte pair encoding (BPE).

>>> Characters("AB ").encode("A BAB")
[1, 3, 2, 1, 2]
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from numbactc import TokenSpan, WordSpan, group_words

BLANK = 0
WORD_BEGIN = "▁"  # SentencePiece's: in front of a piece that begins a word


class Tokens(ABC):
    """One interface for characters and BPE.

    Attributes:
        labels: what each class writes; "" for class 0, the blank. A piece that begins a word begins with "▁".
        separator: the class of the space between words; None for BPE, and for an alphabet without one.
        begins_word: for BPE, whether each class begins a word; None for characters.
    """

    labels: list[str]
    separator: int | None = None
    begins_word: list[bool] | None = None

    def __len__(self) -> int:
        """Number of classes, the blank included."""
        return len(self.labels)

    @abstractmethod
    def unknown(self, text: str) -> list[str]:
        """The characters of ``text`` that no token writes, sorted."""

    def encode(self, text: str) -> list[int]:
        """Text to class numbers, none of them the blank; ValueError names the unknown characters."""
        if unknown := self.unknown(text):
            raise ValueError(f"text must be written in the alphabet {self.alphabet!r}, got {unknown} in {text!r}")
        return self._encoded(text)

    @property
    @abstractmethod
    def alphabet(self) -> str:
        """The characters that tokens write."""

    @abstractmethod
    def _encoded(self, text: str) -> list[int]: ...

    @abstractmethod
    def decode(self, labels: Sequence[int]) -> str:
        """Class numbers, blanks already gone, to text."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What ``restored`` makes these tokens of again: plain types, for a checkpoint."""

    def words(self, spans: Iterable[TokenSpan]) -> list[WordSpan]:
        """The words of an aligned utterance."""
        if self.separator is not None:
            return group_words(spans, separator=self.separator)
        return group_words(spans, first_tokens={k for k, begins in enumerate(self.begins_word or []) if begins})

    def frames_needed(self, text: str) -> int:
        """Fewest frames a CTC path of ``text`` can have: its labels, and a blank between each pair of repeats.

        >>> Characters("ABL").frames_needed("BALL")
        5
        """
        labels = self.encode(text)
        return len(labels) + sum(a == b for a, b in pairwise(labels))


class Characters(Tokens):
    """Character k of ``alphabet`` is class k + 1."""

    def __init__(self, alphabet: str) -> None:
        if not alphabet or len(set(alphabet)) != len(alphabet):
            raise ValueError(f"alphabet must hold each character once and at least one, got {alphabet!r}")
        self.labels = ["", *alphabet]
        self._index = {c: k for k, c in enumerate(self.labels)}
        self.separator = self._index.get(" ")

    @property
    def alphabet(self) -> str:
        return "".join(self.labels)

    def unknown(self, text: str) -> list[str]:
        return sorted(set(text) - set(self.labels))

    def _encoded(self, text: str) -> list[int]:
        return [self._index[c] for c in text]

    def decode(self, labels: Sequence[int]) -> str:
        return "".join(self.labels[k] for k in labels)

    def state(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet}


class Pieces(Tokens):
    """Pieces of a SentencePiece model, as ``trained`` makes it: piece k is class k, the unknown piece is the blank."""

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self.model = model
        self._processor = SentencePieceProcessor(model_proto=model)
        if self._processor.unk_id() != BLANK:
            raise ValueError(f"a BPE model must have the unknown piece at {BLANK}, got {self._processor.unk_id()}")
        self.labels = ["", *(self._processor.id_to_piece(k) for k in range(1, len(self._processor)))]
        self.begins_word = [piece.startswith(WORD_BEGIN) for piece in self.labels]
        self._known = {piece for piece in self.labels if len(piece) == 1 and piece != WORD_BEGIN} | {" "}

    @classmethod
    def trained(cls, texts: Iterable[str], size: int, alphabet: str) -> Pieces:
        """``size`` classes, the blank included, learnt from ``texts``; every character of ``alphabet`` is among them.

        The same texts give the same pieces. ValueError where ``size`` is too small for the alphabet, or larger than
        the texts have pieces for.
        """
        from sentencepiece import SentencePieceTrainer

        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=iter(texts), model_writer=model, model_type="bpe", vocab_size=size,
                required_chars=alphabet.replace(" ", ""), character_coverage=1.0, normalization_rule_name="identity",
                unk_id=BLANK, bos_id=-1, eos_id=-1, pad_id=-1, max_sentence_length=1 << 20, num_threads=1,
                minloglevel=2,
            )  # fmt: skip
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"data.bpe must be a size that the texts allow, got {size}: {reason}") from None
        return cls(model.getvalue())

    @property
    def alphabet(self) -> str:
        return "".join(sorted(self._known))

    def unknown(self, text: str) -> list[str]:
        return sorted(set(text) - self._known)

    def _encoded(self, text: str) -> list[int]:
        labels: list[int] = self._processor.encode(text)
        return labels

    def decode(self, labels: Sequence[int]) -> str:
        # A hypothesis may begin a word twice in a row, or in the middle: a word is what stands between spaces.
        return " ".join("".join(self.labels[k] for k in labels).replace(WORD_BEGIN, " ").split())

    def state(self) -> dict[str, Any]:
        return {"bpe": self.model}


def restored(state: dict[str, Any]) -> Tokens:
    """The tokens whose ``state`` a checkpoint holds."""
    return Pieces(state["bpe"]) if "bpe" in state else Characters(state["alphabet"])

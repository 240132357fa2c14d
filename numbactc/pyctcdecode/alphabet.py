"""What a model's classes stand for, in one form: "" is the blank, " " or "▁" divides words."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

MARK = "▁"
"""Begins a BPE label that begins a word."""
UNK_TOKEN = "⁇"
UNK_BPE_TOKEN = "▁⁇▁"
SUFFIX_MARK = "##"
"""Begins a label that does not begin a word, in the other style of BPE."""

BLANK_TOKEN_PTN = re.compile(r"^[<\[]pad[>\]]$", re.IGNORECASE)
UNK_TOKEN_PTN = re.compile(r"^[<\[]unk[>\]]$", re.IGNORECASE)
SPECIAL_TOKEN_PTN = re.compile(r"^[<\[].+[>\]]$")


class Alphabet:
    """(C,) labels, as `build_alphabet` has made them.

    Attributes:
        labels: a copy of them, in the order of the classes.
        is_bpe: whether they are pieces of words, of which those with "▁" begin one.
        blank: the class of "".
        boundary: the class of " "; None with BPE, and where there is none.
    """

    def __init__(self, labels: Sequence[str], is_bpe: bool) -> None:
        self._labels = list(labels)
        self.is_bpe = is_bpe
        self.blank = self._labels.index("")
        self.boundary = None if is_bpe or " " not in self._labels else self._labels.index(" ")

    @property
    def labels(self) -> list[str]:
        return list(self._labels)

    @classmethod
    def build_alphabet(cls, labels: Sequence[str]) -> "Alphabet":
        """Labels as tokenizers have them.

        They are BPE if one of them begins with "▁" or "##"; the latter style becomes the former. "<pad>" or "[PAD]" is
        the blank, or else, among characters, "_"; where there is none it is added at the end. "|" is the space if there
        is no " ". "<unk>" and "[UNK]" become "⁇".

        Raises:
            ValueError: a label that occurs twice, or a space in a BPE label.

        Example:
            >>> Alphabet.build_alphabet(["<pad>", "<unk>", "|", "a"]).labels
            ['', '⁇', ' ', 'a']
            >>> Alphabet.build_alphabet(["[UNK]", "th", "##e"]).labels
            ['▁⁇▁', '▁th', 'e', '']
        """
        labels = list(labels)
        label, times = max(Counter(labels).items(), key=lambda pair: pair[1], default=("", 0))
        if times > 1:
            raise ValueError(f"labels must be different from each other, got {label!r} {times} times")
        is_bpe = any(label.startswith((MARK, SUFFIX_MARK)) for label in labels)
        spaced = [label for label in labels if " " in label]
        if is_bpe and spaced:
            raise ValueError(f"labels of BPE must have no space in them, got {spaced[0]!r}")
        return cls(_with_blank(_pieces(labels) if is_bpe else _characters(labels)), is_bpe)

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps({"labels": self._labels, "is_bpe": self.is_bpe})

    @classmethod
    def loads(cls, text: str) -> "Alphabet":
        """From the JSON of `dumps`, or pyctcdecode's."""
        found = json.loads(text)
        if not isinstance(found, dict) or set(found) != {"labels", "is_bpe"}:
            raise ValueError(f"an alphabet must have labels and is_bpe, got {text[:60]!r}")
        return cls(found["labels"], found["is_bpe"])

    @cached_property
    def begins_word(self) -> list[bool]:
        """(C,) whether a label is the beginning of a word, for BPE."""
        return [label.startswith(MARK) for label in self._labels]


def _pieces(labels: list[str]) -> list[str]:
    if any(label.startswith(SUFFIX_MARK) for label in labels):
        labels = [_from_suffix_style(label) for label in labels]
    labels = ["" if BLANK_TOKEN_PTN.match(label) else label for label in labels]
    return [UNK_BPE_TOKEN if UNK_TOKEN_PTN.match(label) else label for label in labels]


def _from_suffix_style(label: str) -> str:
    if label.startswith(SUFFIX_MARK):
        return label.removeprefix(SUFFIX_MARK)
    special = SPECIAL_TOKEN_PTN.match(label) or label in ("", MARK, UNK_BPE_TOKEN)
    return label if special else MARK + label


def _characters(labels: list[str]) -> list[str]:
    if " " not in labels:
        labels = [" " if label == "|" else label for label in labels]
    labels = ["" if BLANK_TOKEN_PTN.match(label) else label for label in labels]
    if "" not in labels:
        labels = ["" if label == "_" else label for label in labels]
    return [UNK_TOKEN if UNK_TOKEN_PTN.match(label) else label for label in labels]


def _with_blank(labels: list[str]) -> list[str]:
    if labels.count("") > 1:
        raise ValueError(f"labels must have one blank, got {labels.count('')}: '' and <pad> both are one")
    return labels if "" in labels else [*labels, ""]

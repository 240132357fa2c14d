"""The words that a decoder may write, and how each is spelled in its tokens."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from numbactc import _dispatch_language
from numbactc._validation import check_integer

MAX_TOKEN = 2**31 - 1

LISTED = 10
"""Words that a message lists before it only counts the rest."""

Labels = Sequence[str] | Mapping[str, int]


class Lexicon:
    """Words and their spellings, for a search that writes only words it knows, or scores them by a model of words.

    Args:
        spellings: a mapping of each word to its spelling, or pairs of both, where a word may have several spellings and
            several words the same one (homophones). A spelling is a sequence of at least one token: its class in the
            decoder's scores, from 0 up, never the blank.
        boundary: the token that stands between two words, such as the space of a model of characters; None if none
            does, as with BPE, where a token says itself that a word begins. It occurs in no spelling.

    Attributes:
        words: each word once, in the order given; its place is its number in `trie`.
        spellings: pairs of a word's number and its spelling, each once, in the order given.
        boundary: as given.

    Raises:
        TypeError: a word that is not a string, a spelling that is not a sequence of integers, a boundary that is none.
        ValueError: no words; an empty spelling, one with the boundary in it, or a token, or boundary, below 0 or above
            2**31 - 1.

    Example:
        >>> lexicon = Lexicon({"so": [3, 4], "sow": [3, 4, 5]})
        >>> lexicon.words
        ('so', 'sow')
        >>> Lexicon.from_characters(["so", "sow"], labels=["", " ", "o", "s", "w"]).spellings
        ((0, (3, 2)), (1, (3, 2, 4)))
    """

    def __init__(
        self,
        spellings: Mapping[str, Sequence[int]] | Iterable[tuple[str, Sequence[int]]],
        *,
        boundary: int | None = None,
    ) -> None:
        if boundary is not None:
            boundary = check_integer("boundary", boundary, " or None")
            if not 0 <= boundary <= MAX_TOKEN:
                raise ValueError(f"boundary must be from 0 to {MAX_TOKEN}, got {boundary}")
        pairs = spellings.items() if isinstance(spellings, Mapping) else spellings
        numbers: dict[str, int] = {}
        checked: dict[tuple[int, tuple[int, ...]], None] = {}
        for word, spelling in pairs:
            if not isinstance(word, str):
                raise TypeError(f"words must be strings, got {word!r}")
            tokens = _checked_spelling(word, spelling, boundary)
            checked[numbers.setdefault(word, len(numbers)), tokens] = None
        if not checked:
            raise ValueError("spellings must have at least one word, got none")
        self.words = tuple(numbers)
        self.spellings = tuple(checked)
        self.boundary = boundary

    @classmethod
    def from_words(
        cls, words: Iterable[str], spell: Callable[[str], Sequence[int]], *, boundary: int | None = None
    ) -> "Lexicon":
        """Each word as a function spells it, such as `encode` of a BPE model.

        Args:
            words: any strings; one that comes twice counts once.
            spell: takes a word, returns its tokens; KeyError and ValueError mean that it cannot.
            boundary: as for the class.

        Raises:
            ValueError: words that cannot be spelled, listed with the reason; none is left out in silence.

        Example:
            >>> codes = {"s": 3, "o": 4}
            >>> Lexicon.from_words(["so"], lambda word: [codes[c] for c in word]).spellings
            ((0, (3, 4)),)
        """
        pairs, failures = [], []
        for word in dict.fromkeys(words):
            try:
                pairs.append((word, spell(word)))
            except (KeyError, ValueError) as error:
                failures.append(f"{word!r} ({type(error).__name__}: {error})")
        _refuse(failures, len(failures) + len(pairs))
        return cls(pairs, boundary=boundary)

    @classmethod
    def from_characters(cls, words: Iterable[str], labels: Labels, *, boundary: str | None = " ") -> "Lexicon":
        """Each word as its characters.

        Args:
            words: any strings; one that comes twice counts once.
            labels: (C,) what each class of the decoder stands for, or a mapping of that to its class.
            boundary: the label between two words, " " or "|" as a rule; None if none is.

        Raises:
            ValueError: words with a character that is not among the labels, listed with it; a boundary that is not.

        Example:
            >>> Lexicon.from_characters(["sow", "owl"], ["", " ", "o", "s", "w"])
            Traceback (most recent call last):
            ValueError: words must be spelled in the labels, got 1 of 2 that cannot be: 'owl' (without 'l')
        """
        classes = labels if isinstance(labels, Mapping) else {label: c for c, label in enumerate(labels)}
        if boundary is not None and boundary not in classes:
            raise ValueError(f"boundary must be one of the labels or None, got {boundary!r}")
        pairs, failures = [], []
        for word in dict.fromkeys(words):
            missing = [character for character in dict.fromkeys(word) if character not in classes]
            if missing:
                failures.append(f"{word!r} (without {', '.join(map(repr, missing))})")
            else:
                pairs.append((word, [classes[character] for character in word]))
        _refuse(failures, len(failures) + len(pairs))
        return cls(pairs, boundary=None if boundary is None else classes[boundary])

    @cached_property
    def trie(self) -> "_dispatch_language.Trie":
        """All spellings as arrays for a kernel: see `numbactc.kernels.automata`."""
        return _dispatch_language.trie([tokens for _, tokens in self.spellings], [word for word, _ in self.spellings])

    @cached_property
    def tokens(self) -> tuple[int, ...]:
        """Every token that occurs in a spelling, or between two, in increasing order."""
        found = {token for _, tokens in self.spellings for token in tokens}
        return tuple(sorted(found if self.boundary is None else found | {self.boundary}))

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"Lexicon({len(self.words)} words, {len(self.spellings)} spellings, boundary={self.boundary})"


def _checked_spelling(word: str, spelling: Sequence[int], boundary: int | None) -> tuple[int, ...]:
    try:
        tokens = tuple(map(operator.index, spelling))
    except TypeError:
        raise TypeError(f"spellings must be sequences of integers, got {spelling!r} for {word!r}") from None
    if not tokens:
        raise ValueError(f"spellings must have at least one token, got none for {word!r}")
    if min(tokens) < 0 or max(tokens) > MAX_TOKEN:
        raise ValueError(f"spellings must have tokens from 0 to {MAX_TOKEN}, got {list(tokens)} for {word!r}")
    if boundary in tokens:
        raise ValueError(f"spellings must not have the boundary, {boundary}, in them, got {list(tokens)} for {word!r}")
    return tokens


def _refuse(failures: list[str], words: int) -> None:
    if failures:
        listed = ", ".join(failures[:LISTED]) + (", ..." if len(failures) > LISTED else "")
        raise ValueError(
            f"words must be spelled in the labels, got {len(failures)} of {words} that cannot be: {listed}"
        )

"""How a word can be written in the labels of an alphabet."""

from collections.abc import Iterable, Iterator

from numbactc.lexicon import Lexicon
from numbactc.pyctcdecode.alphabet import MARK, Alphabet

MOST_SPELLINGS = 16
"""Of a word in pieces: those with the fewest."""
NO_WORD = 4
"""Pieces after a first one, all the same, that are the beginning of no word."""


def spellings(word: str, alphabet: Alphabet) -> list[tuple[int, ...]]:
    """A word's characters as classes, or the ways to put it together from pieces, the shortest first.

    There is none for a word with a character that is no label.
    """
    classes = {label: number for number, label in enumerate(alphabet.labels) if label}
    if not alphabet.is_bpe:
        found = [classes.get(character) for character in word]
        return [tuple(token for token in found if token is not None)] if None not in found and word else []
    longest = max(map(len, classes), default=0)
    ways: list[list[tuple[int, ...]]] = [[()]]
    text = MARK + word
    for end in range(1, len(text) + 1):
        here = [
            (*way, classes[text[start:end]])
            for start in range(max(0, end - longest), end)
            if text[start:end] in classes
            for way in ways[start]
        ]
        ways.append(sorted(here, key=len)[:MOST_SPELLINGS])
    return ways[-1] if word else []


def lexicon_of(words: Iterable[str], alphabet: Alphabet) -> Lexicon:
    """The words that can be spelled.

    A search takes those pieces for beginnings of words that begin one in the lexicon. So that it knows the others, too,
    each gets an entry that no text has.

    Raises:
        ValueError: no word can be spelled, or nothing says where a word ends.
    """
    if alphabet.boundary is None and not alphabet.is_bpe:
        raise ValueError("labels must have ' ' or '|' between words for a language model of words, got neither")
    pairs = [(word, spelling) for word in words for spelling in spellings(word, alphabet)]
    if not pairs:
        raise ValueError("labels must spell one of the unigrams at least, got none that they can")
    return Lexicon([*pairs, *_others(pairs, alphabet)], boundary=alphabet.boundary)


def _others(pairs: list[tuple[str, tuple[int, ...]]], alphabet: Alphabet) -> Iterator[tuple[str, tuple[int, ...]]]:
    known = {spelling[0] for _, spelling in pairs}
    inside = [number for number, begins in enumerate(alphabet.begins_word) if not begins and number != alphabet.blank]
    if alphabet.is_bpe and inside:
        for number, begins in enumerate(alphabet.begins_word):
            if begins and number not in known:
                yield f"\0{number}", (number, *inside[:1] * NO_WORD)

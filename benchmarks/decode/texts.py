"""Words and sentences that nobody wrote: a seeded language, so that decoders with a language model have one to learn.

2,000 words of one to three syllables out of 499, drawn by Zipf's law. A sentence is a chain: three times in four a word
is followed by one of the twelve words that like to follow it, else by any. So a word 3-gram helps as it does in a
natural language, and a test text can hold words that no training text has. Nothing is downloaded.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

ONSETS = (*"bcdfghjklmnprstvwyz", "br", "ch", "dr", "fl", "gr", "pl", "qu", "sh", "st", "th", "tr")
VOWELS = (*"aeiou", "ai", "ea", "oo")
CODAS = ("", "", "l", "n", "r", "s", "t", "x")
SYLLABLES = 499
WORDS = 2_000
FOLLOWERS = 12
FOLLOWED = 0.75
"""How often the next word is one of the twelve that like to follow."""

CHARACTERS = ("", " ", *"abcdefghijklmnopqrstuvwxyz", "'")
"""29 labels, the blank first."""

MARK = "▁"
"""Begins a piece that begins a word."""


@dataclass(frozen=True)
class Language:
    """The syllables, the words and how they are made of syllables, how often each comes, and which like to follow."""

    syllables: tuple[str, ...]
    words: tuple[str, ...]
    spellings: dict[str, tuple[str, ...]]
    frequencies: np.ndarray
    followers: np.ndarray

    @property
    def pieces(self) -> tuple[str, ...]:
        """1,000 labels: the blank, each syllable at the beginning of a word and inside, and one that is never used."""
        return ("", *(MARK + syllable for syllable in self.syllables), *self.syllables, "<unk>")


def zipf(count: int) -> np.ndarray:
    """Probabilities that fall as one over the rank."""
    weights = 1 / np.arange(2, count + 2)
    return np.asarray(weights / weights.sum())


def _draw_word(syllables: tuple[str, ...], generator: np.random.Generator) -> tuple[str, ...]:
    length = int(generator.choice((1, 2, 3), p=(0.3, 0.45, 0.25)))
    return tuple(syllables[index] for index in generator.integers(len(syllables), size=length))


@functools.cache
def language() -> Language:
    """The one language of these benchmarks."""
    generator = np.random.default_rng(1906)
    possible = sorted({onset + vowel + coda for onset in ONSETS for vowel in VOWELS for coda in CODAS})
    syllables = tuple(str(syllable) for syllable in generator.choice(possible, SYLLABLES, replace=False))
    spellings: dict[str, tuple[str, ...]] = {}
    while len(spellings) < WORDS:
        word = _draw_word(syllables, generator)
        spellings.setdefault("".join(word), word)
    frequencies = zipf(WORDS)
    followers = generator.choice(WORDS, (WORDS, FOLLOWERS), p=frequencies)
    return Language(syllables, tuple(spellings), spellings, frequencies, followers)


def sentences(words: int, seed: int, unknown: float = 0.0) -> list[list[tuple[str, ...]]]:
    """Sentences of four to fourteen words, `words` of them or a few more, each word as its syllables.

    A part `unknown` of the words is of the same syllables and not in the language.
    """
    known, generator = language(), np.random.default_rng(seed)
    favourites = zipf(FOLLOWERS)
    found: list[list[tuple[str, ...]]] = []
    count = 0
    while count < words:
        length = int(generator.integers(4, 15))
        anywhere = generator.choice(WORDS, length, p=known.frequencies).tolist()
        favourite = generator.choice(FOLLOWERS, length, p=favourites)
        follows = generator.random(length) < FOLLOWED
        chain = anywhere[:1]
        for position in range(1, length):
            last = chain[-1]
            chain.append(int(known.followers[last, favourite[position]]) if follows[position] else anywhere[position])
        sentence = [known.spellings[known.words[index]] for index in chain]
        for position in np.flatnonzero(generator.random(length) < unknown).tolist():
            sentence[position] = _strange_word(generator)
        found.append(sentence)
        count += length
    return found


def _strange_word(generator: np.random.Generator) -> tuple[str, ...]:
    known = language()
    while True:
        word = _draw_word(known.syllables, generator)
        if "".join(word) not in known.spellings:
            return word


def as_text(sentence: list[tuple[str, ...]]) -> str:
    """Words with single spaces between."""
    return " ".join("".join(word) for word in sentence)


def as_characters(sentence: list[tuple[str, ...]]) -> list[int]:
    """Classes of `CHARACTERS`, a space between words."""
    return [CHARACTERS.index(character) for character in as_text(sentence)]


@functools.cache
def _piece_classes() -> dict[str, int]:
    return {piece: index for index, piece in enumerate(language().pieces)}


def as_pieces(sentence: list[tuple[str, ...]]) -> list[int]:
    """Classes of `Language.pieces`."""
    classes = _piece_classes()
    return [classes[MARK * (position == 0) + syllable] for word in sentence for position, syllable in enumerate(word)]

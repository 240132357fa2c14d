"""N-gram language models: read from ARPA files, trained on text, and followed word by word or token by token."""

import gzip
import math
import operator
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from numbactc import _arpa, _dispatch_scoring, _model_cache, _smoothing
from numbactc._arpa import BEGIN, END, UNKNOWN, Model
from numbactc._dispatch_language import follow
from numbactc._validation_decoding import check_count

SPACE_LABELS = (" ", "|", "▁")
"""Labels that stand for the space between words, in a model of characters."""

SPACE_WORDS = ("<space>", "|", "▁")
"""What stands for the label " " in an ARPA file, whose words are separated by spaces."""

NEVER = -99.0
"""log10 of <s>, which follows nothing: what SRILM writes."""

Tokens = str | Sequence[str] | Sequence[int] | Sequence[str | int] | np.ndarray


class NgramLM:
    """A back-off n-gram model of words, characters or BPE units, for scoring text and for `beam_search_decode`.

    The log-probability of a word w after a history h of words is

        log p(w | h)  =  log_prob(h w)                   if the n-gram h w is in the model
                         backoff(h) + log p(w | h')      otherwise, h' being h without its first word

    and a history that is not in the model has a back-off of 0. A word that is not in the vocabulary counts as <unk>.
    All numbers are natural logarithms, nats; those of ARPA files are to base 10.

    A model has a unit. With the unit "word" it is about words that a decoder writes with several tokens each, and a
    `Lexicon` says with which. With the unit "token", for characters and BPE, its words are the decoder's own tokens:
    `labels` says what each class of the decoder stands for.

    Made by `read` and `train`.

    Attributes:
        vocabulary: (V,) the model's words, <s>, </s> and <unk> among them.
        order: words in the longest n-gram, from 1.
        unit: "word" or "token".
        labels: (C,) what each class of the decoder stands for; None with the unit "word".
        token_words: (C,) int32, for each class its number in the vocabulary; that of <unk> for a label that the model
            does not know, for "<s>" and "</s>". None with the unit "word".
        begin, end, unknown: the numbers of <s>, </s> and <unk> in the vocabulary.
        start_state: the state after <s>; 0 is the one after nothing.
        highest: (V,) float64, nats: no word has more than this after any history.
        automaton: the model as arrays, see `numbactc.kernels.automata`.

    Example:
        >>> lm = NgramLM.train(["a rose is a rose", "a rose is red"], order=2, smoothing="witten-bell")
        >>> lm.order, len(lm.vocabulary)
        (2, 7)
        >>> round(math.exp(lm.advance(lm.start_state, "a")[0]), 3)  # (2 + p(a)) / 3, p(a) = (3 + 5 / 6) / (11 + 5)
        0.747
    """

    def __init__(self, model: Model, labels: Sequence[str] | None = None) -> None:
        self._model = model
        self.vocabulary = model.words
        self.automaton = model.automaton
        self.order = len(model.counts)
        self.begin, self.end, self.unknown = (_special(model.words, names) for names in (BEGIN, END, UNKNOWN))
        self.start_state = int(model.automaton.next_states[self.begin])
        self.labels = None if labels is None else _checked_labels(labels)
        self.unit = "word" if labels is None else "token"

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], *, labels: Sequence[str] | None = None, cache: bool = True
    ) -> "NgramLM":
        r"""A model from an ARPA file, as KenLM, SRILM and other toolkits write it.

        Scores are those of KenLM on the same file. Where <unk> is missing it gets 1e-100, as there. An n-gram whose
        history is no n-gram, as SRILM may leave it when it prunes, counts as one whose history backs off for nothing.

        Args:
            path: plain or packed by gzip, in UTF-8, with <s>, </s> and perhaps <unk>, in lower or upper case.
            labels: (C,) what each class of the decoder stands for, if the model is one of characters or BPE; the blank
                and other labels that are no text may be there, under any name. " " is looked up as "<space>", "|" and
                "▁". None for a model of words.
            cache: keep the arrays on disk, below XDG_CACHE_HOME or ~/.cache, and find them there the next time, by a
                hash of the file's contents. Where nothing can be written, nothing is.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no ARPA file, it is cut off, or something in it is wrong: a number, a word, an n-gram, its
                header. The message has the line.

        Example:
            >>> import pathlib, tempfile
            >>> path = pathlib.Path(tempfile.mkdtemp(), "lm.arpa")
            >>> lines = ["\\data\\", "ngram 1=3", "\\1-grams:", "-99 <s>", "-0.5 </s>", "-0.25 a", "\\end\\"]
            >>> _ = path.write_text("\n".join(lines))
            >>> round(NgramLM.read(path).score("a a") / math.log(10), 3)
            -1.0
            >>> _ = path.write_text("\n".join(lines[:-2]))
            >>> NgramLM.read(path)                                           # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ValueError: ...lm.arpa, line 5: the file must end in \end\ and is cut off, got '-0.5 </s>'
        """
        content = Path(path).read_bytes()
        name = _model_cache.name_of(content)
        model = _model_cache.read(name) if cache else None
        if model is None:
            model = _arpa.parse(_arpa.unpacked(content, os.fspath(path)), os.fspath(path))
            if cache:
                _model_cache.write(name, model)
        return cls(model, labels)

    @classmethod
    def train(
        cls,
        texts: Iterable[Tokens],
        order: int = 3,
        *,
        labels: Sequence[str] | None = None,
        smoothing: str = "kneser-ney",
        min_count: int = 1,
        vocabulary: Mapping[str, float] | None = None,
    ) -> "NgramLM":
        """A model of the n-grams in a text. For what fits into memory some 100 times: a recipe's transcripts.

        Args:
            texts: sentences. Each is a string or a sequence of tokens; for a model of words a string is split at white
                space, for one of tokens into characters, where a space becomes the label " ", "|" or "▁".
                A sequence of integers are classes of the decoder. An empty sentence is one.
            order: words in the longest n-gram, from 1.
            labels: (C,) as in `read`. What is none of them becomes <unk>.
            smoothing: "kneser-ney", interpolated modified Kneser-Ney, the better one as a rule, or "witten-bell", which
                needs no statistics of rare n-grams and suits small vocabularies, such as characters.
            min_count: words that occur less often become <unk>, unless they are in the `vocabulary`.
            vocabulary: further words, each with how often it occurs elsewhere, in any unit: a list of frequent words.
                What smoothing leaves to unseen words is shared in these proportions, where <unk> and each word of the
                texts count as the rarest of the list. For models of words. None: all of them count the same.

        After every history the probabilities of all words but <s> sum to one; <unk>, where nothing in the text became
        <unk>, has a share as of a word that occurs nowhere.

        Raises:
            TypeError: a text of another type, a vocabulary that is no mapping.
            ValueError: no texts, an order or min_count below 1, another smoothing; <s> or </s> among the words; a
                vocabulary with a number that is not positive, or together with labels.

        References:
            Chen and Goodman, An empirical study of smoothing techniques for language modeling, 1999, sections 2.6, 3.
            Heafield et al., Scalable modified Kneser-Ney language model estimation, 2013.

        Example:
            >>> texts = ["the cat sat", "the dog sat", "the cat ran"]
            >>> lm = NgramLM.train(texts, order=2)
            >>> lm.score("the dog ran") > lm.score("ran dog the")
            True
            >>> wide = NgramLM.train(texts, order=2, vocabulary={"the": 90, "cow": 3, "gnu": 1})
            >>> round(math.exp(wide.score("the cow ran") - wide.score("the gnu ran")), 6)
            3.0
            >>> characters = NgramLM.train(texts, order=4, labels=["<blank>", " ", *"acdeghnorst"])
            >>> characters.unit, characters.score("the cat") > characters.score("cat the")
            ('token', True)
        """
        order, min_count = check_count("order", order), check_count("min_count", min_count)
        if smoothing not in _smoothing.SMOOTHINGS:
            names = ", ".join(map(repr, _smoothing.SMOOTHINGS))
            raise ValueError(f"smoothing must be one of {names}, got {smoothing!r}")
        labels = None if labels is None else _checked_labels(labels)
        sentences = [_words_of(text, labels) for text in _checked_texts(texts)]
        if not sentences:
            raise ValueError("texts must have at least one sentence, got none")
        further = {} if vocabulary is None else _checked_frequencies(vocabulary, labels)
        words = _vocabulary(sentences, labels, min_count, further)
        numbers = {word: number for number, word in enumerate(words)}
        begin, end, unknown = (numbers[names[0]] for names in (BEGIN, END, UNKNOWN))
        coded = [[begin, *(numbers.get(word, unknown) for word in sentence), end] for sentence in sentences]
        counted = _smoothing.count([np.array(sentence) for sentence in coded], order, len(words))
        estimates = _smoothing.SMOOTHINGS[smoothing](counted, begin)
        new = _smoothing.new_words(words, counted[0].counts, begin, further)
        ngrams = _smoothing.interpolated(counted, estimates, new, begin, NEVER * _arpa.LN_10)
        return cls(_arpa.model_of(words, ngrams), labels)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write an ARPA file, packed by gzip if the path ends in .gz, with nine digits to each number."""
        packs = os.fspath(path).endswith(".gz")
        with gzip.open(path, "wb") if packs else open(path, "wb") as file:
            file.writelines(line.encode() for line in _arpa.lines_of(self._model))

    def with_labels(self, labels: Sequence[str] | None) -> "NgramLM":
        """The same model for a decoder with other labels, or, with None, as one of words. Nothing is copied."""
        return NgramLM(self._model, labels)

    def score(self, tokens: Tokens, bos: bool = True, eos: bool = True) -> float:
        """Log-probability of a sentence in nats, `</s>` included.

        Args:
            tokens: a string, split at white space for a model of words, into characters for one of tokens; or a
                sequence of strings, or of integers: classes of the decoder for a model of tokens, numbers in the
                vocabulary for one of words.
            bos: begin after <s>, otherwise after nothing.
            eos: end with </s>.
        """
        numbers = self.numbers(tokens)
        if eos:
            numbers = np.append(numbers, self.end)
        return self._follow(self.start_state if bos else 0, numbers)[0]

    def advance(self, state: int, token: str | int) -> tuple[float, int]:
        """One step: from `start_state`, or the state that the step before led to.

        Args:
            state: from 0 to S - 1, the number of states in `automaton`.
            token: as one of those of `score`; "</s>" ends a sentence.

        Returns:
            Nats of the token, and the state after it.

        Example:
            >>> lm = NgramLM.train(["to be or not to be"])
            >>> total, state = 0.0, lm.start_state
            >>> for word in ["to", "be", "</s>"]:
            ...     nats, state = lm.advance(state, word)
            ...     total += nats
            >>> abs(total - lm.score("to be")) < 1e-12
            True
        """
        state = operator.index(state)
        if not 0 <= state < self.automaton.backoffs.size:
            raise ValueError(f"state must be from 0 to {self.automaton.backoffs.size - 1}, got {state}")
        return self._follow(state, self.numbers([token]))

    def numbers(self, tokens: Tokens) -> np.ndarray:
        """(L,) int64, the numbers of tokens, as those of `score`, in the vocabulary; of <unk> for what is not in it."""
        items = _split(tokens, self.labels)
        known = range(len(self.vocabulary)) if self.token_words is None else self.token_words
        numbers = np.empty(len(items), np.int64)
        for i, item in enumerate(items):
            if isinstance(item, str):
                numbers[i] = self._number(item)
            elif 0 <= item < len(known):
                numbers[i] = known[item]
            else:
                raise ValueError(f"tokens must be from 0 to {len(known) - 1}, got {item}")
        return numbers

    def perplexity(self, texts: Iterable[Tokens]) -> float:
        """exp of the mean of minus the log-probability of a token, </s> being one of each sentence's."""
        nats, tokens = 0.0, 0
        for text in _checked_texts(texts):
            numbers = self.numbers(text)
            nats += self._follow(self.start_state, np.append(numbers, self.end))[0]
            tokens += numbers.size + 1
        if not tokens:
            raise ValueError("texts must have at least one sentence, got none")
        return math.exp(-nats / tokens)

    @cached_property
    def token_words(self) -> np.ndarray | None:
        if self.labels is None:
            return None
        marks = BEGIN + END
        return np.array([self.unknown if each in marks else self._number(each) for each in self.labels], np.int32)

    @cached_property
    def highest(self) -> np.ndarray:
        return _dispatch_scoring.highest(self.automaton, len(self.vocabulary))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.vocabulary)}

    def _number(self, token: str) -> int:
        number = self._numbers.get(token)
        if number is None and token in SPACE_LABELS:
            number = next((self._numbers[name] for name in SPACE_WORDS if name in self._numbers), None)
        return self.unknown if number is None else number

    def _follow(self, state: int, numbers: np.ndarray) -> tuple[float, int]:
        return follow(self.automaton, len(self.vocabulary), state, numbers)

    def __repr__(self) -> str:
        counts = " + ".join(map(str, self._model.counts))
        return f"NgramLM(order={self.order}, unit={self.unit!r}, {len(self.vocabulary)} words, {counts} n-grams)"


def _special(words: Sequence[str], names: tuple[str, ...]) -> int:
    number = _arpa.special(words, names)
    assert number is not None, "both ways to make a model see to it"
    return number


def _checked_texts(texts: Iterable[Tokens]) -> Iterable[Tokens]:
    if isinstance(texts, str):
        raise TypeError(f"texts must be sentences, each a string or a sequence, got one string, {texts[:20]!r}")
    return texts


def _checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    a_sequence = isinstance(labels, Sequence) and not isinstance(labels, str)
    if not a_sequence or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"labels must be a sequence of strings, got {labels!r}")
    return tuple(labels)


def _split(tokens: Tokens, labels: tuple[str, ...] | None) -> list[str | int]:
    """Tokens one by one: a string's words, or its characters where there are labels."""
    if isinstance(tokens, str):
        if labels is None:
            return list(tokens.split())
        space = next((label for label in SPACE_LABELS if label in labels), " ")
        return [space if character == " " else character for character in tokens]
    try:
        return [token if isinstance(token, str) else operator.index(token) for token in tokens]
    except TypeError:
        raise TypeError(f"tokens must be a string, or a sequence of strings or of integers, got {tokens!r}") from None


def _words_of(text: Tokens, labels: tuple[str, ...] | None) -> list[str]:
    """A sentence to learn from, as words that an ARPA file can hold."""
    words = []
    for token in _split(text, labels):
        if not isinstance(token, str):
            if labels is None:
                raise TypeError(f"texts must hold strings where there are no labels, got {token}")
            if not 0 <= token < len(labels):
                raise ValueError(f"texts must hold classes from 0 to {len(labels) - 1}, got {token}")
            token = labels[token]
        words.append(SPACE_WORDS[0] if token == " " else token)
    return words


def _checked_frequencies(vocabulary: Mapping[str, float], labels: tuple[str, ...] | None) -> Mapping[str, float]:
    if not isinstance(vocabulary, Mapping):
        raise TypeError(f"vocabulary must be a mapping of words to numbers, got {type(vocabulary).__name__}")
    if labels is not None:
        raise ValueError(f"vocabulary must be None where there are labels, got {len(vocabulary)} words")
    for word, frequency in vocabulary.items():
        if not 0 < frequency < math.inf:
            raise ValueError(f"vocabulary must have positive numbers, got {frequency} for {word!r}")
    return vocabulary


def _vocabulary(
    sentences: Sequence[Sequence[str]], labels: tuple[str, ...] | None, min_count: int, further: Collection[str]
) -> list[str]:
    """Every word that is learnt, in the order of their first appearance, after the three that are none."""
    counts = Counter(word for sentence in sentences for word in sentence)
    for word in [*counts, *further]:
        if word in BEGIN + END:
            raise ValueError(f"texts and vocabulary must not hold {word!r}: sentences get theirs here")
        if not word or any(character in word for character in "\0\t\n\r "):
            raise ValueError(f"words must not be empty or have white space in them, got {word!r}")
    marks = [UNKNOWN[0], BEGIN[0], END[0]]
    known = None if labels is None else {SPACE_WORDS[0] if label == " " else label for label in labels}
    learnt = (word for word, count in counts.items() if count >= min_count and (known is None or word in known))
    return list(dict.fromkeys([*marks, *(word for word in [*learnt, *further] if word not in UNKNOWN)]))

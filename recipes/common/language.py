"""Language models for the beam search: n-grams of the training transcripts, or any ARPA file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.config import DecodeConfig
from common.tokens import Tokens
from numbactc import Lexicon, NgramLM

MARKS = {"<s>", "</s>", "<unk>", "<S>", "</S>", "<UNK>"}


class Language(NamedTuple):
    """What a search knows beside the scores.

    Attributes:
        name: for the reader.
        model, lexicon: as of `numbactc.beam_search_decode`; None and None for a search without them.
    """

    name: str = ""
    model: NgramLM | None = None
    lexicon: Lexicon | None = None


def arpa_file(method: str, settings: DecodeConfig, folder: Path) -> Path:
    """Where the model of a method lies: ``decode.lm``, or what ``train`` writes to ``folder``."""
    return Path(settings.lm) if method == "arpa" else folder / f"{method}.arpa.gz"


def unit(method: str, settings: DecodeConfig) -> str:
    """What the model of a method is made of, "word" or "token"; "" where there is none."""
    if settings.lm_unit not in ("word", "token"):
        raise ValueError(f"decode.lm_unit must be word or token, got {settings.lm_unit!r}")
    return {"words": "word", "tokens": "token", "arpa": settings.lm_unit}.get(method, "")


def train(method: str, texts: Sequence[str], tokens: Tokens, settings: DecodeConfig, folder: Path) -> None:
    """Write the model of method ``words`` or ``tokens``, learnt from ``texts``, to its ``arpa_file``."""
    if method == "words":
        further = read_vocabulary(Path(settings.vocabulary)) if settings.vocabulary else None
        model = NgramLM.train(texts, settings.word_order, vocabulary=further)
    else:
        model = NgramLM.train([tokens.encode(text) for text in texts], settings.token_order, labels=labels(tokens))
    path = arpa_file(method, settings, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.write(path)


def read_vocabulary(path: Path) -> dict[str, float]:
    """Words and how often each occurs: a word and a number a line; ValueError names the line that is something else."""
    found: dict[str, float] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            word, frequency = line.split()
            found[word] = found.get(word, 0.0) + float(frequency)
        except ValueError:
            raise ValueError(f"{path}, line {number} must be a word and a number, got {line!r:.60}") from None
    if not found:
        raise ValueError(f"{path} must hold words, got none")
    return found


def read(method: str, tokens: Tokens, settings: DecodeConfig, folder: Path) -> Language:
    """The model of a method from its ``arpa_file``, and for one of words its vocabulary, spelled in the tokens."""
    kind = unit(method, settings)
    if not kind:
        return Language()
    path = arpa_file(method, settings, folder)
    own = f" of {path.name}" if method == "arpa" else " of the training transcripts"
    if kind == "token":
        model = NgramLM.read(path, labels=labels(tokens), cache=method == "arpa")
        return Language(f"token {model.order}-gram{own}", model)
    model = NgramLM.read(path, cache=method == "arpa")
    return Language(f"word {model.order}-gram{own}", model, spelled(model.vocabulary, tokens, path))


def labels(tokens: Tokens) -> list[str]:
    """What each class stands for; the blank has a name that no text holds."""
    return ["<blank>", *tokens.labels[1:]]


def spelled(vocabulary: Sequence[str], tokens: Tokens, path: Path) -> Lexicon:
    """Every word that the tokens can write; says how many they cannot, and those count as unknown."""
    words = [word for word in vocabulary if word not in MARKS]
    known = [word for word in words if not tokens.unknown(word)]
    if not known:
        raise ValueError(f"{path} must hold words in the alphabet {tokens.alphabet!r}, got such as {words[:5]}")
    if len(known) < len(words):
        strange = next(word for word in words if tokens.unknown(word))
        print(f"{path}: {len(words) - len(known)} of {len(words)} words are not in the alphabet, such as {strange!r}")
    return Lexicon.from_words(known, tokens.encode, boundary=tokens.separator)


def unknown_words(texts: Sequence[str], lexicon: Lexicon) -> float:
    """Percent of the running words of ``texts`` that the lexicon does not hold."""
    known = set(lexicon.words)
    words = [word for text in texts for word in text.split()]
    return 100 * sum(word not in known for word in words) / max(1, len(words))

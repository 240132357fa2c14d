"""A model of words with the weights that pyctcdecode gives it."""

import copy
import json
import math
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from numbactc.language_model import NgramLM
from numbactc.pyctcdecode.constants import (
    DEFAULT_ALPHA,
    DEFAULT_BETA,
    DEFAULT_SCORE_LM_BOUNDARY,
    DEFAULT_UNK_LOGP_OFFSET,
)

LN_10 = math.log(10.0)
NO_WORDS = ("<s>", "</s>", "<unk>", "<S>", "</S>", "<UNK>")
BINARIES = (".bin", ".binary")
"""What KenLM's own format is called: a table of hashes from which words cannot be told."""


class LanguageModel:
    """An n-gram model of words and how much it counts.

    A text w_1 ... w_K gains, in nats,

        alpha * (log p(w_1 ... w_K) + ln 10 * unk_score_offset * unknown words)  +  beta * K

    where p includes the end of the sentence if score_boundary is true. An unknown word of more than six labels costs
    more, in proportion to its length, as it does in pyctcdecode until it is complete.

    Args:
        path: an ARPA file, plain or packed by gzip.
        unigrams: the words that are known; those that the model has not are left out. None or none for all it has.
        alpha, beta, unk_score_offset, score_boundary: as above; offsets above 0 count as 0.

    Attributes:
        unigrams, known: those that are left, in order and as a set.
        order: words in the longest n-gram.
    """

    _ATTRIBUTES = ("alpha", "beta", "unk_score_offset", "score_boundary")
    _ATTRS_SERIALIZED_FILENAME = "attrs.json"
    _UNIGRAMS_SERIALIZED_FILENAME = "unigrams.txt"

    def __init__(
        self,
        path: str | Path,
        unigrams: Collection[str] | None = None,
        alpha: float = DEFAULT_ALPHA,
        beta: float = DEFAULT_BETA,
        unk_score_offset: float = DEFAULT_UNK_LOGP_OFFSET,
        score_boundary: bool = DEFAULT_SCORE_LM_BOUNDARY,
    ) -> None:
        if Path(path).suffix in BINARIES:
            raise ValueError(
                f"kenlm_model_path must be an ARPA file, got {path}: KenLM's binary format holds hashes of words only. "
                "Use the .arpa file that it was built from"
            )
        self.path = Path(path)
        self.model = NgramLM.read(path)
        known = dict.fromkeys(word for word in self.model.vocabulary if word not in NO_WORDS)
        self.unigrams = tuple(word for word in dict.fromkeys(unigrams) if word in known) if unigrams else tuple(known)
        self.alpha, self.beta = alpha, beta
        self.known = frozenset(self.unigrams)
        self.unk_score_offset, self.score_boundary = unk_score_offset, score_boundary

    @property
    def order(self) -> int:
        return self.model.order

    @property
    def unknown_penalty(self) -> float:
        """What an unknown word costs apart from what the model gives it, in nats, at least 0."""
        return max(0.0, -self.unk_score_offset * self.alpha * LN_10)

    def reset_params(self, **params: Any) -> None:
        """Change alpha, beta, unk_score_offset or score_boundary; None leaves one as it is."""
        for name, value in params.items():
            if name not in self._ATTRIBUTES:
                raise ValueError(f"parameters must be of {', '.join(self._ATTRIBUTES)}, got {name}")
            if value is not None:
                setattr(self, name, value)

    def get_start_state(self) -> int:
        """The state before the first word."""
        return self.model.start_state if self.score_boundary else 0

    def starting_at(self, state: int) -> NgramLM:
        """The model for a search whose texts go on from a state; it shares all arrays."""
        if state == self.model.start_state:
            return self.model
        moved = copy.copy(self.model)
        moved.start_state, moved.highest = state, self.model.highest
        return moved

    def states_after(self, state: int, texts: Iterable[list[str]]) -> list[int]:
        """The state after each text, from the same one on; beginnings that texts share are looked up once."""
        after: dict[tuple[int, str], int] = {}
        found = []
        for words in texts:
            current = state
            for word in words:
                step = (current, word)
                if step not in after:
                    after[step] = self.model.advance(*step)[1]
                current = after[step]
            found.append(current)
        return found

    def end_of(self, state: int) -> float:
        """Log-probability of the end of the sentence, in nats."""
        return self.model.advance(state, self.model.end)[0]

    def save_to_dir(self, folder: str | Path) -> None:
        """Write weights and words into a folder, and copy the ARPA file there, as pyctcdecode does."""
        weights = {name: getattr(self, name) for name in self._ATTRIBUTES}
        Path(folder, self._ATTRS_SERIALIZED_FILENAME).write_text(json.dumps(weights))
        words = "".join(word + "\n" for word in sorted(self.unigrams))
        Path(folder, self._UNIGRAMS_SERIALIZED_FILENAME).write_text(words, encoding="utf-8")
        shutil.copy2(self.path, folder)

    @classmethod
    def load_from_dir(cls, folder: str | Path, unigram_encoding: str | None = None) -> "LanguageModel":
        """Read what `save_to_dir`, or pyctcdecode's, has written."""
        attributes = Path(folder, cls._ATTRS_SERIALIZED_FILENAME)
        unigrams = Path(folder, cls._UNIGRAMS_SERIALIZED_FILENAME)
        found = sorted(path for path in Path(folder).iterdir() if not path.name.startswith((".", "__")))
        others = [path for path in found if path not in (attributes, unigrams)]
        if len(others) != 1 or len(found) != 3:
            names = [path.name for path in found]
            raise ValueError(f"{folder} must have attrs.json, unigrams.txt and one ARPA file, got {names}")
        weights = json.loads(attributes.read_text())
        if set(weights) != set(cls._ATTRIBUTES):
            raise ValueError(f"{attributes} must have {', '.join(cls._ATTRIBUTES)}, got {', '.join(sorted(weights))}")
        words = unigrams.read_text(encoding=unigram_encoding or "utf-8").split()
        return cls(others[0], words, **weights)

"""`build_ctcdecoder` and the decoder that it builds, with pyctcdecode's arguments and numbactc's search."""

import math
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numbactc.decoding import Hypothesis, beam_search_decode
from numbactc.lexicon import Lexicon
from numbactc.pyctcdecode.alphabet import Alphabet
from numbactc.pyctcdecode.beams import OutputBeam, OutputBeamMPSafe, Weights, beams_of
from numbactc.pyctcdecode.constants import (
    DEFAULT_ALPHA,
    DEFAULT_BEAM_WIDTH,
    DEFAULT_BETA,
    DEFAULT_HOTWORD_WEIGHT,
    DEFAULT_MIN_TOKEN_LOGP,
    DEFAULT_PRUNE_BEAMS,
    DEFAULT_PRUNE_LOGP,
    DEFAULT_SCORE_LM_BOUNDARY,
    DEFAULT_UNK_LOGP_OFFSET,
    MIN_TOKEN_CLIP_P,
)
from numbactc.pyctcdecode.language_model import LanguageModel
from numbactc.pyctcdecode.spelling import lexicon_of, spellings

RANKED = 10
"""Hypotheses among which `decode` chooses once those of the same words have become one."""

Logits = np.ndarray


class BeamSearchDecoderCTC:
    """A decoder for one alphabet and, perhaps, one language model. Use `build_ctcdecoder`.

    Every method that decodes takes

        logits: (T, C) scores of any offset, log-probabilities or probabilities, which are told by their sums.
        beam_width: how many beginnings of texts are kept.
        beam_prune_logp: nats, at most 0: those that are worse than the best by more are dropped.
        token_min_logp: nats: classes below extend no text in a frame, unless they are the best.
        prune_history: without effect. What shares all that a language model still sees is pruned by its score.
        hotwords: words, or phrases, of which each word is one, that gain hotword_weight nats wherever they occur; those
            with a character that is no label, which no text can have, are left out.
        lm_start_state: `last_lm_state` of a beam that the text goes on from.
        pool: without effect. A batch is shared among `torch.get_num_threads()` threads.

    Searching adds up all alignments of a text that the beam holds, which pyctcdecode does not; scores that are told
    contain all of them. Any number of threads may decode at once.
    """

    _ALPHABET_SERIALIZED_FILENAME = "alphabet.json"
    _LANGUAGE_MODEL_SERIALIZED_DIRECTORY = "language_model"

    def __init__(self, alphabet: Alphabet, language_model: LanguageModel | None = None) -> None:
        self._alphabet = alphabet
        self._model_key = os.urandom(16)
        self.model_container = {self._model_key: language_model}
        self._lexicon: Lexicon | None = None
        if language_model is not None:
            self._lexicon = lexicon_of(language_model.unigrams, alphabet)

    @property
    def _language_model(self) -> LanguageModel | None:
        return self.model_container.get(self._model_key)

    def reset_params(
        self,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
    ) -> None:
        """Change how the language model counts; None leaves a weight as it is. Without a model nothing happens."""
        if self._language_model is not None:
            self._language_model.reset_params(
                alpha=alpha, beta=beta, unk_score_offset=unk_score_offset, score_boundary=lm_score_boundary
            )

    def cleanup(self) -> None:
        """Forget the language model."""
        self.model_container.clear()

    def decode_beams(
        self,
        logits: Logits,
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        prune_history: bool = DEFAULT_PRUNE_BEAMS,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
        lm_start_state: int | None = None,
    ) -> list[OutputBeam]:
        """The likely texts of one utterance, the best first."""
        settings = (beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight, lm_start_state)
        return self._decode([logits], beam_width, *settings)[0]

    def decode_beams_batch(
        self,
        pool: Any,
        logits_list: Sequence[Logits],
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        prune_history: bool = DEFAULT_PRUNE_BEAMS,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
    ) -> list[list[OutputBeamMPSafe]]:
        """The likely texts of each utterance, without states of the language model."""
        settings = (beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight, None)
        found = self._decode(logits_list, beam_width, *settings)
        return [[OutputBeamMPSafe(beam.text, *beam[2:]) for beam in beams] for beams in found]

    def decode(
        self,
        logits: Logits,
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
        lm_start_state: int | None = None,
    ) -> str:
        """The best text of one utterance."""
        settings = (beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight, lm_start_state)
        return self._decode([logits], RANKED, *settings)[0][0].text

    def decode_batch(
        self,
        pool: Any,
        logits_list: Sequence[Logits],
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
    ) -> list[str]:
        """The best text of each utterance."""
        settings = (beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight, None)
        return [beams[0].text for beams in self._decode(logits_list, RANKED, *settings)]

    def save_to_dir(self, filepath: str | Path) -> None:
        """Write the alphabet and the language model into a folder, in pyctcdecode's form."""
        folder = Path(filepath)
        (folder / self._ALPHABET_SERIALIZED_FILENAME).write_text(self._alphabet.dumps())
        if self._language_model is not None:
            below = folder / self._LANGUAGE_MODEL_SERIALIZED_DIRECTORY
            below.mkdir()
            self._language_model.save_to_dir(below)

    @classmethod
    def load_from_dir(cls, filepath: str | Path, unigram_encoding: str | None = None) -> "BeamSearchDecoderCTC":
        """Read what `save_to_dir`, or pyctcdecode's, has written; the language model must be an ARPA file."""
        folder = Path(filepath)
        alphabet = folder / cls._ALPHABET_SERIALIZED_FILENAME
        if not alphabet.is_file():
            names = sorted(path.name for path in folder.iterdir())
            raise ValueError(f"{folder} must have {alphabet.name}, got {names}")
        below = folder / cls._LANGUAGE_MODEL_SERIALIZED_DIRECTORY
        model = LanguageModel.load_from_dir(below, unigram_encoding) if below.is_dir() else None
        return cls(Alphabet.loads(alphabet.read_text()), model)

    @classmethod
    def load_from_hf_hub(cls, model_id: str, cache_dir: str | None = None, **kwargs: Any) -> "BeamSearchDecoderCTC":
        """Download a decoder with `huggingface_hub.snapshot_download`, which gets all other arguments, and read it."""
        from huggingface_hub import snapshot_download

        return cls.load_from_dir(snapshot_download(model_id, cache_dir=cache_dir, **kwargs))

    def _decode(
        self,
        logits_list: Sequence[Logits],
        n_best: int,
        beam_width: int,
        beam_prune_logp: float,
        token_min_logp: float,
        hotwords: Iterable[str] | None,
        hotword_weight: float,
        lm_start_state: int | None,
    ) -> list[list[OutputBeam]]:
        if not len(logits_list):
            return []
        scores = [self._log_probs(logits) for logits in logits_list]
        wanted = _hotwords(hotwords)
        model = self._language_model
        start = 0 if model is None else model.get_start_state() if lm_start_state is None else lm_start_state
        found = beam_search_decode(
            torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in scores], batch_first=True),
            [len(each) for each in scores],
            beam_width,
            min(n_best, beam_width),
            blank=self._alphabet.blank,
            batch_first=True,
            hotwords=self._hotword_tokens(wanted, hotword_weight),
            boundary=self._alphabet.boundary,
            beam_threshold=None if beam_prune_logp == -math.inf else -beam_prune_logp,
            token_threshold=None if token_min_logp == -math.inf else token_min_logp,
            **({} if model is None else self._of_words(model, start)),
        )
        weights = Weights(model, start, wanted, hotword_weight)
        return [self._beams(each, rows, weights) for each, rows in zip(found, scores, strict=True)]

    def _beams(self, found: list[Hypothesis], scores: np.ndarray, weights: Weights) -> list[OutputBeam]:
        """The first ones in the order of their exact scores, the others as the search has them."""
        first, others = found[:RANKED], found[RANKED:]
        beams = beams_of(first, scores, self._alphabet, weights)
        if not others:
            return beams
        known = {beam.text for beam in beams}
        more = beams_of(others, scores, self._alphabet, weights)
        return beams + [beam for beam in more if beam.text not in known]

    def _of_words(self, model: LanguageModel, start: int) -> dict[str, Any]:
        return {
            "language_model": model.starting_at(start),
            "lm_weight": model.alpha,
            "word_bonus": model.beta,
            "lexicon": self._lexicon,
            "unknown_penalty": model.unknown_penalty,
        }

    def _hotword_tokens(self, words: Collection[str], weight: float) -> dict[Sequence[int], float] | None:
        """Every spelling of each word; none of one that has a character which is no label."""
        tokens: dict[Sequence[int], float] = {}
        for word in words:
            tokens |= dict.fromkeys(spellings(word, self._alphabet), weight)
        return tokens or None

    def _log_probs(self, logits: Logits) -> np.ndarray:
        scores = np.asarray(logits)
        classes = len(self._alphabet.labels)
        if scores.ndim != 2 or scores.shape[1] != classes:
            raise ValueError(f"logits must have shape (T, {classes}), one column a label, got {scores.shape}")
        scores = scores.astype(np.float64 if scores.dtype == np.float64 else np.float32)
        least = math.log(MIN_TOKEN_CLIP_P)
        if scores.size and scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1.0, rtol=0, atol=1e-3):
            return np.asarray(np.log(np.clip(scores, MIN_TOKEN_CLIP_P, 1.0)))
        return torch.from_numpy(scores).log_softmax(dim=1).clamp_(least, 0.0).numpy()


def _hotwords(hotwords: Iterable[str] | None) -> frozenset[str]:
    """Each word of each phrase."""
    if isinstance(hotwords, str):
        raise TypeError(f"hotwords must be a collection of strings, got the string {hotwords!r}")
    return frozenset(word for phrase in hotwords or () for word in phrase.split())


def build_ctcdecoder(
    labels: Sequence[str],
    kenlm_model_path: str | Path | None = None,
    unigrams: Collection[str] | None = None,
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    unk_score_offset: float = DEFAULT_UNK_LOGP_OFFSET,
    lm_score_boundary: bool = DEFAULT_SCORE_LM_BOUNDARY,
) -> BeamSearchDecoderCTC:
    r"""A decoder for a model whose classes are `labels`, as pyctcdecode builds it.

    Args:
        labels: (C,) what each class stands for: characters with " " or "|" between words, or pieces of words with "▁"
            or "##". "", "<pad>" or "[PAD]" is the blank. See `Alphabet.build_alphabet`.
        kenlm_model_path: an ARPA file of words, plain or packed by gzip. KenLM's binary format cannot be read.
        unigrams: the words that count as known; None or none for all of the model.
        alpha: how much the language model counts, at least 0.
        beta: nats for each word.
        unk_score_offset: what a word that is not known costs beyond what the model gives it, in units of log10.
        lm_score_boundary: begin after the beginning of a sentence and end with its end.

    Raises:
        ValueError: labels of which one occurs twice, or, with a language model, that have nothing between words, or
            spell none of its words; a file that is no ARPA file.
        OSError: a file that cannot be read.

    Example:
        >>> import numpy as np
        >>> from numbactc.pyctcdecode import build_ctcdecoder
        >>> decoder = build_ctcdecoder(["<pad>", "|", "a", "b"])
        >>> probabilities = np.array([[0.1, 0, 0.9, 0], [0.1, 0.8, 0.1, 0], [0.2, 0, 0.3, 0.5]])
        >>> decoder.decode(probabilities)
        'a b'
        >>> beam = decoder.decode_beams(probabilities)[1]
        >>> print(beam.text, beam.text_frames, f"{beam.logit_score:.3f}")
        a [('a', (0, 1))] -1.431
    """
    model = None
    if kenlm_model_path is not None:
        model = LanguageModel(kenlm_model_path, unigrams, alpha, beta, unk_score_offset, lm_score_boundary)
    return BeamSearchDecoderCTC(Alphabet.build_alphabet(labels), model)

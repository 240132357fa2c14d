"""Beam search while an utterance is still being spoken: a state goes in with some frames, and a state comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from numbactc import _dispatch_beam, _dispatch_scoring, _hypotheses, _scoring, _validation_decoding
from numbactc._dispatch_beam import Search
from numbactc._hypotheses import Hypothesis
from numbactc._validation_decoding import Utterances, check_blank, check_count, check_pruning
from numbactc.language_model import NgramLM
from numbactc.lexicon import Lexicon


@dataclass(frozen=True)
class BeamState:
    """An utterance so far. Nothing ever changes it: it may be kept, and gone back to.

    Attributes:
        frames: how many have been read.
    """

    frames: int
    _search: Search = field(repr=False)
    _chunks: tuple[Tensor, ...] = field(repr=False)


class BeamSearch:
    """`numbactc.beam_search_decode` of one utterance in pieces, with the same result to the bit however it is cut.

    Args:
        classes: C, at least 1.
        beam_size, n_best, blank: as of `numbactc.beam_search_decode`.
        language_model, lm_weight, token_bonus, word_bonus, lexicon, unknown_penalty, hotwords, boundary: as there.
        beam_threshold, token_threshold: as there.
        exact_log_probs: keep all scores for the exact `log_prob` of hypotheses. Without them it is NaN, and memory does
            not grow with the number of frames.
        rescore: as there; None for what exact_log_probs is.

    Raises:
        TypeError, ValueError: as `numbactc.beam_search_decode`.

    Any number of threads may use one search, with whatever states.

    Example:
        >>> import torch, numbactc
        >>> log_probs = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]).log()
        >>> search = numbactc.BeamSearch(classes=2, beam_size=10)
        >>> state = search.start()
        >>> for chunk in log_probs.split(1):
        ...     state = search.advance(state, chunk)
        ...     print(search.finish(state)[0].tokens.tolist())
        [1]
        [1]
        [1, 1]
        >>> search.finish(state)[0].score == numbactc.beam_search_decode(log_probs, beam_size=10)[0][0].score
        True
    """

    def __init__(
        self,
        classes: int,
        beam_size: int = 100,
        n_best: int = 1,
        *,
        blank: int = 0,
        language_model: NgramLM | None = None,
        lm_weight: float = 0.5,
        token_bonus: float = 0.0,
        word_bonus: float = 0.0,
        lexicon: Lexicon | None = None,
        unknown_penalty: float | None = None,
        hotwords: Mapping[Sequence[int], float] | None = None,
        boundary: int | None = None,
        beam_threshold: float | None = None,
        token_threshold: float | None = None,
        exact_log_probs: bool = True,
        rescore: bool | None = None,
    ) -> None:
        self.classes = check_count("classes", classes)
        self.blank = check_blank(blank, self.classes)
        self.beam_size = check_count("beam_size", beam_size)
        self.n_best = check_count("n_best", n_best, self.beam_size, "beam_size")
        self.exact_log_probs = exact_log_probs
        self.rescore = exact_log_probs if rescore is None else rescore
        if rescore and not exact_log_probs:
            raise ValueError("rescore must be False without exact_log_probs, got True")
        extras = _scoring.check_extras(
            self.classes, self.blank, language_model, lm_weight, token_bonus, word_bonus, lexicon, unknown_penalty,
            hotwords, boundary,
        )  # fmt: skip
        pruning = check_pruning(beam_threshold, token_threshold)
        self._settings = _dispatch_beam.settings(self.blank, self.beam_size, pruning)
        self._scorer = _dispatch_scoring.scorer(extras)

    def start(self) -> BeamState:
        """The state before the first frame."""
        return BeamState(0, Search(self.classes, self._settings, self._scorer).restart(), ())

    def advance(self, state: BeamState, log_probs: Tensor) -> BeamState:
        """The state after some more frames.

        Args:
            state: of `start`, or of an earlier `advance`, of a search with the same arguments.
            log_probs: (T, C) of any dtype and device that `numbactc.beam_search_decode` takes, T from 0; the dtype must
                be that of the frames before.

        Raises:
            TypeError: as `numbactc.beam_search_decode`.
            ValueError: frames of another shape or dtype; a state of a search with other classes, blank, beam_size or
                thresholds.
        """
        self._check(state)
        _validation_decoding.check_chunk(log_probs, self.classes, state._chunks)
        frames = log_probs.detach().to("cpu", copy=True)
        search = state._search.copy()
        search.advance(frames.unsqueeze(1), 0, len(frames))
        # without exact log-probabilities the last chunk alone is kept, empty, for its dtype
        chunks = (*state._chunks, frames) if self.exact_log_probs else (frames[:0],)
        return BeamState(state.frames + len(frames), search, chunks)

    def finish(self, state: BeamState) -> list[Hypothesis]:
        """The hypotheses if the utterance ends here; it may go on all the same. The state is one as for `advance`."""
        self._check(state)
        found = state._search.result(self.beam_size if self.rescore else self.n_best)
        chunks = state._chunks if state._chunks else (torch.zeros(0, self.classes),)
        scores = torch.cat(chunks).unsqueeze(1)
        utterances = Utterances(scores, np.array([len(scores)]), self.blank)
        (hypotheses,) = _hypotheses.of(
            [found], utterances, self.n_best, self.rescore, self.exact_log_probs
        )
        return hypotheses

    def _check(self, state: BeamState) -> None:
        """Arrays of a search have the sizes of its own arguments."""
        its = state._search
        if (its.classes, its.settings) != (self.classes, self._settings):
            raise ValueError(
                "state must be of a search with the same classes, blank, beam_size and thresholds, "
                f"({self.classes}, {', '.join(map(str, self._settings))}), "
                f"got ({its.classes}, {', '.join(map(str, its.settings))})"
            )

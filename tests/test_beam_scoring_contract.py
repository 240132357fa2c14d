"""What may be asked for beside paths: weights of 0, large bonuses, batches; and what is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import numbactc
from beam_extras import LABELS, SPACE, A, B, character_model, scores_of, word_model
from beams import EVERYTHING, assert_same, decode
from numbactc import Lexicon, NgramLM


def test_a_model_of_weight_0_forbids_nothing(tmp_path: Path) -> None:
    """A file may say -inf, which times 0 would be no number."""
    path = tmp_path / "lm.arpa"
    path.write_text("\\data\\\nngram 1=5\n\\1-grams:\n-99 <s>\n-1 </s>\n-inf a\n-1 b\n-inf <unk>\n\\end\\\n")
    scores = scores_of(3, T=10)
    for keywords in (
        {"language_model": NgramLM.read(path, labels=LABELS, cache=False)},
        {"language_model": NgramLM.read(path, cache=False), "lexicon": Lexicon({"a": [A], "b": [B]}, boundary=SPACE)},
    ):
        plain = decode(scores, 20, 20, **(keywords | {"language_model": None}))
        scored = decode(scores, 20, 20, lm_weight=0.0, **keywords)
        assert [(h.tokens.tolist(), h.score) for h in plain] == [(h.tokens.tolist(), h.score) for h in scored]
        assert scored[0].lm_score == -math.inf


@pytest.mark.parametrize("bonus", [-1e300, -400.0, 200.0, 500.0])
def test_a_bonus_may_be_large(bonus: float) -> None:
    scores = scores_of(1, T=5)
    for hypothesis in decode(scores, EVERYTHING, 50, token_bonus=bonus):
        gained = bonus * len(hypothesis.tokens)
        assert hypothesis.score == pytest.approx(hypothesis.log_prob + gained, abs=1e-8)


def test_batch_equals_one_by_one() -> None:
    scores = torch.stack([scores_of(seed, T=20) for seed in range(4)], 1)
    keywords: dict[str, Any] = {
        "language_model": word_model(),
        "lexicon": Lexicon.from_characters(["a", "ab", "b"], LABELS),
        "unknown_penalty": 2.0,
        "hotwords": {(A, B): 1.0},
    }
    together = numbactc.beam_search_decode(scores, None, 10, 3, **keywords)
    for n, hypotheses in enumerate(together):
        assert_same(hypotheses, decode(scores[:, n], 10, 3, **keywords))


LEXICON = Lexicon({"a": [A]}, boundary=SPACE)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"language_model": "model.arpa"}, TypeError, "language_model must be an NgramLM, got str"),
        ({"language_model": word_model()}, ValueError, "lexicon must say how words are spelled for"),
        (
            {"language_model": character_model().with_labels(LABELS[:3])},
            ValueError,
            "language_model must have a label for each of C = 4 classes, got 3",
        ),
        ({"lm_weight": -0.5}, ValueError, "lm_weight must be finite and at least 0, got -0.5"),
        ({"lm_weight": math.inf}, ValueError, "lm_weight must be finite and at least 0, got inf"),
        ({"token_bonus": None}, TypeError, "token_bonus must be a number, got None"),
        ({"token_bonus": "3"}, TypeError, "token_bonus must be a number, got '3'"),
        ({"token_bonus": 501}, ValueError, "must raise the score by at most 500 nats a token, got 501"),
        ({"hotwords": {(A,): 400, (B, A): 400}}, ValueError, "by at most 500 nats a token, got 600"),
        ({"word_bonus": 1.0}, ValueError, "word_bonus must be 0 without a lexicon, got 1.0"),
        ({"lexicon": ["a"]}, TypeError, "lexicon must be a Lexicon, got list"),
        ({"lexicon": Lexicon({"a": [7]})}, ValueError, "lexicon must have tokens below C = 4, got 7"),
        ({"lexicon": Lexicon({"a": [0]})}, ValueError, "lexicon must not have the blank, 0, among its tokens"),
        (
            {"lexicon": Lexicon({"ab": [A, B], "ba": [B, A]})},
            ValueError,
            "or tokens that begin words and are nowhere else in one, got 3 inside of 'ab'",
        ),
        ({"unknown_penalty": 1.0}, ValueError, "unknown_penalty must be None without a lexicon, got 1.0"),
        ({"lexicon": LEXICON, "unknown_penalty": -1}, ValueError, "unknown_penalty must be finite and at least 0"),
        ({"lexicon": LEXICON, "boundary": 3}, ValueError, "boundary must be that of the lexicon, 1, got 3"),
        ({"boundary": 0}, ValueError, "boundary must be from 0 to C - 1, where C = 4, and not the blank, 0, got 0"),
        ({"hotwords": ["a"]}, TypeError, "hotwords must be a mapping of tokens to nats, got list"),
        ({"hotwords": {"a": 1.0}}, TypeError, "hotwords must be sequences of tokens, got 'a'"),
        ({"hotwords": {(): 1.0}}, ValueError, "hotwords must have at least one token, got none"),
        ({"hotwords": {(A, 4): 1.0}}, ValueError, r"and not the blank, 0, got 4 in \(2, 4\)"),
        ({"hotwords": {(A,): math.nan}}, ValueError, "hotwords' bonuses must be finite, got nan"),
        (
            {"hotwords": {(A, SPACE): 1.0}, "boundary": SPACE},
            ValueError,
            r"hotwords must not begin or end with the boundary, 1, got \(2, 1\)",
        ),
    ],
)
def test_what_is_wrong_is_said(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        decode(torch.zeros(3, 4), **keywords)

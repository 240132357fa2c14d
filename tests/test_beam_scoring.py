"""Beam search with a language model, a lexicon and hotwords, against brute force over all paths and plain Python."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from beam_extras import (
    LABELS,
    LAW,
    SPACE,
    A,
    B,
    Score,
    assert_complete,
    character_model,
    everything,
    scores_of,
    spelled,
    word_model,
    words_of,
)
from beams import Masses, model_like, search
from numbactc import Lexicon, NgramLM


@LAW
@given(st.integers(0, 2**16), st.sampled_from([0.0, 0.4, 2.0]), st.sampled_from([-1.0, 0.0, 1.5]))
def test_a_model_of_tokens(seed: int, weight: float, bonus: float) -> None:
    scores, lm = scores_of(seed), character_model()
    found = everything(scores, language_model=lm, lm_weight=weight, token_bonus=bonus)
    assert_complete(found, scores, weight, lambda text: (bonus * len(text), lm.score(text)))


def test_a_bonus_without_a_model() -> None:
    scores = scores_of(1)
    assert_complete(everything(scores, token_bonus=0.7), scores, 0.0, lambda text: (0.7 * len(text), 0.0))


@LAW
@given(st.integers(0, 2**16))
def test_a_lexicon_alone_lets_only_its_words_through(seed: int) -> None:
    scores = scores_of(seed)
    lexicon = Lexicon({"a": [A], "ab": [A, B], "bb": [B, B]}, boundary=SPACE)
    allowed = {tokens for _, tokens in lexicon.spellings}
    found = everything(scores, lexicon=lexicon)
    assert_complete(found, scores, 0.0, lambda text: (0.0 if allowed.issuperset(words_of(text)) else -math.inf, 0.0))


def unknown_penalty(penalty: float, length: int) -> float:
    return penalty * max(1.0, length / 6)


@LAW
@given(st.integers(0, 2**16), st.sampled_from([None, 0.0, 3.0]), st.sampled_from([0.0, 0.5, 1.5]))
def test_a_model_of_words(seed: int, penalty: float | None, weight: float) -> None:
    """Scored as words end, the last one at the end; unknown ones as <unk>, for a penalty, or not at all."""
    scores, lm = scores_of(seed), word_model()
    lexicon = Lexicon.from_characters(["a", "ab", "b", "bab"], LABELS)  # "bab" is not in the model, "ba" not here

    def gain(text: Sequence[int]) -> Score:
        words = words_of(text)
        total = 0.8 * len(words) + 0.1 * len(text)
        for word in words:
            if spelled(word) not in lexicon.words:
                total -= math.inf if penalty is None else unknown_penalty(penalty, len(word))
        return total, lm.score([spelled(word) if spelled(word) in lexicon.words else "<unk>" for word in words])

    found = everything(
        scores, language_model=lm, lm_weight=weight, lexicon=lexicon, unknown_penalty=penalty, word_bonus=0.8,
        token_bonus=0.1,
    )  # fmt: skip
    assert_complete(found, scores, weight, gain)


def test_an_unknown_word_costs_more_the_longer_it_is() -> None:
    path = [A, B] * 6 + [SPACE, A]
    scores = torch.full((len(path), 4), -math.inf, dtype=torch.float64)
    scores[range(len(path)), path] = 0.0
    lexicon = Lexicon({"a": [A], "abab": [A, B, A, B]}, boundary=SPACE)
    (only,) = search(scores, lexicon=lexicon, unknown_penalty=3.0)
    assert only.tokens.tolist() == path
    assert only.score == pytest.approx(-3.0 * 12 / 6, abs=1e-12)
    (only,) = search(scores[:3], lexicon=lexicon, unknown_penalty=3.0)
    assert only.score == pytest.approx(-3.0, abs=1e-12)


@pytest.mark.parametrize("penalty", [100.0, 400.0, 690.0])
def test_what_is_very_unlikely_is_found_where_there_is_nothing_else(penalty: float) -> None:
    """And what is a little less likely than it as well; not what begins with no word of the lexicon, far below "a"."""
    scores = torch.tensor([[0.0, 0.0, 0.9, 0.1]] * 2 + [[0.0, 1.0, 0.0, 0.0]], dtype=torch.float64).log()
    lexicon = Lexicon({"abba": [A, B, B, A]}, boundary=SPACE)
    hypotheses = search(scores, n_best=9, lexicon=lexicon, unknown_penalty=penalty)
    truth = {(A, SPACE): 0.81, (A, B, SPACE): 0.09}
    if penalty < 460:
        truth |= {(B, A, SPACE): 0.09, (B, SPACE): 0.01}
    assert {tuple(h.tokens.tolist()): pytest.approx(h.score, abs=1e-10) for h in hypotheses} == {
        text: math.log(probability) - penalty for text, probability in truth.items()
    }


def test_of_homophones_the_model_chooses() -> None:
    lm = NgramLM.train(["my son", "my son", "the sun", "the sun"], 2, smoothing="witten-bell")
    my, the = [SPACE + 1, B], [B, SPACE + 1]
    lexicon = Lexicon([("my", my), ("the", the), ("sun", [A]), ("son", [A])], boundary=SPACE)
    for first, word in ((my, "my son"), (the, "the sun")):
        path = [*first, SPACE, A]
        scores = torch.full((len(path), 4), -math.inf, dtype=torch.float64)
        scores[range(len(path)), path] = 0.0
        (only,) = search(scores, language_model=lm, lexicon=lexicon)
        assert only.lm_score == pytest.approx(lm.score(word), abs=1e-12)


def test_words_without_a_boundary_end_where_the_next_begins() -> None:
    """BPE: class 1 begins words, as "▁a", and 2 and 3 go on."""
    lm = NgramLM.train(["x xa", "xa xb x", "xb"], 2, smoothing="witten-bell")
    lexicon = Lexicon({"x": [1], "xa": [1, 2], "xb": [1, 3]})

    def gain(text: Sequence[int]) -> Score:
        words: list[str] = []
        for token in text:
            if token == 1:
                words.append("x")
            elif words:
                words[-1] += " ab"[token - 1]
            else:
                words.append("?")
        total = 0.3 * len(words) if set(words) <= set(lexicon.words) else -math.inf
        return total, lm.score(words)

    for seed in range(10):
        scores = scores_of(seed)
        found = everything(scores, language_model=lm, lm_weight=0.7, lexicon=lexicon, word_bonus=0.3)
        assert_complete(found, scores, 0.7, gain)


def test_a_text_that_ends_within_a_word_is_there_only_if_there_is_no_other() -> None:
    lexicon = Lexicon({"ab": [A, B]}, boundary=SPACE)
    scores = torch.tensor([[0.2, 0.1, 0.6, 0.1]], dtype=torch.float64).log()
    assert [h.tokens.tolist() for h in search(scores, n_best=9, lexicon=lexicon)] == [[], [SPACE]]
    certain = torch.tensor([[0.0, 0.0, 1.0, 0.0]], dtype=torch.float64).log()
    (only,) = search(certain, n_best=9, lexicon=lexicon)
    assert (only.tokens.tolist(), only.score, only.log_prob) == ([A], 0.0, 0.0)


def count(text: Sequence[int], part: Sequence[int]) -> int:
    return sum(tuple(text[i : i + len(part)]) == tuple(part) for i in range(len(text) - len(part) + 1))


@LAW
@given(st.integers(0, 2**16))
def test_hotwords_anywhere(seed: int) -> None:
    """Overlapping, one within the other, one the beginning of the other: each occurrence counts, and no beginning."""
    scores = scores_of(seed)
    hotwords = {(A, B): 2.0, (A, B, A): 1.0, (B,): 0.5, (B, A, B, A): 4.0, (SPACE, SPACE): -1.0}
    found = everything(scores, hotwords=hotwords)
    assert_complete(found, scores, 0.0, lambda text: (sum(n * count(text, w) for w, n in hotwords.items()), 0.0))


@LAW
@given(st.integers(0, 2**16))
def test_hotwords_as_whole_words(seed: int) -> None:
    scores = scores_of(seed)
    hotwords = {(A, B): 2.0, (B,): 0.5, (A, SPACE, B): 1.5}
    found = everything(scores, hotwords=hotwords, boundary=SPACE)

    def gain(text: Sequence[int]) -> Score:
        whole = [SPACE, *text, SPACE]
        return sum(bonus * count(whole, [SPACE, *word, SPACE]) for word, bonus in hotwords.items()), 0.0

    assert_complete(found, scores, 0.0, gain)


def test_a_hotword_is_worth_something_before_it_is_complete() -> None:
    """In a beam of one, where its first token would otherwise lose."""
    scores = torch.tensor([[0.01, 0.0, 0.44, 0.55], [0.01, 0.0, 0.44, 0.55], [0.98, 0.02, 0.0, 0.0]]).log()
    assert search(scores, 1)[0].tokens.tolist() == [B]
    assert search(scores, 1, hotwords={(A, B): 4.0})[0].tokens.tolist() == [A, B]


def test_all_at_once() -> None:
    lm = character_model()
    lexicon = Lexicon.from_characters(["a", "ab", "b"], LABELS)
    for seed in range(10):
        scores = scores_of(seed)
        found = everything(
            scores, language_model=lm, lm_weight=0.6, lexicon=lexicon, unknown_penalty=1.0, hotwords={(A, B): 1.0}
        )

        def gain(text: Sequence[int]) -> Score:
            words = words_of(text)
            unknown = sum(unknown_penalty(1.0, len(w)) for w in words if spelled(w) not in lexicon.words)
            return words.count((A, B)) - unknown, lm.score(text)

        assert_complete(found, scores, 0.6, gain)


def reference_search(
    scores: torch.Tensor, beam_size: int, gain: Callable[[tuple[int, ...]], float]
) -> dict[tuple[int, ...], float]:
    """The textbook's beam, each prefix weighted by exp of what it has gained so far; log-probabilities without it."""
    beam: Masses = {(): (1.0, 0.0)}
    gains: dict[tuple[int, ...], float] = {}
    for row in scores.exp().tolist():
        sums: dict[tuple[int, ...], list[float]] = {}
        for prefix, (blank_mass, label_mass) in beam.items():
            sums.setdefault(prefix, [0.0, 0.0])[0] += (blank_mass + label_mass) * row[0]
            for token in range(1, len(row)):
                repeats = prefix[-1:] == (token,)
                if repeats:
                    sums[prefix][1] += label_mass * row[token]
                longer = sums.setdefault((*prefix, token), [0.0, 0.0])
                longer[1] += (blank_mass if repeats else blank_mass + label_mass) * row[token]
        for prefix in sums:
            gains.setdefault(prefix, gain(prefix))
        possible = [prefix for prefix in sums if sum(sums[prefix]) > 0 and gains[prefix] > -math.inf]
        kept = sorted(possible, key=lambda prefix: -math.log(sum(sums[prefix])) - gains[prefix])[:beam_size]
        beam = {prefix: (sums[prefix][0], sums[prefix][1]) for prefix in kept}
    return {prefix: math.log(sum(masses)) for prefix, masses in beam.items()}


@pytest.mark.parametrize("beam_size", [1, 3, 10, 40])
def test_nothing_is_pruned_but_by_the_beams_size(beam_size: int) -> None:
    """Prefix for prefix the textbook's beam: what a token may gain at most is never put too low."""
    labels = ["<blank>", *"abcdefghijk"]
    texts = ["".join(labels[1 + (i * j) % 11] for i in range(9)) for j in range(1, 9)]
    lm = NgramLM.train(texts, 3, labels=labels, smoothing="witten-bell")
    for sharpness in (0.7, 2.0):
        scores = model_like(30, 12, sharpness)

        def gain(prefix: tuple[int, ...]) -> float:
            return 0.8 * lm.score(prefix, eos=False) + 1.1 * len(prefix)

        truth = reference_search(scores, beam_size, gain)
        found = search(
            scores, beam_size, beam_size, language_model=lm, lm_weight=0.8, token_bonus=1.1
        )
        assert sorted(tuple(h.tokens.tolist()) for h in found) == sorted(truth)
        for hypothesis in found:
            text = tuple(hypothesis.tokens.tolist())
            end = 0.8 * (lm.score(text) - lm.score(text, eos=False))
            assert hypothesis.score == pytest.approx(truth[text] + gain(text) + end, abs=1e-9)


@pytest.mark.parametrize("beam_size", [1, 3, 10, 40])
def test_words_and_hotwords_are_pruned_by_the_beams_size_alone(beam_size: int) -> None:
    """The same with what comes at once: a word's bonus at its end, a hotword's with its token, until that goes on."""
    lm = word_model()
    lexicon = Lexicon.from_characters(["a", "ab", "b", "ba"], LABELS)
    begun = {tokens[:length] for _, tokens in lexicon.spellings for length in range(3)}
    whole = {tokens for _, tokens in lexicon.spellings}

    def gain(prefix: tuple[int, ...]) -> float:
        ended = words_of(prefix)
        last: tuple[int, ...] = () if prefix[-1:] in ((), (SPACE,)) else ended.pop()
        if last not in begun or not whole.issuperset(ended):
            return -math.inf
        nats = lm.score([spelled(word) for word in ended], eos=False)
        return 0.9 * nats + 3.0 * len(ended) + 1.5 * [*ended, last].count((A,))

    for sharpness in (0.7, 2.0):
        scores = model_like(30, 4, sharpness)
        truth = reference_search(scores, beam_size, gain)
        found = search(
            scores, beam_size, beam_size, language_model=lm, lm_weight=0.9, lexicon=lexicon, word_bonus=3.0,
            hotwords={(A,): 1.5},
        )  # fmt: skip
        texts = {tuple(h.tokens.tolist()) for h in found}
        complete = {prefix for prefix in truth if whole.issuperset(words_of(prefix))}
        assert texts == (complete or set(truth))


def test_a_long_utterance_keeps_its_scores_as_nodes_are_collected() -> None:
    lm = character_model()
    scores = (torch.randn(3000, 4) * 0.7).log_softmax(1)
    for hypothesis in search(scores, 30, 30, language_model=lm, lm_weight=0.3, token_bonus=0.4, hotwords={(A, B): 0.1}):
        text = hypothesis.tokens.tolist()
        assert hypothesis.lm_score == pytest.approx(lm.score(text), abs=1e-8)
        gained = 0.3 * hypothesis.lm_score + 0.4 * len(text) + 0.1 * count(text, (A, B))
        assert hypothesis.score <= hypothesis.log_prob + gained + 1e-6


def test_without_extras_a_model_of_weight_0_changes_no_rank() -> None:
    scores = scores_of(3, T=30)
    plain = search(scores, 20, 20)
    scored = search(scores, 20, 20, language_model=character_model(), lm_weight=0.0)
    assert [h.tokens.tolist() for h in plain] == [h.tokens.tolist() for h in scored]
    assert all(h.lm_score < 0 for h in scored)

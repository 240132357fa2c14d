"""Training gives the probabilities of the formulas, all of them; a model is the same whichever way it is asked."""

import itertools
import math
import pickle
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import numbactc
from numbactc import NgramLM
from numbactc._arpa import ngrams_of
from numbactc.language_model import Tokens

Sentence = list[str]
Ngram = tuple[str, ...]

FOX = [
    "the quick brown fox jumps over the lazy dog",
    "the lazy dog sleeps",
    "the quick dog jumps over the fox",
    "a fox is quick and a dog is lazy",
    "the dog and the fox sleep over the brown hill",
]
SMOOTHINGS = ["kneser-ney", "witten-bell"]


def drawn_text(sentences: int, words: str = "abcdefgh") -> list[Sentence]:
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return [random.choices(words, weights, k=random.randrange(7)) for _ in range(sentences)]


class Slow:
    """The formulas of `numbactc._smoothing`, one n-gram at a time, with dictionaries, for the text's vocabulary."""

    def __init__(
        self, text: Sequence[Sentence], order: int, smoothing: str, further: Mapping[str, float] | None = None
    ) -> None:
        self.smoothing = smoothing
        known = {word for sentence in text for word in sentence} | {"</s>"}
        self.vocabulary = known | {"<unk>"} | set(further or {})
        rarest = min((further or {"<unk>": 1}).values())
        shares = {word: rarest if word in known else (further or {}).get(word, rarest) for word in self.vocabulary}
        self.new = {word: share / sum(shares.values()) for word, share in shares.items()}
        marked = [["<s>", *sentence, "</s>"] for sentence in text]
        raw: list[Counter[Ngram]] = [Counter() for _ in range(order + 1)]
        for sentence, n in itertools.product(marked, range(1, order + 1)):
            raw[n].update(tuple(sentence[i : i + n]) for i in range(len(sentence) - n + 1))
        self.counts: dict[int, dict[Ngram, int]] = {order: dict(raw[order])}
        for n in range(1, order):
            before = defaultdict(set)
            for ngram in raw[n + 1]:
                before[ngram[1:]].add(ngram[0])
            adjusted = {ngram: raw[n][ngram] if ngram[0] == "<s>" else len(before[ngram]) for ngram in raw[n]}
            self.counts[n] = adjusted if smoothing == "kneser-ney" else dict(raw[n])
        del self.counts[1]["<s>",]

    def discounts(self, n: int) -> tuple[float, ...]:
        t = Counter(self.counts[n].values())
        if not (t[1] and t[2] and t[3]):
            return (0, 0.5, 1, 1.5)
        y = t[1] / (t[1] + 2 * t[2])
        found = tuple(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))
        return (0, *found) if all(0 < d <= k for k, d in enumerate(found, 1)) else (0, 0.5, 1, 1.5)

    def probability(self, history: Ngram, word: str, n: int) -> float:
        if n == 0:
            return self.new[word]
        history = history[max(0, len(history) - n + 1) :]
        if len(history) < n - 1:
            return self.probability(history, word, len(history) + 1)
        followers = {ngram[-1]: count for ngram, count in self.counts[n].items() if ngram[:-1] == history}
        shorter = self.probability(history[1:], word, n - 1)
        if not followers:
            return shorter
        total, count = sum(followers.values()), followers.get(word, 0)
        if self.smoothing == "witten-bell":
            return (count + len(followers) * shorter) / (total + len(followers))
        discounts = self.discounts(n)
        taken = sum(discounts[min(other, 3)] for other in followers.values())
        return (count - discounts[min(count, 3)] + taken * shorter) / total


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("sentences", [1, 6, 300])
def test_probabilities_are_those_of_the_formulas(sentences: int, order: int, smoothing: str) -> None:
    text = [*drawn_text(sentences), ["a"]]
    lm, slow = NgramLM.train(text, order, smoothing=smoothing), Slow(text, order, smoothing)
    histories = [[], ["a"], ["h", "a"], ["a", "b", "a"], ["a", "zzz"], ["b", "b", "c", "a"]]
    for history in histories:
        state = lm.start_state
        for word in history:
            state = lm.advance(state, word)[1]
        known: Ngram = ("<s>", *(word if word in slow.vocabulary else "<unk>" for word in history))
        for word in slow.vocabulary:
            expected = slow.probability(known, word, order)
            assert math.exp(lm.advance(state, word)[0]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 3])
def test_further_words_share_what_is_left_by_their_frequencies(order: int, smoothing: str) -> None:
    text = [*drawn_text(60), ["a"], ["rare"]]
    further = {"a": 1000.0, "rare": 5.0, "x": 8.0, "y": 2.0, "z": 0.5}
    lm = NgramLM.train(text, order, smoothing=smoothing, vocabulary=further)
    slow = Slow(text, order, smoothing, further)
    for history in ([], ["b", "a"], ["x"], ["unheard"]):
        state = lm.start_state
        for word in history:
            state = lm.advance(state, word)[1]
        known = ("<s>", *(word if word in slow.vocabulary else "<unk>" for word in history))
        nats = {word: lm.advance(state, word)[0] for word in slow.vocabulary}
        for word, found in nats.items():
            assert math.exp(found) == pytest.approx(slow.probability(known, word, order), rel=1e-9)
        assert nats["x"] - nats["y"] == pytest.approx(math.log(4)) and nats["z"] == pytest.approx(nats["<unk>"])
        assert math.fsum(map(math.exp, nats.values())) == pytest.approx(1, abs=1e-9)
    frequent = NgramLM.train(text, order, smoothing=smoothing, min_count=2, vocabulary=further)
    assert "rare" in frequent.vocabulary and frequent.advance(0, "rare")[0] > frequent.advance(0, "z")[0]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("min_count", [1, 2])
def test_probabilities_sum_to_one_after_every_history(order: int, smoothing: str, min_count: int) -> None:
    """Over the whole vocabulary, <unk> and </s> among it; <s> follows nothing."""
    for text in (FOX, [" ".join(sentence) for sentence in drawn_text(100)], ["one"], [""]):
        lm = NgramLM.train(text, order, smoothing=smoothing, min_count=min_count)
        for state in range(lm.automaton.backoffs.size):
            nats = [lm.advance(state, word)[0] for word in range(len(lm.vocabulary)) if word != lm.begin]
            assert math.fsum(map(math.exp, nats)) == pytest.approx(1, abs=1e-9)
            assert lm.advance(state, "<s>")[0] < -200


def test_kneser_ney_by_hand() -> None:
    """Two sentences, "a b" and "c b": after any of three words, b has been new twice.

    Bigrams: <s> a, <s> c, a b, c b once each, b </s> twice; so few that 0.5 is taken off a count of 1 and 1 off 2.
    Words that stand before: one each of a and c, <s>; two of b, a and c; one of </s>, b. 2.5 of 5 is taken off, and
    each of a, b, c, </s> and <unk> gets 0.1 of it back.
    """
    lm = NgramLM.train(["a b", "c b"], order=2)
    p_a, p_b, p_end = 0.5 / 5 + 0.1, 1 / 5 + 0.1, 0.5 / 5 + 0.1
    after_start, after_a, after_b = (2 - 1) / 2, 0.5, 1 / 2
    expected = {
        "a b": (0.5 / 2 + after_start * p_a) * (0.5 + after_a * p_b) * (1 / 2 + after_b * p_end),
        "b a": (after_start * p_b) * (after_b * p_a) * (after_a * p_end),
        "dog": (after_start * 0.1) * p_end,
    }
    for sentence, probability in expected.items():
        assert math.exp(lm.score(sentence)) == pytest.approx(probability, rel=1e-12)


def test_witten_bell_by_hand() -> None:
    """Of a, a, b and three </s>; after a came two </s> and nothing else."""
    lm = NgramLM.train(["a", "a", "b"], order=2, smoothing="witten-bell")
    kinds, words, each = 3, 6, 1 / 4
    p = {"a": (2 + kinds * each) / (words + kinds), "</s>": (3 + kinds * each) / (words + kinds)}
    assert math.exp(lm.score("a")) == pytest.approx((2 + 2 * p["a"]) / 5 * (2 + p["</s>"]) / 3, rel=1e-12)


def test_unknown_words_have_what_rare_words_had() -> None:
    lm = NgramLM.train(FOX, 2, min_count=2)
    assert "hill" not in lm.vocabulary and "fox" in lm.vocabulary
    assert lm.score("the hill") == lm.score("the zebra") == lm.score("the <unk>")
    assert lm.advance(0, "zebra")[0] > NgramLM.train(FOX, 2).advance(0, "zebra")[0]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_longer_histories_know_the_text_better(smoothing: str) -> None:
    text = [" ".join(sentence) for sentence in (["a", "b", "c"] * 2, ["b", "a", "d", "a"], ["a", "b", "c", "d"]) * 5]
    perplexities = [NgramLM.train(text, order, smoothing=smoothing).perplexity(text) for order in (1, 2, 3)]
    assert 6 > perplexities[0] > perplexities[1] > perplexities[2] > 1


def test_perplexity_is_the_mean_over_tokens_and_ends() -> None:
    lm = NgramLM.train(FOX)
    nats = lm.score("the fox") + lm.score("")
    assert lm.perplexity(["the fox", ""]) == pytest.approx(math.exp(-nats / 4))
    uniform = NgramLM.train([""], 1, smoothing="witten-bell")  # (1 + 1 / 2) / 2 for </s>
    assert uniform.perplexity(["", ""]) == pytest.approx(4 / 3)
    with pytest.raises(ValueError, match="texts must have at least one sentence, got none"):
        lm.perplexity([])


@pytest.mark.parametrize("order", [1, 2, 4])
def test_step_by_step_is_the_same_as_at_once(order: int) -> None:
    lm = NgramLM.train(FOX, order)
    for sentence in [*FOX, "the zebra jumps", ""]:
        for bos, eos in itertools.product((True, False), repeat=2):
            total, state = 0.0, lm.start_state if bos else 0
            for word in sentence.split() + ["</s>"] * eos:
                nats, state = lm.advance(state, word)
                total += nats
            assert lm.score(sentence, bos, eos) == pytest.approx(total, rel=1e-12)


def test_forms_of_a_sentence() -> None:
    lm = NgramLM.train(FOX)
    words = ["the", "lazy", "zebra"]
    numbers = lm.numbers(words)
    assert [lm.vocabulary[number] for number in numbers] == ["the", "lazy", "<unk>"]
    forms = ["the lazy zebra", "  the lazy\tzebra ", words, tuple(words), numbers, numbers.tolist()]
    assert len({lm.score(form) for form in forms}) == 1
    assert lm.unit == "word" and lm.labels is None and lm.token_words is None


LABELS = ["<blank>", "<s>", "</s>", " ", *"abcdefghijklmnopqrstuvwxyz"]


@pytest.mark.parametrize("space", [" ", "|", "▁"])
def test_models_of_characters(tmp_path: Path, space: str) -> None:
    labels = [space if label == " " else label for label in LABELS]
    lm = NgramLM.train(FOX, 4, labels=labels)
    assert lm.unit == "token" and lm.labels == tuple(labels) and lm.token_words is not None
    assert lm.token_words[labels.index(space)] != lm.unknown
    classes = [labels.index(space if character == " " else character) for character in "the fox"]
    forms: list[Tokens] = ["the fox", [*"the", space, *"fox"], classes, np.array(classes)]
    assert len({lm.score(form) for form in forms}) == 1
    assert lm.score("the fox") > max(lm.score("fox eht"), lm.score("the fôx"))
    lm.write(tmp_path / "lm.arpa")
    plain = NgramLM.read(tmp_path / "lm.arpa")
    for read in (NgramLM.read(tmp_path / "lm.arpa", labels=labels), plain.with_labels(labels)):
        assert read.score(classes) == pytest.approx(lm.score(classes), abs=1e-6)
    others = ["|" if label == space else label for label in labels]
    assert lm.with_labels(others).score(classes) == lm.score(classes) or space == "▁"


def test_classes_of_a_decoder() -> None:
    lm = NgramLM.train(["ab ba"], 2, labels=LABELS)
    assert lm.token_words is not None and lm.token_words.dtype == np.int32 and len(lm.token_words) == len(LABELS)
    found = {label: lm.vocabulary[word] for label, word in zip(LABELS, lm.token_words, strict=True)}
    assert found.pop("a") == "a" and found.pop("b") == "b" and found.pop(" ") == "<space>"
    assert set(found.values()) == {"<unk>"}, "a mark of a sentence is no token either"


def test_texts_of_classes_and_of_units() -> None:
    units = ["<blank>", "▁the", "▁fo", "x", "▁"]
    by_class = NgramLM.train([[1, 2, 3], [1]], 3, labels=units)
    by_name = NgramLM.train([["▁the", "▁fo", "x"], ["▁the"]], 3, labels=units)
    assert by_class.vocabulary == by_name.vocabulary == ("<unk>", "<s>", "</s>", "▁the", "▁fo", "x")
    assert by_class.score([1, 2, 3]) == by_name.score(["▁the", "▁fo", "x"])
    strange = NgramLM.train([["▁the", "y"], ["z"]], 2, labels=units)
    assert strange.vocabulary == ("<unk>", "<s>", "</s>", "▁the"), "what is no label is <unk>"
    assert strange.advance(strange.start_state, "z")[0] > strange.advance(strange.start_state, "</s>")[0]


def test_a_model_outlives_pickling() -> None:
    lm = NgramLM.train(FOX, labels=None)
    again = pickle.loads(pickle.dumps(lm))
    assert again.score(FOX[0]) == lm.score(FOX[0]) and repr(again) == repr(lm)
    assert repr(lm).startswith("NgramLM(order=3, unit='word', 17 words, 17 + ")


def test_every_ngram_of_the_text_is_in_the_model() -> None:
    lm = NgramLM.train(["a b", "b a b"], 3)
    rows = [ngrams.words.tolist() for ngrams in ngrams_of(lm._model)]
    found = [{tuple(lm.vocabulary[word] for word in row) for row in order} for order in rows]
    assert found[1] == {("<s>", "a"), ("a", "b"), ("b", "</s>"), ("<s>", "b"), ("b", "a")}
    assert found[2] == {("<s>", "a", "b"), ("a", "b", "</s>"), ("<s>", "b", "a"), ("b", "a", "b")}


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        ([], {}, ValueError, "texts must have at least one sentence, got none"),
        (FOX, {"order": 0}, ValueError, "order must be at least 1, got 0"),
        (FOX, {"min_count": 0}, ValueError, "min_count must be at least 1, got 0"),
        (FOX, {"smoothing": "good"}, ValueError, "smoothing must be one of 'kneser-ney', 'witten-bell', got 'good'"),
        (["a <s> b"], {}, ValueError, "texts and vocabulary must not hold '<s>'"),
        (FOX, {"vocabulary": {"</s>": 1}}, ValueError, "texts and vocabulary must not hold '</s>'"),
        (FOX, {"vocabulary": {"two words": 1}}, ValueError, "words must not be empty or have white space in them"),
        (FOX, {"vocabulary": {"cow": 0}}, ValueError, "vocabulary must have positive numbers, got 0 for 'cow'"),
        (FOX, {"vocabulary": {"cow": math.nan}}, ValueError, "vocabulary must have positive numbers, got nan"),
        (FOX, {"vocabulary": ["cow"]}, TypeError, "vocabulary must be a mapping of words to numbers, got list"),
        (FOX, {"vocabulary": {"a": 1}, "labels": ["", "a"]}, ValueError, "vocabulary must be None where there are"),
        ([["a b"]], {}, ValueError, "words must not be empty or have white space in them, got 'a b'"),
        ([[""]], {}, ValueError, "words must not be empty or have white space in them, got ''"),
        ([[1]], {}, TypeError, "texts must hold strings where there are no labels, got 1"),
        ([[1]], {"labels": ["a"]}, ValueError, "texts must hold classes from 0 to 0, got 1"),
        ([[-1]], {"labels": ["a"]}, ValueError, "texts must hold classes from 0 to 0, got -1"),
        ([None], {}, TypeError, "tokens must be a string, or a sequence of strings or of integers, got None"),
        ("a fox", {}, TypeError, "texts must be sentences, each a string or a sequence, got one string, 'a fox'"),
        (FOX, {"order": 2.5}, TypeError, "order must be an integer, got 2.5"),
        (FOX, {"labels": {"a", "b"}}, TypeError, "labels must be a sequence of strings, got {"),
        (FOX, {"labels": "abc"}, TypeError, "labels must be a sequence of strings, got 'abc'"),
        (FOX, {"labels": [1, 2]}, TypeError, r"labels must be a sequence of strings, got \[1, 2\]"),
    ],
)
def test_refused_training(texts, options, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        NgramLM.train(texts, **options)


def test_refused_questions() -> None:
    lm = NgramLM.train(FOX)
    states = lm.automaton.backoffs.size
    for state in (-1, states):
        with pytest.raises(ValueError, match=rf"state must be from 0 to {states - 1}, got {state}"):
            lm.advance(state, "fox")
    for token in (-1, len(lm.vocabulary)):
        with pytest.raises(ValueError, match=rf"tokens must be from 0 to {len(lm.vocabulary) - 1}, got {token}"):
            lm.score([token])
    with pytest.raises(TypeError, match=r"must be a string, or a sequence of strings or of integers, got \[0.5\]"):
        lm.score(np.array([0.5]).tolist())
    with pytest.raises(TypeError, match="texts must be sentences, each a string or a sequence, got one string"):
        lm.perplexity("the fox")


def test_public_names() -> None:
    assert {"NgramLM", "Lexicon"} <= set(numbactc.__all__)

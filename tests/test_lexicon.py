"""A lexicon holds every word under its spelling and nothing else, and says which words it cannot hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbactc.kernels.cpu import trie
from numbactc.kernels.jit import entry
from numbactc.lexicon import Lexicon


@entry
def walk(its_trie, tokens):  # type: ignore[no-untyped-def]
    node = 0
    for token in tokens:
        node = trie.child(its_trie, node, token)
        if node < 0:
            break
    return node


spellings = st.lists(st.integers(0, 3), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), spellings), min_size=1, max_size=30), st.data())
def test_a_walk_ends_where_the_words_are(pairs: list[tuple[str, list[int]]], data: st.DataObject) -> None:
    lexicon = Lexicon(pairs)
    for _, tokens in pairs:
        node = walk(lexicon.trie, np.array(tokens))
        start, end = lexicon.trie.word_starts[node : node + 2]
        found = [lexicon.words[number] for number in lexicon.trie.words[start:end]]
        assert sorted(found) == sorted({word for word, spelling in pairs if spelling == tokens})
    beginnings = {tuple(tokens[:length]) for _, tokens in pairs for length in range(len(tokens) + 1)}
    assert lexicon.trie.word_starts.size == len(beginnings) + 1, "one node for each beginning"
    drawn = tuple(data.draw(spellings))
    assert (walk(lexicon.trie, np.array(drawn)) >= 0) == (drawn in beginnings)


def test_a_trie_knows_no_strange_tokens() -> None:
    lexicon = Lexicon({"a": [1], "ab": [1, 2]})
    assert walk(lexicon.trie, np.array([1, 2])) == 2
    for strange in ([0], [2], [1, 1], [1, 2, 2], [2**31 - 1], [1, 2**31 - 1]):
        assert walk(lexicon.trie, np.array(strange)) == -1


def test_words_keep_their_order_and_count_once() -> None:
    lexicon = Lexicon([("sow", [3, 2, 4]), ("so", [3, 2]), ("sew", [3, 2]), ("sow", [3, 1]), ("so", [3, 2])])
    assert lexicon.words == ("sow", "so", "sew") and len(lexicon) == 3
    assert lexicon.spellings == ((0, (3, 2, 4)), (1, (3, 2)), (2, (3, 2)), (0, (3, 1)))
    assert lexicon.tokens == (1, 2, 3, 4)
    assert lexicon.trie.words.tolist() == [1, 2, 0, 0], "homophones in the order of their numbers"


@pytest.mark.parametrize("labels", [["<blank>", "|", "a", "é"], {"|": 1, "a": 2, "é": 3}])
def test_characters(labels: list[str] | dict[str, int]) -> None:
    lexicon = Lexicon.from_characters(["aé", "a", "a"], labels, boundary="|")
    assert lexicon.spellings == ((0, (2, 3)), (1, (2,))) and lexicon.boundary == 1
    assert lexicon.tokens == (1, 2, 3)


def test_every_word_that_cannot_be_spelled_is_told() -> None:
    with pytest.raises(ValueError, match=r"got 2 of 3 that cannot be: 'ax' \(without 'x'\), 'yx' \(without 'y', 'x'\)"):
        Lexicon.from_characters(["ax", "a", "yx"], [" ", "a"])
    with pytest.raises(ValueError, match=r"got 12 of 12 that cannot be: .*'9' \(without '9'\), \.\.\.$"):
        Lexicon.from_characters([str(i) for i in range(12)], [" "])
    with pytest.raises(ValueError, match=r"got 1 of 2 that cannot be: 'b' \(KeyError: 'b'\)"):
        Lexicon.from_words(["a", "b"], lambda word: [{"a": 1}[word]])


@pytest.mark.parametrize(
    ("spellings", "boundary", "error", "message"),
    [
        ({}, None, ValueError, "spellings must have at least one word, got none"),
        ({"a": []}, None, ValueError, "spellings must have at least one token, got none for 'a'"),
        ({"a": [1, -1]}, None, ValueError, r"from 0 to 2147483647, got \[1, -1\] for 'a'"),
        ({"a": [2**31]}, None, ValueError, r"from 0 to 2147483647, got \[2147483648\] for 'a'"),
        ({"a": [1, 0]}, 0, ValueError, r"must not have the boundary, 0, in them, got \[1, 0\] for 'a'"),
        ({"a": "xy"}, None, TypeError, "must be sequences of integers, got 'xy' for 'a'"),
        ({"a": [0.5]}, None, TypeError, r"must be sequences of integers, got \[0.5\] for 'a'"),
        ({"a": [1]}, -1, ValueError, "boundary must be from 0 to 2147483647, got -1"),
        ({"a": [1]}, 2.0, TypeError, "boundary must be an integer or None, got 2.0"),
        ({3: [1]}, None, TypeError, "words must be strings, got 3"),
    ],
)
def test_refused_spellings(spellings, boundary, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        Lexicon(spellings, boundary=boundary)


def test_a_boundary_is_a_label() -> None:
    with pytest.raises(ValueError, match=r"boundary must be one of the labels or None, got ' '"):
        Lexicon.from_characters(["a"], ["", "a"])
    assert Lexicon.from_characters(["a"], ["", "a"], boundary=None).boundary is None

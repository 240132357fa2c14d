"""The grammar, error rates, and the examples of the docstrings."""

from __future__ import annotations

import doctest
import importlib
import random

import pytest

from common.rates import error_rates, line
from config import Config
from grammar import KINDS, number, ordinal, sentence, spelled

ALPHABET = Config().data.alphabet


MODULES = ["common.rates", "common.recurrent", "common.tokens", "config", "grammar", "synthesise"]


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_the_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_grammar_is_written_in_the_alphabet_and_varied() -> None:
    draw = random.Random(0)
    texts = [sentence(draw)[0] for _ in range(2000)]
    assert not {c for text in texts for c in text} - set(ALPHABET)
    assert len(set(texts)) > 1000
    assert set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'") <= {c for text in texts for c in text}


def test_every_kind_of_sentence_has_far_more_texts_than_a_test_set_takes() -> None:
    # Texts of the test set are barred from training: a kind with few of them would hardly be trained at all.
    draw = random.Random(2)
    for kind in KINDS:
        assert len({kind(draw) for _ in range(3000)}) > 500
    assert len({spelled(draw) for _ in range(3000)}) > 500


def test_spoken_form_of_a_spelled_name_says_its_letters() -> None:
    draw = random.Random(1)
    pairs = [sentence(draw) for _ in range(500)]
    text, spoken = next((t, s) for t, s in pairs if t.endswith("S H A W"))
    assert spoken.endswith("Shaw, S, H, A, W")
    assert text.endswith("SHAW S H A W")


def test_numbers_and_ordinals() -> None:
    assert number(9999) == "NINE THOUSAND NINE HUNDRED AND NINETY NINE"
    assert number(100) == "ONE HUNDRED"
    assert number(1001) == "ONE THOUSAND AND ONE"
    assert [ordinal(n) for n in (1, 12, 20, 21, 30, 31)] == [
        "FIRST", "TWELFTH", "TWENTIETH", "TWENTY FIRST", "THIRTIETH", "THIRTY FIRST"
    ]  # fmt: skip


def test_error_rates_of_a_case_counted_by_hand() -> None:
    rates = error_rates(["THE CAT SAT", "A B"], ["THE BAT SAT DOWN", "B"])
    # One substitution, one insertion, one deletion over five words.
    assert line("WER", rates["WER"]) == "%WER 60.00 [ 3 / 5, 1 ins, 1 del, 1 sub ]"
    # C for B, five inserted (" DOWN"), two deleted ("A "), over 14 characters.
    assert line("CER", rates["CER"]) == "%CER 57.14 [ 8 / 14, 5 ins, 2 del, 1 sub ]"

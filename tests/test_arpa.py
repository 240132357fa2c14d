"""ARPA files: what they say is what comes out, whoever wrote them; what is wrong with one is told with its line."""

import gzip
import itertools
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arpa_files import SMALL, Ngram, arpa_of, drawn_ngrams, written
from numbactc import _arpa
from numbactc.kernels.automata import Automaton
from numbactc.kernels.cpu import arpa
from numbactc.kernels.cpu.hashing import insert
from numbactc.kernels.jit import entry
from numbactc.language_model import NgramLM

KENLM = [
    ("", -1.401, 0.0, -1.1, 0.0),
    ("the", -1.66, -0.2, -1.95, -0.6),
    ("the cat sat", -1.05, -0.4, -1.95, -1.3),
    ("the cat sat the cat", -3.845, -2.55, -4.745, -3.45),
    ("sat sat", -3.001, -2.651, -2.7, -2.35),
    ("the dog sat", -2.11, -1.76, -2.4, -2.05),
    ("dog dog", -4.401, -3.301, -4.1, -3.0),
    ("cat the the cat sat dog", -6.726, -5.626, -6.425, -5.325),
    ("<unk> sat the dog", -5.471, -4.351, -5.17, -4.05),
]
"""What kenlm 0.3.0 says of SMALL: log10 with both marks, without </s>, without <s>, without either."""

MARKS = [(True, True), (True, False), (False, True), (False, False)]



@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("sentence", "scores"), [(sentence, scores) for sentence, *scores in KENLM])
def test_scores_are_those_of_kenlm(tmp_path: Path, sentence: str, scores: list[float]) -> None:
    lm = NgramLM.read(written(tmp_path, SMALL))
    for (bos, eos), score in zip(MARKS, scores, strict=True):
        assert lm.score(sentence, bos, eos) / math.log(10) == pytest.approx(score, abs=1e-5)


def back_off(ngrams: dict[Ngram, tuple[float, float]], history: Ngram, word: str) -> float:
    """The rule of NgramLM's docstring, base 10."""
    if (*history, word) in ngrams:
        return ngrams[(*history, word)][0]
    return ngrams.get(history, (0.0, 0.0))[1] + back_off(ngrams, history[1:], word)


@pytest.mark.parametrize("gaps", ["none", "suffixes", "any"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_scores_follow_the_back_off_rule(tmp_path: Path, order: int, gaps: str) -> None:
    """Also where an n-gram's history, or its suffix, is missing; every sentence of up to four words."""
    for _ in range(5):
        ngrams = drawn_ngrams(order, gaps)
        lm = NgramLM.read(written(tmp_path, arpa_of(ngrams)), cache=False)
        for length, bos in itertools.product(range(5), (True, False)):
            for sentence in itertools.product(["a", "ü", "strange"], repeat=length):
                history: Ngram = ("<s>",) if bos else ()
                expected = 0.0
                for word in [*sentence, "</s>"]:
                    word = "<unk>" if word == "strange" else word
                    expected += back_off(ngrams, history[max(0, len(history) - order + 1) :], word)
                    history = (*history, word)
                assert lm.score(sentence, bos=bos) / math.log(10) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_kenlm_itself_agrees(tmp_path: Path, order: int) -> None:
    kenlm = pytest.importorskip("kenlm")
    ngrams = drawn_ngrams(order, "none")
    path = written(tmp_path, arpa_of(ngrams))
    lm, peer = NgramLM.read(path), kenlm.Model(str(path))
    for _ in range(300):
        sentence = random.choices(["a", "b", "ü", "strange"], k=random.randrange(12))
        for bos, eos in MARKS:
            score = peer.score(" ".join(sentence), bos=bos, eos=eos)
            assert lm.score(sentence, bos, eos) / math.log(10) == pytest.approx(score, abs=1e-4)


def upper(text: str) -> str:
    return text.replace("<unk>", "<UNK>").replace("<s>", "<S>").replace("</s>", "</S>")


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text.encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: gzip.compress(text[:300].encode()) + gzip.compress(text[300:].encode()) + b"\0\0",
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\t", " ").encode(),
        lambda text: text.replace("\t", " \t ").replace("\n", " \n").encode(),
        lambda text: upper(text).encode(),
        lambda text: text.replace("\n", "\n\n").encode(),
        lambda text: text.replace("\n\n", "\n").encode(),
        lambda text: text[:-1].encode(),
        lambda text: f"made by a tool\n\n{text}and more of its talk".encode(),
        lambda text: text.replace("-0.4\t", "-4e-1\t").replace("-0.25\t", "-.25E+0\t").encode(),
        lambda text: text.replace("sat the\n", "sat the\t-0\n").encode(),
        lambda text: text.replace("ngram 2=7", "ngram  2 = 7").encode(),
    ],
)  # fmt: skip
def test_forms_of_a_file(tmp_path: Path, form) -> None:  # type: ignore[no-untyped-def]
    lm = NgramLM.read(written(tmp_path, form(SMALL), "any name"))
    for sentence, score, *_ in KENLM:
        sentence = "strange sat the dog" if sentence.startswith("<unk>") else sentence
        assert lm.score(sentence) / math.log(10) == pytest.approx(score, abs=1e-5)


def test_a_missing_unknown_has_what_kenlm_gives_it(tmp_path: Path) -> None:
    text = SMALL.replace("-1.5\t<unk>\n", "").replace("1=6", "1=5")
    text = "".join(line for line in text.splitlines(True) if "<unk>" not in line)
    text = text.replace("2=7", "2=5").replace("3=4", "3=3")
    lm = NgramLM.read(written(tmp_path, text))
    assert lm.vocabulary[lm.unknown] == "<unk>"
    assert lm.score("dog", False, False) / math.log(10) == pytest.approx(-100)
    assert lm.score("the cat sat") / math.log(10) == pytest.approx(-1.05)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-0.4\tthe cat", "-0.x\tthe cat", "line 17: a log-probability or back-off must be a number"),
        ("-0.4\tthe cat", "nan\tthe cat", "line 17: a log-probability or back-off must be a number"),
        ("-0.4\tthe cat", "-\tthe cat", "line 17: a log-probability or back-off must be a number"),
        ("the cat\t-0.07", "the cat\t-0.0.7", "line 17: a log-probability or back-off must be a number"),
        ("the cat\t-0.07", "the cat\tinf", "line 17: a log-probability or back-off must be a number"),
        ("-0.4\tthe cat", "0.4\tthe cat", "line 17: a log-probability must be at most 0, got '0.4\\tthe cat\\t-0.07'"),
        ("-0.35\tsat </s>", "-0.35\tsat", "line 19: an n-gram must have as many words as its order"),
        ("the cat\t-0.07", "the cat sat\t-0.07", "line 17: an n-gram must have as many words as its order, and one"),
        ("the cat\t-0.07", "the dog\t-0.07", "line 17: every word must be among the unigrams, got '-0.4\\tthe dog"),
        ("sat the", "cat sat", "line 22: an n-gram must be there once, got '-1.05\\tcat sat'"),
        ("\n-1.2\tsat", "\n-1.2\tcat", "line 13: a word must be there once, got '-1.2\\tcat\\t0.05'"),
        ("ngram 2=7", "ngram 2=8", "line 24: 8 n-grams of order 2 must come before this and 7 do"),
        ("ngram 2=7", "ngram 2=6", "line 22: there must be as many n-grams as the header says"),
        ("ngram 2=7", "ngram 2=99999", "line 3: the n-grams must fit into the file's 413 bytes"),
        ("ngram 2=7", "ngram 2=x", 'line 3: "ngram 2=" and a number must be here'),
        ("ngram 2=7\n", "", 'line 3: "ngram 2=" and a number must be here'),
        ("\\2-grams:", "\\3-grams:", "line 15: \\2-grams: must be here, got '\\\\3-grams:'"),
        ("\\2-grams:", "2-grams:", "line 15: there must be as many n-grams as the header says, got '2-grams:'"),
        ("\\4-grams:", "\\end\\", "line 30: \\4-grams: must be here"),
        ("\\end\\", "\\5-grams:", "line 33: the file must end in \\end\\ and is cut off"),
        ("\\data\\", "data", "lm.arpa: an ARPA file must have a line \\data\\, got "),
        ("\\end\\\n", "-0.1\t<s> cat\\end\\ sat\n", "line 33: there must be as many n-grams as the header says"),
        ("the cat sat\n\n\\end\\", "the cat sat\\end\\", "line 31: every word must be among the unigrams"),
        ("cat", "c\udcffat", "line 12: words must be in UTF-8"),
        ("</s>", "<//s>", r"lm.arpa: the unigrams must have </s>, got none of </s>, </S>"),
        ("<s>", "<ss>", r"lm.arpa: the unigrams must have <s>, got none of <s>, <S>"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    content = SMALL.replace(old, new).encode(errors="surrogateescape")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        NgramLM.read(written(tmp_path, content))
    assert str(caught.value).startswith(f"{tmp_path}/lm.arpa")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be an ARPA file, got KenLM's binary form"):
        NgramLM.read(written(tmp_path, b"mmap lm http://kheafield.com/code format version 5\n\0"))
    with pytest.raises(ValueError, match=r"must have a line \\data\\, got 0 bytes"):
        NgramLM.read(written(tmp_path, b""))
    with pytest.raises(FileNotFoundError):
        NgramLM.read(tmp_path / "nothing.arpa")


def test_a_file_cut_off_anywhere_is_told_with_the_line(tmp_path: Path) -> None:
    for length in range(len("\\data\\\n"), SMALL.index("\\end\\") + 4):
        line = 1 + SMALL[:length].rstrip("\n").count("\n")
        with pytest.raises(ValueError, match=rf"lm.arpa, line {line}: the file must end in \\end\\ and is cut off"):
            NgramLM.read(written(tmp_path, SMALL[:length]), cache=False)


def test_an_end_that_is_none() -> None:
    """What stands before the data, or within a word, does not end them."""
    data = b"\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\n-1\t</s>\n-1\ta"
    with pytest.raises(ValueError, match=r"lm.arpa, line 8: the file must end in \\end\\ and is cut off"):
        _arpa.parse(b"\\end\\\n" + data + b"\n", "lm.arpa")
    with pytest.raises(ValueError, match=r"lm.arpa, line 8: \\end\\ must be here, got ''"):
        _arpa.parse(data + b"\\end\\\n", "lm.arpa")


def test_a_packed_file_cut_off_anywhere_is_told_with_the_line(tmp_path: Path) -> None:
    packed = gzip.compress(SMALL.encode())
    for length in range(2, len(packed)):
        with pytest.raises(ValueError, match=r"line \d+: the gzip file cannot be read any further: it is cut off"):
            NgramLM.read(written(tmp_path, packed[:length]), cache=False)
    damaged = packed[:60] + bytes([packed[60] ^ 255]) + packed[61:]
    with pytest.raises(ValueError, match=r"line \d+: the gzip file cannot be read any further"):
        NgramLM.read(written(tmp_path, damaged))


PIECES = [b"", b"\n", b"\t", b" ", b"-", b"9", b"\\", b"the", b"\xff", b"="]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_a_value_error_or_a_model(data: st.DataObject) -> None:
    content = bytearray(SMALL.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        until = at + data.draw(st.integers(0, 3))
        content[at:until] = data.draw(st.sampled_from(PIECES))
    try:
        model = _arpa.parse(bytes(content), "lm.arpa")
    except ValueError as error:
        assert str(error).startswith("lm.arpa")
    else:
        states, arcs = model.automaton.backoffs.size, model.automaton.log_probs.size
        assert model.automaton.next_states.min() >= 0 and model.automaton.next_states.max() < states
        assert (model.automaton.backoff_states <= np.arange(states)).all()
        assert model.automaton.arcs.max() < arcs == sum(model.counts)


@entry
def look_up_where_another_is(text, vocabulary, begin, end):  # type: ignore[no-untyped-def]
    """A word, where its hash has been entered for word 0; and that hash."""
    key = arpa.hash_of(text, begin, end)
    vocabulary.numbers[insert(vocabulary.keys, key)] = 0
    return arpa.look_up(text, vocabulary, begin, end), key


def test_words_of_one_hash_are_two_words() -> None:
    text = np.frombuffer(b"cat dog", np.uint8)
    keys = np.full(8, -1, np.int64)
    vocabulary = arpa.Vocabulary(keys, np.full(8, 9, np.int32), np.array([4]), np.array([7]))  # word 0 is dog
    (key, slot, word), taken = look_up_where_another_is(text, vocabulary, 0, 3)
    assert (key, word) == (taken + 1, -1) and keys[slot] == -1


@entry
def number_of(text):  # type: ignore[no-untyped-def]
    return arpa.number(text, 0, text.size)


def parsed(text: str) -> tuple[float, bool]:
    return number_of(np.frombuffer(text.encode() or b"?", np.uint8)[: len(text)])  # type: ignore[no-any-return]


@settings(deadline=None, max_examples=500)
@given(st.floats(-1e300, 1e300), st.sampled_from(["r", ".7g", ".3f", ".15g", ".20e"]))
def test_numbers_are_those_of_python(value: float, form: str) -> None:
    text = repr(value) if form == "r" else format(value, form)
    found, fine = parsed(text)
    assert fine
    exact = form in (".7g", ".3f") and abs(value) < 1e6 and (abs(value) > 1e-6 or form == ".3f")
    assert found == (float(text) if exact else pytest.approx(float(text), rel=1e-14, abs=1e-280))


NO_NUMBERS = "- + . -. e5 1e 1e+ 1.2.3 --1 0x1 inf +inf nan -nan -in 1,5 1e5. -infinity"


@pytest.mark.parametrize("text", ["", "1 2", *NO_NUMBERS.split()])
def test_what_is_no_number(text: str) -> None:
    assert not parsed(text)[1]


NUMBERS = f"-inf -INF 0 -0 +1 1. .5 -99 00012 1e5 1E-05 0e999999 {'1' * 40} 0.{'0' * 30}1 1e-400 {'1' * 23}e-20"


@pytest.mark.parametrize("text", NUMBERS.split())
def test_what_is_a_number(text: str) -> None:
    value, fine = parsed(text)
    assert fine and value == pytest.approx(float(text), rel=1e-14)


@pytest.mark.parametrize("name", ["out.arpa", "out.arpa.gz"])
@pytest.mark.parametrize("gaps", ["none", "any"])
def test_what_is_written_is_read_again(tmp_path: Path, gaps: str, name: str) -> None:
    for order in range(1, 5):
        lm = NgramLM.read(written(tmp_path, arpa_of(drawn_ngrams(order, gaps))))
        lm.write(tmp_path / name)
        again = NgramLM.read(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b" if name.endswith("gz") else b"\\data\\\n")
        assert again.vocabulary == lm.vocabulary
        for field, its, other in zip(Automaton._fields, again.automaton, lm.automaton, strict=True):
            np.testing.assert_allclose(its, other, rtol=1e-8, err_msg=field)


def test_a_written_file_is_the_one_that_was_read(tmp_path: Path) -> None:
    NgramLM.read(written(tmp_path, SMALL)).write(tmp_path / "out.arpa")
    assert (tmp_path / "out.arpa").read_text() == SMALL.replace("<unk> sat\t0\n", "<unk> sat\n")

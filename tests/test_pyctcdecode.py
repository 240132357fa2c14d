"""numbactc.pyctcdecode: pyctcdecode's interface and, measured by exact scores, results at least as good.

`pyctcdecode-0.5.0.json` is what pyctcdecode answered; `pyctcdecode_cases.py` says how it was made.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pyctcdecode_cases as recorded
from numbactc import _dispatch_scoring
from numbactc.kernels.automata import Automaton
from numbactc.pyctcdecode import Alphabet, BeamSearchDecoderCTC, LanguageModel, build_ctcdecoder
from processes import run_python

PUBLISHED = json.loads(Path(__file__).with_name("pyctcdecode-0.5.0.json").read_text(encoding="utf-8"))
CHARACTERS = [case for case in PUBLISHED["cases"] if case["units"] == "characters"]
ALPHA, BETA, UNKNOWN = 0.5, 1.5, -10.0


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.arpa"
    path.write_text(recorded.ARPA)
    return path


def decoder_of(case: dict[str, Any], arpa: Path) -> BeamSearchDecoderCTC:
    return build_ctcdecoder(recorded.labels_of(case), str(arpa) if case["model"] else None)


def logits_of(case: dict[str, Any]) -> np.ndarray:
    return recorded.logits(case["sentence"], recorded.labels_of(case), case["height"], case["seed"])


def identity(case: dict[str, Any]) -> str:
    with_model = "model" if case["model"] else "none"
    return f"{case['sentence']}-{case['height']}-{case['units']}-{with_model}-{len(case['options'])}"


def ngrams() -> dict[tuple[str, ...], tuple[float, float]]:
    """log10 of probability and back-off of every n-gram in the file."""
    lines = [line.split("\t") for line in recorded.ARPA.splitlines() if "\t" in line]
    return {tuple(words.split()): (float(score), float(*rest or ["0"])) for score, words, *rest in lines}


def log10_of(history: tuple[str, ...], word: str) -> float:
    """The definition of a back-off model, by recursion."""
    known = ngrams()
    if (*history, word) in known:
        return known[(*history, word)][0]
    if not history:
        return known[("<unk>",)][0]
    return known.get(history, (0.0, 0.0))[1] + log10_of(history[1:], word)


def ctc(case: dict[str, Any], text: str) -> float:
    """Log-probability of a text by PyTorch in float64."""
    labels = recorded.labels_of(case)
    scores = torch.from_numpy(logits_of(case)).double().log_softmax(dim=1).clamp(math.log(1e-15), 0)
    tokens = torch.tensor([[labels.index(character) for character in text]], dtype=torch.int64)
    frames, length = torch.tensor([len(scores)]), torch.tensor([tokens.shape[1]])
    return -float(torch.nn.functional.ctc_loss(scores.unsqueeze(1), tokens, frames, length, reduction="sum"))


def gained(case: dict[str, Any], text: str) -> float:
    """What language model, words and hotwords add to a text, by pyctcdecode's formula."""
    words = text.split()
    hot = {word for phrase in case["options"].get("hotwords", []) for word in phrase.split()}
    total = float(case["options"].get("hotword_weight", 10.0)) * sum(word in hot for word in words)
    history: tuple[str, ...] = ("<s>",)
    for word in [*words, "</s>"] if case["model"] else []:
        known = (word,) in ngrams()
        score = log10_of(history, word if known else "<unk>") + (0 if known else UNKNOWN * max(1.0, len(word) / 6))
        total += ALPHA * math.log(10) * score + BETA * (word != "</s>")
        history = (*history, word)[-2:]
    return total


@pytest.mark.parametrize("case", CHARACTERS, ids=identity)
def test_scores_are_pyctcdecodes_formula_with_all_alignments(case: dict[str, Any], arpa: Path) -> None:
    beams = decoder_of(case, arpa).decode_beams(logits_of(case), **case["options"])
    assert len({beam.text for beam in beams}) == len(beams)
    for beam in beams[:5]:
        # second spaces are the same text: their mass is added
        assert beam.logit_score > ctc(case, beam.text) - 1e-4
        assert beam.lm_score - beam.logit_score == pytest.approx(gained(case, beam.text), abs=1e-5)


@pytest.mark.parametrize("case", [c for c in CHARACTERS if c["height"] > 8 and not c["options"]], ids=identity)
def test_clear_speech_has_pyctcdecodes_words_where_they_are(case: dict[str, Any], arpa: Path) -> None:
    best = decoder_of(case, arpa).decode_beams(logits_of(case))[0]
    if best.text != case["text"]:
        assert ctc(case, best.text) + gained(case, best.text) > ctc(case, case["text"]) + gained(case, case["text"])
        return
    for (word, start, end), (other, (begin, stop)) in zip(case["beams"][0]["frames"], best.text_frames, strict=True):
        assert word == other
        assert abs(begin - start) <= 1 and abs(stop - end) <= 3


def test_results_are_at_least_as_good_as_pyctcdecodes(arpa: Path) -> None:
    gains = {}
    for case in CHARACTERS:
        mine, theirs = decoder_of(case, arpa).decode(logits_of(case), **case["options"]), case["text"]
        gains[identity(case)] = ctc(case, mine) + gained(case, mine) - ctc(case, theirs) - gained(case, theirs)
    # noise, a hotword that fits anywhere, and 16 beams: each of the two loses one such case
    assert [name for name, gain in gains.items() if gain < -1e-6] == ["the hot dog-5.0-characters-none-2"]
    assert sum(gain > 1e-6 for gain in gains.values()) >= 12
    assert sum(gains.values()) > 15


@pytest.mark.parametrize("case", [c for c in PUBLISHED["cases"] if c["units"] == "pieces"], ids=identity)
def test_pieces_make_words(case: dict[str, Any], arpa: Path) -> None:
    decoder = decoder_of(case, arpa)
    beams = decoder.decode_beams(logits_of(case), **case["options"])
    assert decoder.decode(logits_of(case), **case["options"]) == beams[0].text
    assert [word for word, _ in beams[0].text_frames] == beams[0].text.split()
    if case["sentence"] != "dogs do not sing":  # which pieces spell in many ways, of which pyctcdecode adds up a few
        assert beams[0].text == case["text"]


@pytest.mark.parametrize("number", range(len(recorded.ALPHABETS)))
def test_labels_become_pyctcdecodes(number: int) -> None:
    alphabet = Alphabet.build_alphabet(recorded.ALPHABETS[number])
    assert [alphabet.labels, alphabet.is_bpe] == PUBLISHED["alphabets"][number]
    again = Alphabet.loads(alphabet.dumps())
    assert (again.labels, again.is_bpe, again.boundary) == (alphabet.labels, alphabet.is_bpe, alphabet.boundary)


LABELS = ["", " ", "a", "b"]


def certain(text: str, labels: list[str] = LABELS) -> np.ndarray:
    """Probabilities of 0 and 1; `-` is the blank."""
    rows = [labels.index("" if character == "-" else character) for character in text]
    return np.eye(len(labels))[rows]


def test_words_lie_where_they_are_said() -> None:
    beam = build_ctcdecoder(LABELS).decode_beams(certain("-aa-aa  -bbaa-- "))[0]
    assert beam.text == "aa ba"
    assert beam.text_frames == [("aa", (1, 6)), ("ba", (9, 13))]
    assert beam.last_lm_state is None
    assert beam.logit_score == pytest.approx(0.0, abs=1e-9)


def test_a_word_ends_before_the_next_begins() -> None:
    """In a beam that hears a word where the best class of the frame is still that of the word before."""
    probabilities = np.array([[0.05, 0.0, 0.05, 0.9], [0.05, 0.0, 0.45, 0.5]])
    beams = build_ctcdecoder(["<pad>", "▁", "▁a", "▁b"]).decode_beams(probabilities)
    frames = {beam.text: beam.text_frames for beam in beams}
    assert frames["b"] == [("b", (0, 2))]
    assert frames["b a"] == [("b", (0, 1)), ("a", (1, 2))]


def test_pieces_begin_words_at_their_mark() -> None:
    labels = ["<pad>", "<unk>", "▁", "▁a", "b", "▁b"]
    rows = [3, 4, 0, 4, 5, 2, 2, 4, 1, 4]
    beam = build_ctcdecoder(labels).decode_beams(np.eye(6)[rows])[0]
    assert beam.text == "abb b b ⁇ b"
    assert beam.text_frames == [("abb", (0, 4)), ("b", (4, 5)), ("b", (5, 8)), ("⁇", (8, 9)), ("b", (9, 10))]


def test_probabilities_log_probabilities_and_logits_are_the_same_input() -> None:
    decoder, logits = build_ctcdecoder(LABELS), np.random.default_rng(0).normal(size=(20, 4))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    answers = [decoder.decode_beams(each) for each in (logits, logits + 7, log_probs, np.exp(log_probs))]
    for beams in answers[1:]:
        assert [beam.text for beam in beams[:5]] == [beam.text for beam in answers[0][:5]]
        assert beams[0].logit_score == pytest.approx(answers[0][0].logit_score, abs=1e-9)
    single = decoder.decode_beams(np.exp(log_probs).astype(np.float32))  # its rows' sums are off by 1e-7
    assert single[0].logit_score == pytest.approx(answers[0][0].logit_score, abs=1e-4)


def test_a_batch_is_its_utterances(arpa: Path) -> None:
    decoder = build_ctcdecoder(recorded.CHARACTERS, str(arpa))
    cases = [case for case in CHARACTERS if case["model"] and case["height"] < 8][:6]
    batch = [logits_of(case) for case in cases]
    assert len({len(logits) for logits in batch}) > 1
    options: dict[str, Any] = {"hotwords": ["night"], "beam_width": 30}
    beams = decoder.decode_beams_batch(None, batch, **options)
    for logits, found in zip(batch, beams, strict=True):
        alone = decoder.decode_beams(logits, **options)
        assert found == [(beam.text, beam.text_frames, beam.logit_score, beam.lm_score) for beam in alone]
    assert decoder.decode_batch("any pool", batch, **options) == [found[0].text for found in beams]
    assert decoder.decode_batch(None, []) == []
    assert decoder.decode_beams_batch(None, []) == []


def test_weights_can_be_changed(arpa: Path) -> None:
    case = next(case for case in CHARACTERS if case["model"] and case["height"] < 8)
    logits = logits_of(case)
    decoder, free = build_ctcdecoder(recorded.CHARACTERS, str(arpa)), build_ctcdecoder(recorded.CHARACTERS)
    assert decoder.decode(logits) != free.decode(logits)
    decoder.reset_params(alpha=0.0, beta=0.0, unk_score_offset=0.0)
    assert decoder.decode(logits) == free.decode(logits)
    setattr(decoder.model_container[decoder._model_key], "alpha", 0.5)  # noqa: B010  # as Hugging Face does
    decoder.reset_params(beta=1.5, unk_score_offset=-10.0)
    assert decoder.decode(logits) == build_ctcdecoder(recorded.CHARACTERS, str(arpa)).decode(logits)
    free.reset_params(alpha=2.0)
    assert free.decode(logits) == build_ctcdecoder(recorded.CHARACTERS).decode(logits)


def test_text_goes_on_from_a_state(arpa: Path) -> None:
    decoder = build_ctcdecoder(recorded.CHARACTERS, str(arpa), lm_score_boundary=False)
    first, second = (certain(text, recorded.CHARACTERS) for text in ("the hot ", "dog"))
    before = decoder.decode_beams(first)[0]
    after = decoder.decode_beams(second, lm_start_state=before.last_lm_state)[0]
    whole = decoder.decode_beams(np.concatenate([first, second]))[0]
    assert after.lm_score == pytest.approx(ALPHA * math.log(10) * -0.1 + BETA, abs=1e-6)  # of "dog" after "the hot"
    assert before.lm_score + after.lm_score == pytest.approx(whole.lm_score, abs=1e-6)
    assert after.last_lm_state == whole.last_lm_state
    assert decoder.decode_beams(second)[0].lm_score < after.lm_score - 0.5


def test_a_model_is_looked_through_once(arpa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each piece of a text that goes on: a large one takes a while."""
    sizes = []
    through = _dispatch_scoring.highest

    def counted(automaton: Automaton, size: int) -> np.ndarray:
        sizes.append(size)
        return through(automaton, size)

    monkeypatch.setattr(_dispatch_scoring, "highest", counted)
    decoder = build_ctcdecoder(recorded.CHARACTERS, str(arpa))
    state: int | None = 0
    for text in ("the ", "hot ", "dog"):
        state = decoder.decode_beams(certain(text, recorded.CHARACTERS), lm_start_state=state)[0].last_lm_state
    assert len(sizes) == 1


def test_a_saved_decoder_is_loaded(arpa: Path, tmp_path: Path) -> None:
    decoder = build_ctcdecoder(recorded.CHARACTERS, str(arpa), ["dog", "hot", "unheard"], 0.7, 1.0, -5.0, False)
    decoder.save_to_dir(tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    kept = [f"language_model/{name}" for name in ("attrs.json", "tiny.arpa", "unigrams.txt")]
    assert names == ["alphabet.json", *kept]
    loaded = BeamSearchDecoderCTC.load_from_dir(tmp_path)
    assert loaded._language_model is not None
    assert loaded._language_model.unigrams == ("dog", "hot")
    logits = logits_of(CHARACTERS[1])
    assert loaded.decode_beams(logits) == decoder.decode_beams(logits)
    (tmp_path / "language_model" / "attrs.json").unlink()
    with pytest.raises(ValueError, match=r"must have attrs\.json, unigrams\.txt and one ARPA file, got \["):
        BeamSearchDecoderCTC.load_from_dir(tmp_path)
    with pytest.raises(ValueError, match=r"must have alphabet\.json, got \['attrs|must have alphabet\.json, got"):
        BeamSearchDecoderCTC.load_from_dir(tmp_path / "language_model")


def test_errors_say_what_was_wrong(tmp_path: Path, arpa: Path) -> None:
    decoder = build_ctcdecoder(LABELS)
    with pytest.raises(ValueError, match=r"logits must have shape \(T, 4\), one column a label, got \(3, 5\)"):
        decoder.decode(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"logits must have shape \(T, 4\).*got \(1, 3, 4\)"):
        decoder.decode_batch(None, [np.zeros((1, 3, 4))])
    with pytest.raises(TypeError, match="hotwords must be a collection of strings, got the string 'ab'"):
        decoder.decode(np.zeros((3, 4)), hotwords="ab")
    with pytest.raises(ValueError, match="labels must be different from each other, got 'a' 2 times"):
        build_ctcdecoder(["", "a", "a"])
    with pytest.raises(ValueError, match="labels must have one blank, got 2"):
        build_ctcdecoder(["", "<pad>", "a"])
    with pytest.raises(ValueError, match=r"kenlm_model_path must be an ARPA file, got lm\.bin: KenLM's binary"):
        build_ctcdecoder(LABELS, "lm.bin")
    with pytest.raises(ValueError, match="labels must spell one of the unigrams at least"):
        build_ctcdecoder(["", " ", "z"], str(arpa))
    with pytest.raises(ValueError, match=r"labels must have ' ' or '\|' between words for a language model of words"):
        build_ctcdecoder(["", "a", "d", "n"], str(arpa))
    with pytest.raises(ValueError, match=r"parameters must be of alpha, beta.*got gamma"):
        LanguageModel(arpa).reset_params(gamma=1.0)


def test_hotwords_that_cannot_be_written_are_left_out() -> None:
    decoder = build_ctcdecoder(LABELS)
    scores = np.log(np.full((4, 4), 0.25))
    assert decoder.decode(scores, hotwords=["xyz"]) == decoder.decode(scores)
    assert decoder.decode(scores, hotwords=["ba xyz"]) == "ba"
    assert decoder.decode(scores, hotwords=[]) == decoder.decode(scores)


def test_no_frames_are_no_text() -> None:
    assert build_ctcdecoder(LABELS).decode(np.zeros((0, 4))) == ""


STAND_IN = """
import importlib.util, sys
import numbactc.pyctcdecode
assert "pyctcdecode" not in sys.modules
numbactc.pyctcdecode.stand_in()
numbactc.pyctcdecode.stand_in()
assert importlib.util.find_spec("pyctcdecode") and importlib.util.find_spec("kenlm")
import pyctcdecode
from pyctcdecode import BeamSearchDecoderCTC, build_ctcdecoder
from pyctcdecode.alphabet import BLANK_TOKEN_PTN, UNK_TOKEN, UNK_TOKEN_PTN
from pyctcdecode.constants import DEFAULT_BEAM_WIDTH, DEFAULT_HOTWORD_WEIGHT, DEFAULT_MIN_TOKEN_LOGP, DEFAULT_PRUNE_LOGP
assert pyctcdecode is numbactc.pyctcdecode
print(BeamSearchDecoderCTC.__module__, DEFAULT_BEAM_WIDTH, DEFAULT_MIN_TOKEN_LOGP, DEFAULT_PRUNE_LOGP)
"""


def test_it_stands_in_for_pyctcdecode() -> None:
    assert run_python(STAND_IN).split() == ["numbactc.pyctcdecode.decoder", "100", "-5.0", "-10.0"]


HUGGING_FACE = """
import json, sys, tempfile, warnings
from pathlib import Path
import numpy as np
import numbactc.pyctcdecode
numbactc.pyctcdecode.stand_in()
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ProcessorWithLM
from pyctcdecode import build_ctcdecoder
sys.path.insert(0, "tests")
import pyctcdecode_cases as recorded

folder = Path(tempfile.mkdtemp())
labels = ["<pad>", "|", *recorded.CHARACTERS[2:]]
vocabulary = {label: number for number, label in enumerate([*labels, "<unk>"])}
(folder / "vocab.json").write_text(json.dumps(vocabulary))
(folder / "tiny.arpa").write_text(recorded.ARPA)
tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), bos_token=None, eos_token=None, word_delimiter_token="|")
ordered = [label for label, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
decoder = build_ctcdecoder(ordered, str(folder / "tiny.arpa"))
processor = Wav2Vec2ProcessorWithLM(Wav2Vec2FeatureExtractor(), tokenizer, decoder)

def padded(case):
    found = recorded.logits(case["sentence"], recorded.CHARACTERS, case["height"], case["seed"])
    extra = len(ordered) - found.shape[1]
    return np.pad(found, ((0, 0), (0, extra)), constant_values=-30.0).astype(np.float32)

case = [each for each in recorded.cases() if each["model"] and not each["options"] and each["units"] == "characters"][0]
scores = padded(case)
one = processor.decode(scores, output_word_offsets=True, n_best=2)
both = np.full((2, len(scores) + 5, scores.shape[1]), -100.0, np.float32)  # Hugging Face's padding
both[0, : len(scores)], both[1, : len(scores) - 9] = scores, scores[:-9]
many = processor.batch_decode(both, output_word_offsets=True, num_processes=1)
assert many.text[0] == one.text[0] and many.lm_score[0] == one.lm_score[0], (many, one)
assert many.word_offsets[0] == one.word_offsets[0]
hot = processor.decode(scores, hotwords=["hosts"], hotword_weight=30.0).text
strict = processor.decode(scores, alpha=0.0, beta=0.0, unk_score_offset=0.0).text
processor.decode(scores, alpha=0.5, beta=1.5, unk_score_offset=-10.0)
saved = folder / "saved"
processor.save_pretrained(saved)
loaded = Wav2Vec2ProcessorWithLM.from_pretrained(saved)
again = loaded.decode(scores, n_best=2)
assert again.text == one.text and again.lm_score == one.lm_score
assert loaded.language_model.order == 3
print(json.dumps([one.text[0], many.text[1], hot, strict]))
"""


def test_hugging_faces_processor_decodes(tmp_path: Path) -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    output = run_python(HUGGING_FACE, HF_HUB_OFFLINE="1", XDG_CACHE_HOME=str(tmp_path))
    one, cut, hot, strict = json.loads(output.splitlines()[-1])
    assert one == "the hot dog"
    assert cut == "the hot"
    assert "hosts" in hot.split()
    assert strict != one

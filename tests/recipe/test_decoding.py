"""Evaluation: decoders, language models, tuning on other speakers, what is written and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import evaluate
from common import language, tuning
from common.config import DecodeConfig
from common.decoders import Decoder, Weights, first_weights, greedy, methods_of
from common.evaluation import evaluate_set
from common.rates import read_trn, worst, write_trn
from common.scores import Scored
from common.tokens import Characters, Pieces
from common.tuning import GRIDS, Tuning, across_halves, halves, search
from config import Config
from evaluate import Evaluation
from manifest import Utterance, read_manifests
from numbactc import NgramLM
from tones import TEXTS, write_corpus
from untrained import untrained

Make = Callable[..., Config]
TOKENS = Characters(" ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SETTINGS = DecodeConfig(beam_size=32, word_order=2, token_order=3)
WEIGHTS = first_weights(SETTINGS)


def heard(text: str, doubts: dict[int, str] | None = None) -> Tensor:
    """(T, C) log-probabilities of a text, a blank behind each character; a doubt is heard a little better than it."""
    logits = torch.zeros(2 * len(text), len(TOKENS))
    logits[1::2, 0] = 9.0
    for i, label in enumerate(TOKENS.encode(text)):
        logits[2 * i, label] = 9.0
        if doubts and i in doubts:
            logits[2 * i, TOKENS.encode(doubts[i])[0]] = 9.5
    return logits.log_softmax(-1)


def decoder(method: str, folder: Path, settings: DecodeConfig = SETTINGS) -> Decoder:
    if method in ("words", "tokens"):
        language.train(method, [*TEXTS, *TEXTS], TOKENS, settings, folder)
    return Decoder(method, TOKENS, settings, language.read(method, TOKENS, settings, folder))


@pytest.mark.parametrize(
    ("method", "text"), [("greedy", "TWQ ONE"), ("beam", "TWQ ONE"), ("words", "TWO ONE"), ("tokens", "TWO ONE")]
)
def test_a_language_model_spells_what_is_in_doubt(method: str, text: str, tmp_path: Path) -> None:
    scores = [heard("TWO ONE", {2: "Q"}), heard("FOUR"), torch.zeros(0, len(TOKENS))]
    assert decoder(method, tmp_path).texts(scores, WEIGHTS) == [text, "FOUR", ""]


@pytest.mark.parametrize(("method", "text"), [("greedy", "THREEWO"), ("words", "THREE TWO"), ("tokens", "THREE TWO")])
def test_pieces_of_words_are_decoded_like_characters(method: str, text: str, tmp_path: Path) -> None:
    pieces = Pieces.trained([*TEXTS, *TEXTS], 24, "EFHNORTUW")
    said = [pieces.labels.index(piece) for piece in ("▁T", "HREE", "▁TWO")]
    assert pieces.encode("THREE TWO") == said
    logits = torch.zeros(6, len(pieces))
    logits[1::2, 0] = logits[[0, 2, 4], said] = 9.0
    logits[4, pieces.labels.index("WO")] = 9.5
    if method != "greedy":
        language.train(method, [*TEXTS, *TEXTS], pieces, SETTINGS, tmp_path)
    made = Decoder(method, pieces, SETTINGS, language.read(method, pieces, SETTINGS, tmp_path))
    assert made.texts([logits.log_softmax(-1)], WEIGHTS) == [text]


def test_words_outside_the_model_cost_a_penalty_or_are_forbidden(tmp_path: Path) -> None:
    words = decoder("words", tmp_path)
    scores = [heard("TWO SIX")]
    assert words.texts(scores, replace(WEIGHTS, unknown_penalty=2.0)) == ["TWO SIX"]
    assert words.texts(scores, replace(WEIGHTS, unknown_penalty=-1.0)) != ["TWO SIX"]


def test_further_words_are_written_the_more_frequent_the_sooner(tmp_path: Path) -> None:
    path = tmp_path / "further.txt"
    path.write_text("SIX 8\nONE 3\nSIT 0.01\n")
    words = decoder("words", tmp_path, replace(SETTINGS, vocabulary=str(path)))
    assert words.name == "beam 32 + word 2-gram of the training transcripts, 6 words"
    weights = replace(WEIGHTS, unknown_penalty=-1.0)
    assert words.texts([heard("TWO SIX"), heard("SIT TWO", {2: "X"}), heard("SIX", {2: "T"})], weights) == [
        "TWO SIX", "SIX TWO", "SIX",
    ]  # fmt: skip
    assert decoder("words", tmp_path).texts([heard("TWO SIX")], weights) != ["TWO SIX"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [("A 1\nB\n", "line 2 must be a word and a number, got 'B'"), ("A x\n", "line 1 must be"), ("", "must hold words")],
)
def test_a_list_that_is_none_of_words_and_numbers_is_refused(text: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "further.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"further\.txt.* {rule}"):
        decoder("words", tmp_path, replace(SETTINGS, vocabulary=str(path)))


@pytest.mark.parametrize(
    ("method", "name", "low", "high"),
    [
        ("words", "lm_weight", 0.0, 30.0), ("words", "word_bonus", -30.0, 30.0),
        ("words", "unknown_penalty", 0.0, 30.0),
        ("tokens", "lm_weight", 0.0, 30.0), ("tokens", "token_bonus", -30.0, 30.0),
    ],
)  # fmt: skip
def test_each_weight_reaches_the_search(method: str, name: str, low: float, high: float, tmp_path: Path) -> None:
    made = decoder(method, tmp_path)
    assert name in made.tuned
    scores = [heard("TWO SIX", {6: "N"})]
    assert made.texts(scores, replace(WEIGHTS, **{name: low})) != made.texts(scores, replace(WEIGHTS, **{name: high}))


def test_paths_begin_where_their_tokens_are_heard(tmp_path: Path) -> None:
    for method in ("greedy", "beam"):
        (path,) = decoder(method, tmp_path).paths([heard("ONE")], WEIGHTS)
        assert path.times == [0, 2, 4]
        assert TOKENS.decode(path.tokens) == "ONE"


def test_spaces_are_single_and_inside() -> None:
    logits = torch.stack([heard(" A  B ")], dim=1)
    assert greedy(logits, torch.tensor([len(logits)]), TOKENS) == ["A B"]


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decode\.methods must be some of greedy, .*got 'viterbi'"):
        methods_of(DecodeConfig(methods=["viterbi"]))
    with pytest.raises(ValueError, match=r"decode\.lm must name an ARPA file"):
        methods_of(DecodeConfig(methods=["arpa"]))
    assert methods_of(DecodeConfig(methods=["greedy"], lm="x.arpa")) == ["greedy", "arpa"]


def test_any_arpa_file_of_words_or_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    NgramLM.train([*TEXTS, "café"], 2, smoothing="witten-bell").write(tmp_path / "words.arpa")
    words = decoder("arpa", tmp_path, replace(SETTINGS, lm=str(tmp_path / "words.arpa")))
    assert words.texts([heard("TWO ONE", {2: "Q"})], WEIGHTS) == ["TWO ONE"]
    assert words.name == "beam 32 + word 2-gram of words.arpa, 4 words"
    assert "1 of 5 words are not in the alphabet, such as 'café'" in capsys.readouterr().out

    NgramLM.train(TEXTS, 3, labels=["-", *TOKENS.labels[1:]], smoothing="witten-bell").write(tmp_path / "tokens.arpa")
    tokens = decoder("arpa", tmp_path, replace(SETTINGS, lm=str(tmp_path / "tokens.arpa"), lm_unit="token"))
    assert tokens.texts([heard("TWO ONE", {2: "Q"})], WEIGHTS) == ["TWO ONE"]
    assert tokens.tuned == ["lm_weight", "token_bonus"]


def test_an_arpa_file_without_a_word_that_can_be_written_is_refused(tmp_path: Path) -> None:
    NgramLM.train(["un deux"], 1, smoothing="witten-bell").write(tmp_path / "lower.arpa")
    with pytest.raises(ValueError, match=r"must hold words in the alphabet"):
        decoder("arpa", tmp_path, replace(SETTINGS, lm=str(tmp_path / "lower.arpa")))


def test_search_finds_the_lowest_rate_and_says_what_it_tried() -> None:
    asked = []

    def rate(weights: Weights) -> tuple[float, float]:
        asked.append(weights)
        return 10 * abs(weights.lm_weight - 0.3) + abs(weights.token_bonus - weights.lm_weight - 0.7), 0.0

    best, tried = search(WEIGHTS, ["lm_weight", "token_bonus"], rate)
    assert (best.lm_weight, best.token_bonus) == (0.3, 1.0)
    assert (best.word_bonus, best.unknown_penalty) == (WEIGHTS.word_bonus, WEIGHTS.unknown_penalty)
    assert len(tried) == len(asked) == len(set(asked))
    assert min(tried, key=lambda row: row["WER"])["lm_weight"] == 0.3
    assert all(first in GRIDS["lm_weight"] for first in (row["lm_weight"] for row in tried))


def test_equal_word_errors_are_settled_by_character_errors_then_by_what_came_first() -> None:
    best, _ = search(WEIGHTS, ["lm_weight"], lambda weights: (5.0, abs(weights.lm_weight - 0.8)))
    assert best.lm_weight == 0.8
    best, _ = search(WEIGHTS, ["lm_weight"], lambda _: (5.0, 5.0))
    assert best == WEIGHTS


def utterances(*speakers: str) -> list[Utterance]:
    return [Utterance(f"{speaker}-{k}.flac", 1.0, TEXTS[k % len(TEXTS)], speaker) for k, speaker in enumerate(speakers)]


def test_halves_share_no_speaker_and_leave_none_out() -> None:
    some = utterances(*"aabcddea")
    first, second = halves(some)
    assert sorted(first + second) == list(range(8))
    assert not {some[i].speaker for i in first} & {some[i].speaker for i in second}
    assert first and second


def test_no_speaker_is_decoded_with_weights_tuned_on_him(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = utterances(*"aabbccdd")
    decoded = []

    def texts(_: Decoder, scores: list[Tensor], weights: Weights) -> list[str]:
        decoded.append(weights)
        return [f"{weights.lm_weight}"] * len(scores)

    def rates(references: list[str], _: list[str]) -> dict[str, dict[str, float]]:
        # nothing is wrong with the half of a and c, and with that of b and d what the model's weight lacks of 2
        wanted = decoded[-1].lm_weight if references == [u.text for u in some if u.speaker in "ac"] else 2.0
        return {"WER": {"percent": abs(wanted - decoded[-1].lm_weight)}, "CER": {"percent": 0.0}}

    monkeypatch.setattr(Decoder, "texts", texts)
    monkeypatch.setattr(tuning, "error_rates", rates)
    monkeypatch.setattr(tuning, "search", lambda start, _, rate: (replace(start, lm_weight=9 - rate(start)[0]), []))
    found = across_halves(Tuning(decoder("tokens", tmp_path), Scored(some, [heard(u.text) for u in some]), "dev"))
    tuned_on = {tuple(record["speakers"]): record["weights"]["lm_weight"] for record in found.records}
    assert tuned_on == {("a", "c"): 9.0, ("b", "d"): 7.5}
    assert found.texts == ["7.5", "7.5", "9.0", "9.0", "7.5", "7.5", "9.0", "9.0"]
    assert [record["decoded"] for record in found.records] == [["a", "c"], ["b", "d"]]
    assert len(decoded) == len(set(decoded)) == 3
    assert "other half" in found.how


def test_tuning_lowers_the_error_rate_it_looks_at(tmp_path: Path) -> None:
    some = utterances(*"abcdefgh")
    doubts = {len(u.text) // 2: "QXZ"[k % 3] for k, u in enumerate(some)}
    scored = Scored(some, [heard(u.text, doubts) for u in some])
    made = decoder("words", tmp_path, replace(SETTINGS, lm_weight=0.0, word_bonus=-9.0, unknown_penalty=0.0))
    tuned = Tuning(made, scored, "dev").best()
    assert tuned.record["tried"][0]["WER"] > min(row["WER"] for row in tuned.record["tried"]) == 0
    best = min(tuned.record["tried"], key=lambda row: (row["WER"], row["CER"]))
    assert tuned.record["weights"] == {name: best[name] for name in tuned.record["weights"]} == vars(tuned.weights)


def test_transcripts_are_the_same_alone_and_in_batches_of_32(tiny: Make) -> None:
    config = tiny()
    write_corpus(config.root, "many", [" ".join(TEXTS[k:][: 1 + k % 3]) for k in range(8)] * 5, speaker="9")
    config = tiny("data.test=many", "decode.methods=greedy,beam")
    path = untrained(config)
    results, hypotheses, scores = [], [], []
    for seconds in (0.001, 1000.0):
        evaluation = Evaluation(path, config)
        evaluation.recogniser.config.train.batch_seconds = seconds
        scores.append(evaluation.scored("many").log_probs)
        for method in ("greedy", "beam"):
            results.append(evaluate_set(evaluation, "many", method))
            out = config.exp / f"decode_many_{method}"
            hypotheses.append(read_trn(out / "hyp.trn"))
            (out / "result.json").unlink()
    assert len(scores[0]) == 40
    for alone, batched in zip(*scores, strict=True):
        torch.testing.assert_close(alone, batched, atol=1e-5, rtol=0)
    assert hypotheses[:2] == hypotheses[2:]
    assert [r["WER"] for r in results[:2]] == [r["WER"] for r in results[2:]]
    assert any(hypotheses[0].values())


def test_every_method_is_written_kept_and_made_anew_where_settings_change(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny()
    write_corpus(config.root, "dev", TEXTS[:3], speaker="8")
    words = ["data.test=dev,test", "decode.methods=greedy,words", "decode.beam_size=8"]
    config = tiny(*words)
    path = untrained(config)
    results = evaluate.evaluate(path, config)
    assert [(r["set"], r["weights"]) for r in results] == [
        ("dev", ""), ("dev", "weights for each half of its speakers tuned on the other half"),
        ("test", ""), ("test", "weights tuned on dev"),
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert printed.count("%WER") == printed.count("%CER") == 4
    assert "tuned on the other half" in printed
    for subset in ("dev", "test"):
        for method, files in [("greedy", 4), ("words", 5)]:
            assert len(list((config.exp / f"decode_{subset}_{method}").iterdir())) == files
    folds = json.loads((config.exp / "decode_dev_words" / "tuning.json").read_text())
    assert [(fold["decoded"], fold["speakers"]) for fold in folds] == [(["7"], ["8"]), (["8"], ["7"])]
    assert json.loads((config.exp / "lm" / "tuned.json").read_text())["words"]["speakers"] == ["7", "8"]

    with monkeypatch.context() as patched:
        patched.setattr(Evaluation, "score", lambda *_: pytest.fail("scored again"))
        assert evaluate.evaluate(path, config) == results
    again = evaluate.evaluate(path, tiny(*words, "decode.tune=false"))
    assert again[1]["weights"] == again[3]["weights"] == "weights of the configuration"

    further = config.root / "further.txt"
    words += ["decode.tune=false", f"decode.vocabulary={further}"]
    for text, unknown in [("SIX 1\n", 0), ("SIX 1\nSEVEN 1\n", 0)]:
        further.write_text(text)
        (result,) = evaluate.evaluate(path, tiny(*words, "decode.methods=words", "data.test=dev"))
        assert result["method"].endswith(f" {4 + text.count('1')} words") and result["unknown words"] == unknown


def test_one_speaker_tuned_on_himself_is_said(tiny: Make) -> None:
    config = tiny("data.test=dev", "decode.methods=tokens", "decode.beam_size=4")
    (result,) = evaluate.evaluate(untrained(config), config)
    assert result["weights"] == "weights tuned on this very set, which has one speaker: too good"


def test_what_cannot_be_read_has_no_frames_and_is_named(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny()
    evaluation = Evaluation(untrained(config), config)
    some = read_manifests(config, ["test"])
    Path(some[2].audio_filepath).unlink()
    scored = evaluation.score(some)
    assert [len(frames) == 0 for frames in scored.log_probs] == [k == 2 for k in range(len(some))]
    assert f"left out {some[2].audio_filepath}" in capsys.readouterr().out


def test_trn_comes_back_and_the_worst_come_first(tmp_path: Path) -> None:
    texts = ["A (B) C", "", "ONE"]
    write_trn(tmp_path / "x.trn", ["1-1", "2-2", "3-3"], texts)
    assert read_trn(tmp_path / "x.trn") == dict(zip(["1-1", "2-2", "3-3"], texts, strict=True))
    some = utterances("a", "b", "c")
    found = worst([(some[0], "ONE"), (some[1], "THREE"), (some[2], "FOUR")], 5)
    assert [utterance.speaker for utterance, _ in found] == ["b", "c"]

"""The benchmark of decoding: posteriors are what they are said to be, peers agree, no row goes missing."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import numbactc
from benchmarks.decode import align, firsts, posteriors, report, search, tasks
from benchmarks.decode.__main__ import main
from benchmarks.decode.aligners import ALIGNERS, Aligner, collapses_to, recordings, score_of
from benchmarks.decode.ours import OURS
from benchmarks.decode.peers import SEARCHERS, Answer, Decode, Searcher, classes_of, collapsed, signs_of
from benchmarks.decode.rows import AlignRow, SearchRow
from benchmarks.decode.tasks import EXACT, FAST_CTC, PYCTC, Material, Task
from benchmarks.decode.texts import as_text, language, sentences
from benchmarks.environment import describe
from benchmarks.report import Document


def broken(_: Material) -> Decode:
    raise MemoryError("out of memory")


@pytest.mark.parametrize(
    ("units", "difficulty", "blanks", "classes", "errors"),
    [
        ("chars", "easy", 0.68, 1.18, 0.009),
        ("chars", "hard", 0.68, 1.62, 0.107),
        ("BPE", "easy", 0.80, 1.10, 0.010),
        ("BPE", "hard", 0.59, 1.31, 0.123),
    ],
)
def test_posteriors_are_as_described(units: str, difficulty: str, blanks: float, classes: float, errors: float) -> None:
    found = posteriors.statistics(posteriors.utterances(units, difficulty))
    assert found["sure_blanks"] == pytest.approx(blanks, abs=0.005)
    assert found["classes_above_e5"] == pytest.approx(classes, abs=0.005)
    assert found["greedy_errors"] == pytest.approx(errors, abs=0.0006)


def test_an_utterance_holds_its_text_in_normalised_scores() -> None:
    [first] = posteriors.utterances("BPE", "easy", count=1, frames=200)
    [again] = posteriors.utterances.__wrapped__("BPE", "easy", count=1, frames=200)
    np.testing.assert_array_equal(first.log_probs, again.log_probs)
    assert first.log_probs.shape == (200, 1000)
    np.testing.assert_allclose(np.exp(first.log_probs.astype(np.float64)).sum(axis=1), 1, atol=1e-5)
    material = Material(Task("BPE", "easy", 1), language().pieces, (first,), None)
    assert material.text(first.tokens) == first.text
    assert len(first.tokens) > 15


def test_texts_have_a_language_to_learn() -> None:
    train = [as_text(sentence) for sentence in sentences(20_000, seed=1)]
    heard = [as_text(sentence) for sentence in sentences(2_000, seed=2, unknown=0.01)]
    known = set(language().words)
    words = [word for sentence in heard for word in sentence.split()]
    assert 0.003 < sum(word not in known for word in words) / len(words) < 0.02
    assert all(word in known for sentence in train for word in sentence.split())
    perplexities = [numbactc.NgramLM.train(train, order).perplexity(heard) for order in (1, 2)]
    assert perplexities[1] < 0.5 * perplexities[0]


@pytest.mark.parametrize("task", [Task("chars", "easy", 0), *(Task("chars", "easy", 8, cut) for cut in (EXACT, PYCTC))])
def test_searchers_hear_the_same(task: Task) -> None:
    heard = posteriors.utterances("chars", "easy", count=3, frames=120)
    material = Material(task, posteriors.UNITS["chars"].labels(), heard, None)
    peers = [OURS, *(peer for peer in SEARCHERS.values() if peer.takes(task) and not peer.missing)]
    for peer in peers:
        decode = peer.load(material)
        for number, utterance in enumerate(heard):
            answer = decode(number)
            assert answer.text == material.text(answer.tokens)
            assert posteriors.edit_distance(answer.tokens, utterance.tokens) <= 2, peer.name


@pytest.mark.parametrize("name", [name for name, aligner in ALIGNERS.items() if aligner.exact])
def test_aligners_find_paths_of_one_score(name: str) -> None:
    if ALIGNERS[name].missing:
        pytest.skip(f"{name} is not installed")
    given = recordings(60, 2, 12, 8)
    found, ours = (ALIGNERS[each].load(given)() for each in (name, "numbactc"))
    for path, best, target, scores in zip(found, ours, given.targets, given.scores, strict=True):
        assert collapses_to(path, target)
        assert score_of(path, scores) == pytest.approx(score_of(best, scores), abs=1e-4)


def test_signs_tell_classes() -> None:
    labels = language().pieces
    signs = signs_of("BPE", labels)
    tokens = [1, 500, 2, 998]  # two words, each of which begins with a mark
    text = "".join(signs[token] for token in tokens).replace("▁", " ").strip()
    assert classes_of(text, "BPE", labels) == tokens
    assert classes_of("⁇", "BPE", labels) == [999]
    assert collapsed([0, 1, 1, 0, 1, 2, 2, 0]) == [1, 1, 2]


def test_answers_are_judged_by_all_alignments() -> None:
    [heard] = posteriors.utterances("chars", "hard", count=1, frames=80)
    material = Material(Task("chars", "hard", 4), posteriors.UNITS["chars"].labels(), (heard,), None)
    [[best]] = numbactc.beam_search_decode(torch.from_numpy(heard.log_probs), beam_size=50)
    tokens = best.tokens.tolist()
    assert search.log_prob(tokens, heard.log_probs) == pytest.approx(best.log_prob, abs=1e-5)
    said, cut = (Answer(each, material.text(each)) for each in (tokens, tokens[:-1]))
    verdicts = search.judge({"a": [said], "b": [cut], "c": []}, material)
    assert verdicts["a"]["behind"] == 0.0
    assert verdicts["b"]["behind"] == pytest.approx(verdicts["a"]["log_prob"] - verdicts["b"]["log_prob"])
    assert verdicts["b"]["behind"] > 1
    assert "c" not in verdicts
    assert posteriors.edit_distance([*"kitten"], [*"sitting"]) == 3


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """A result of small tasks: one peer not installed, one failing, in searches and alignments."""
    folder = tmp_path_factory.mktemp("models")
    heard = posteriors.utterances("chars", "hard", count=2, frames=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "utterances", lambda units, difficulty: heard)
        patch.setitem(search.PEERS, "absent", Searcher("absent", ("no_such_module",), True, lambda task: True, broken))
        patch.setitem(search.PEERS, "broken", Searcher("broken", ("numpy",), False, lambda task: True, broken))
        patch.setitem(ALIGNERS, "absent", Aligner("absent", ("no_such_module",), True, lambda given: list))
        names = ["numbactc", "absent", "broken"]
        rows = [
            row
            for threads in (1, 2)
            for task in (Task("chars", "hard", 0), Task("chars", "hard", 4, FAST_CTC))
            for row in search.measure_task(task, folder, names, threads, rounds=5, budget_s=0.5)
        ]
        size = align.Size(50, 2, 8)
        aligned = align.measure_speed(size, ["numbactc", "absent"], 1, 5, 0.5)
        return {
            "environment": describe("python -m benchmarks.decode"),
            "peers": {"absent": None, "numpy": "2"},
            "search": rows,
            "align": aligned,
            "memory": [aligned[0] | {"extra_bytes": 2_500_000}],
            "paths": align.measure_paths(["numbactc", "absent"], half=True, cases=6),
            "firsts": [firsts._measure_apart("forced_align", "no_such_module", "cold", folder, {})],
        }


def test_rows_are_kept_with_all_fields(document: Document) -> None:
    for part, kind in (("search", SearchRow), ("align", AlignRow)):
        for row in json.loads(json.dumps(document[part])):
            assert set(row) == {field.name for field in dataclasses.fields(kind)}
    found = [(row["peer"], row["status"].split(":")[0]) for row in document["search"]]
    assert found == [("numbactc", "ok"), ("absent", "not installed"), ("broken", "failed")] * 4
    for row in document["search"]:
        assert (row["speed"] is not None) == (row["judged"] > 0) == (row["status"] == "ok")
        assert len(row["samples_ms"]) == row["repeats"]
    [ours, absent] = document["align"]
    assert ours["score"] < 0 < ours["time_ms"]["median"]
    assert absent["status"] == "not installed: no_such_module"
    assert [row["worse"] for row in document["paths"]] == [0, None]
    assert document["firsts"][0]["status"] == "not installed: no_such_module"


def test_tables_are_drawn_from_rows(document: Document, tmp_path: Path) -> None:
    result = tmp_path / "decode.json"
    result.write_text(json.dumps(document))
    text = report.write(result)
    assert text == (tmp_path / "decode.md").read_text()
    for words in ("## Search, no language model, left out: tokens < 1e-3, 2 threads", "not installed", "failed", "2.5"):
        assert words in text
    assert "numpy 2" in text and "absent None" not in text


def test_a_ratio_is_to_the_fastest_other_peer() -> None:
    row = {"units": "chars", "difficulty": "easy", "beam": 4, "cut": EXACT, "model": None, "threads": 1, "status": "ok"}
    row |= {"behind": None, "token_errors": 0.1, "word_errors": 0.2, "judged": 1}
    speeds = {"numbactc": 60.0, "numbactc (known words)": 500.0, "slow": 3.0, "fast": 20.0}
    rows = [row | {"peer": p, "speed": {"median": s, "q1": s, "q3": s}} for p, s in speeds.items()]
    line = next(line for line in report.search_table(rows).splitlines() if "| numbactc  " in line)
    assert "| 3 " in line


def test_a_run_in_pieces_keeps_what_it_does_not_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "decode.json"
    old = [{"peer": "a", "beam": 1, "x": 1}, {"peer": "b", "beam": 1, "x": 1}]
    out.write_text(json.dumps({"search": old, "paths": []}))
    monkeypatch.setattr("benchmarks.decode.__main__.measure", lambda part, options: [{"peer": "b", "beam": 1, "x": 2}])
    monkeypatch.setattr(report, "write", lambda path: "")
    main(["--parts", "search", "--out", str(out)])
    assert [row["x"] for row in json.loads(out.read_text())["search"]] == [1, 2]


def test_a_large_model_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firsts, "NGRAMS", (200, 1000, 500))
    firsts.write_large(tmp_path / "large.arpa")
    firsts.write_tiny(tmp_path / "tiny.arpa")
    model = numbactc.NgramLM.read(tmp_path / "large.arpa", cache=False)
    assert model.order == 3
    assert math.isfinite(model.score("w1 w2 w3"))
    lines = (tmp_path / "large.arpa").read_text().splitlines()
    grams = {tuple(line.split("\t")[1].split()) for line in lines if "\t" in line}
    assert len(grams) == sum(firsts.NGRAMS)
    assert all({gram[1:], gram[:-1]} <= grams for gram in grams if len(gram) > 1)  # KenLM asks for that
    assert len(numbactc.NgramLM.read(tmp_path / "tiny.arpa", cache=False).vocabulary) == 5

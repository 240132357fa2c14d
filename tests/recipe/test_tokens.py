"""Tokens: characters and BPE behind one interface, stage 1, and what a checkpoint keeps of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import loading
import vocabulary
from common import checkpoint
from common.tokens import Characters, Pieces, Tokens, restored
from config import Config
from manifest import read_manifests
from normalisation import prepare_statistics
from numbactc import TokenSpan
from prepare import prepare_subset
from tones import TEXTS
from trainer import Trainer
from vocabulary import read_tokens

Make = Callable[..., Config]
ALPHABET = Config().data.alphabet
SAID = ["THE CAT SAT ON THE MAT", "THE HAT", "THAT CAT IS FAT", "A RAT ATE THE OATS"]


def pieces(size: int = 40) -> Pieces:
    return Pieces.trained(SAID, size, ALPHABET)


@pytest.fixture(params=["characters", "bpe"])
def tokens(request: pytest.FixtureRequest) -> Tokens:
    return Characters(ALPHABET) if request.param == "characters" else pieces()


def stage_1(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.manifests.with_suffix(".yaml")
    settings.write_text(yaml.safe_dump(config.to_dict()))
    monkeypatch.setattr(sys, "argv", ["vocabulary.py", "--config", str(settings)])
    vocabulary.main()


def prepared(config: Config) -> Config:
    for subset in ("train", "dev", "test"):
        prepare_subset(subset, config)
    return config


def test_texts_round_trip_and_leave_zero_to_the_blank(tokens: Tokens) -> None:
    texts = [*SAID, "WORDS NEVER SEEN", "Z", "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    for text in texts:
        labels = tokens.encode(text)
        assert tokens.decode(labels) == text
        assert 0 < min(labels) <= max(labels) < len(tokens)
    assert tokens.encode("") == [] and tokens.decode([]) == ""
    assert len(tokens.labels) == len(tokens) and tokens.labels[0] == ""


def test_unknown_characters_are_named(tokens: Tokens) -> None:
    assert tokens.unknown("CAFÉ ▁3 É") == ["3", "É", "▁"]
    with pytest.raises(ValueError, match=r"\['3', 'É'\] in 'CAFÉ 3'"):
        tokens.encode("CAFÉ 3")


def test_words_of_an_alignment_are_those_of_the_text(tokens: Tokens) -> None:
    spans = [TokenSpan(label, k, k + 1, 1.0) for k, label in enumerate(tokens.encode(SAID[0]))]
    assert [tokens.decode(word.tokens) for word in tokens.words(spans)] == SAID[0].split()
    assert (tokens.separator is None) != (tokens.begins_word is None)


def test_an_alphabet_without_a_space_makes_one_word() -> None:
    tokens = Characters("AB")
    spans = [TokenSpan(label, k, k + 1, 1.0) for k, label in enumerate(tokens.encode("ABBA"))]
    assert [word.tokens for word in tokens.words(spans)] == [(1, 2, 2, 1)]


def test_what_a_checkpoint_keeps_restores_the_tokens(tokens: Tokens) -> None:
    again = restored(tokens.state())
    assert type(again) is type(tokens)
    assert again.labels == tokens.labels
    assert again.encode(SAID[2]) == tokens.encode(SAID[2])


def test_pieces_are_fewer_than_characters_and_begin_words() -> None:
    bpe = pieces()
    assert len(bpe.encode(SAID[0])) < len(SAID[0]) / 1.5
    assert bpe.begins_word is not None
    assert [bpe.begins_word[label] for label in bpe.encode("THE CAT")].count(True) == 2


def test_a_hypothesis_of_pieces_that_begin_words_twice_or_in_the_middle_has_single_spaces() -> None:
    bpe = pieces()
    the, begin, t = (bpe.labels.index(piece) for piece in ("▁THE", "▁", "T"))
    assert bpe.decode([begin, the, begin, begin, the, t]) == "THE THET"
    assert bpe.decode([t, the]) == "T THE"


def test_the_same_texts_give_the_same_pieces() -> None:
    assert pieces().model == pieces().model


@pytest.mark.parametrize("size", [5, 28, 5000])
def test_a_size_that_the_texts_do_not_allow_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"data\.bpe must be .*got {size}: .*Vocabulary size"):
        pieces(size)


def test_an_alphabet_with_a_character_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each character once"):
        Characters("ABA")


def test_frames_needed_is_the_shortest_path_that_collapses_to_the_text() -> None:
    characters = Characters(ALPHABET)
    assert [characters.frames_needed(text) for text in ("ABBA", "AAA", "")] == [5, 5, 0]
    bpe = pieces()
    assert len(bpe.encode("THE THE")) == 2
    assert bpe.frames_needed("THE THE") == 3


def test_stage_1_makes_pieces_once_and_again_for_other_texts(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prepared(tiny("data.bpe=32"))
    stage_1(config, monkeypatch)
    assert "32 classes" in capsys.readouterr().out
    rows = (config.manifests / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "<blank> 0 0" and len(rows) == 32
    model = (config.manifests / "bpe.model").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Pieces, "trained", lambda *_: pytest.fail("trained again"))
        stage_1(config, patched)
    next(config.root.glob("train/*/*/*-0004.flac")).unlink()  # "FOUR ONE"
    stage_1(prepared(config), monkeypatch)
    assert (config.manifests / "bpe.model").read_bytes() != model


def test_stage_1_drops_what_is_too_short_for_its_pieces_and_stays_as_it_is_when_repeated(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("data.bpe=32")
    long = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # a label a letter, more than half a second has frames
    for transcript in config.root.rglob("*.trans.txt"):
        transcript.write_text(transcript.read_text().replace("7-1-0000 ONE", f"7-1-0000 {long}"))
    prepared(config)
    assert long in [u.text for u in read_manifests(config, ["train"])]  # stage 0 does not know the pieces yet
    stage_1(config, monkeypatch)
    assert [u.text for u in read_manifests(config, ["train"])] == TEXTS[1:]
    assert "7-1-0000: too short for its text (" in (config.manifests / "train.dropped.txt").read_text()
    assert [u.text for u in read_manifests(config, ["test"])] == [long, *TEXTS[1:]]
    before = {p.name: p.read_bytes() for p in config.manifests.iterdir()}
    stage_1(config, monkeypatch)
    assert {p.name: p.read_bytes() for p in config.manifests.iterdir()} == before


def test_pieces_before_stage_1_are_asked_for_by_name(tiny: Make) -> None:
    with pytest.raises(FileNotFoundError, match="run stage 1"):
        read_tokens(tiny("data.bpe=32"))


def test_pieces_of_another_size_are_refused_until_stage_1_has_run_again(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_1(prepared(tiny("data.bpe=32")), monkeypatch)
    config = tiny("data.bpe=30")
    with pytest.raises(ValueError, match=r"bpe\.model must have data\.bpe=30 classes, got 32: run stage 1 again"):
        Trainer(config)
    stage_1(config, monkeypatch)
    assert len(read_tokens(config)) == 30


def test_statistics_of_other_features_are_refused_until_stage_1_has_run_again(tiny: Make) -> None:
    config = prepared(tiny("features.normalise=global"))
    prepare_statistics(config)
    for word in ("features.mel_scale=slaney", "features.n_mels=21", "features.hop_length=200", "data.train=train,dev"):
        other = tiny("features.normalise=global", word)
        with pytest.raises(ValueError, match=r"statistics\.json must be of these features .*: run stage 1 again"):
            Trainer(other)
        prepare_statistics(other)
        Trainer(other)
        prepare_statistics(config)
    Trainer(tiny("features.normalise=global", "features.time_masks=3"))  # statistics are of whole speech


def test_a_checkpoint_alone_knows_its_pieces(tiny: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = prepared(tiny("data.bpe=32"))
    stage_1(config, monkeypatch)
    tokens = read_tokens(config)
    model = loading.build_model(config, tokens)
    content = {"config": config.to_dict(), "tokens": tokens.state(), "model": model.state_dict()}
    checkpoint.save(tmp_path / "x.pt", content)
    shutil.rmtree(config.manifests)
    loaded, _, content = loading.load_model(tmp_path / "x.pt")
    assert loaded.head.out_features == 32
    assert checkpoint.tokens_of(content).labels == tokens.labels


def test_a_checkpoint_from_before_there_were_pieces_is_of_characters() -> None:
    old = {"config": Config().to_dict()}
    assert checkpoint.tokens_of(old).labels == ["", *ALPHABET]

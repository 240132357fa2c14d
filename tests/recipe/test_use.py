"""A checkpoint in use: files of any length and rate, word times, streams of files, TorchScript."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import export
import transcribe
from common.rates import read_trn
from config import Config
from evaluate import evaluate
from features import read_audio
from recogniser import Recogniser
from tones import tones
from transcribe import Transcriber, names
from untrained import untrained

Make = Callable[..., Config]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")


def long_file(path: Path, words: int = 40, rate: int = 16000) -> Path:
    """Words in a random order, louder and softer, over some noise: ``words`` times 0.6 seconds."""
    draw = np.random.default_rng(0)
    samples = np.concatenate([
        draw.uniform(0.2, 1.0) * tones(str(draw.choice(["ONE", "TWO", "THREE", "FOUR"])), rate) for _ in range(words)
    ])  # fmt: skip
    soundfile.write(path, samples + 1e-3 * draw.standard_normal(len(samples)), rate)
    return path


@pytest.mark.parametrize("frames", ["model.strides=[2,2]", "model.strides=[3]", "model.upsample=2"])
@pytest.mark.parametrize("normalise", ["utterance", "global"])
def test_a_long_file_in_chunks_has_the_text_of_the_whole(
    tiny: Make, tmp_path: Path, frames: str, normalise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(frames, f"features.normalise={normalise}")
    recogniser = Recogniser(untrained(config))
    path = long_file(tmp_path / "long.flac")
    whole = recogniser.file_scores(path, 100.0)
    samples = read_audio(path, 16000)
    assert torch.equal(whole, recogniser.scores(samples))
    assert len(whole) * recogniser.frame_seconds == pytest.approx(len(samples) / 16000, abs=0.05)
    longest = []
    original = recogniser.scores

    def scores(samples: torch.Tensor, *rest: object) -> torch.Tensor:
        longest.append(len(samples) / 16000)
        return original(samples, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(recogniser, "scores", scores)
    for chunk, overlap in [(5.0, 1.5), (7.7, 2.0), (23.9, 1.0)]:
        longest.clear()
        joined = recogniser.file_scores(path, chunk, overlap)
        assert max(longest) <= chunk + 2 * recogniser.lstm_seconds
        assert len(longest) > 1
        assert joined.shape == whole.shape
        # what an LSTM remembers of more than overlap seconds ago
        torch.testing.assert_close(joined, whole, atol=0.01, rtol=0)
        assert joined.argmax(1).tolist() == whole.argmax(1).tolist()


def test_a_word_at_a_joint_is_whole(tiny: Make, tmp_path: Path) -> None:
    recogniser = Recogniser(untrained(tiny()))
    path = long_file(tmp_path / "long.wav")
    whole = recogniser.file_scores(path, 100.0)
    # joints at every tenth of a second of a word
    for chunk in (5.0, 5.1, 5.2, 5.3, 5.4, 5.5):
        assert recogniser.file_scores(path, chunk, 2.0).argmax(1).tolist() == whole.argmax(1).tolist()


def test_chunks_of_another_rate_fit_together(tiny: Make, tmp_path: Path) -> None:
    recogniser = Recogniser(untrained(tiny()))
    for rate in (8000, 22050, 44100):
        path = long_file(tmp_path / f"{rate}.wav", rate=rate)
        whole, joined = recogniser.file_scores(path, 100.0), recogniser.file_scores(path, 6.0, 2.0)
        assert joined.shape == whole.shape
        torch.testing.assert_close(joined, whole, atol=0.02, rtol=0)


def test_chunks_must_be_longer_than_what_they_share(tiny: Make, tmp_path: Path) -> None:
    recogniser = Recogniser(untrained(tiny()))
    with pytest.raises(ValueError, match=r"chunk_seconds must be .* positive, got 4 and 2"):
        recogniser.file_scores(tmp_path / "x.wav", 4.0, 2.0)


def test_files_that_hold_nothing_or_less_than_they_promise_are_named(tiny: Make, tmp_path: Path) -> None:
    recogniser = Recogniser(untrained(tiny()))
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    whole = long_file(tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.wav", "nan.wav", "cut.flac", "missing.wav"):
        with pytest.raises((OSError, RuntimeError)):
            recogniser.file_scores(tmp_path / name, 5.0, 1.0)


@pytest.mark.parametrize("upsample", [1, 2])
def test_words_have_their_times(tiny: Make, tmp_path: Path, upsample: int) -> None:
    transcriber = Transcriber(untrained(tiny(f"model.upsample={upsample}")))
    path = long_file(tmp_path / "x.flac")
    text, words = transcriber(path, 7.0, 2.0)
    assert len(words) == len(text.split()) > 3
    seconds = 40 * 0.6
    spans = [(w.start_time or 0.0, w.end_time or 0.0) for w in words]
    assert all(0 <= start < end <= seconds + 0.1 for start, end in spans)
    assert [w.start for w in words] == sorted(w.start for w in words)
    assert words[0].start_time == pytest.approx(words[0].start * 0.04 / upsample)
    # the frames of a word write it
    best = transcriber.recogniser.file_scores(path, 7.0, 2.0).argmax(1)
    for word in words:
        assert best[word.start] == word.tokens[0]
    assert transcriber.row(words[1]).split()[-1] == text.split()[1]


def test_files_come_from_patterns_and_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.wav", "a.wav", "c[1].wav"):
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "stdin", io.StringIO("x y.wav\n\nz.wav\n"))
    found = list(names([str(tmp_path / "[ab].wav"), str(tmp_path / "c[1].wav"), "none*.wav", "-"]))
    assert found == [*(str(tmp_path / n) for n in ("a.wav", "b.wav", "c[1].wav")), "none*.wav", "x y.wav", "z.wav"]


def test_transcribe_with_the_model_and_weights_that_evaluation_found(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("decode.methods=words", "decode.beam_size=8")
    path = untrained(config)
    with pytest.raises(FileNotFoundError, match="run stage 3 with words in"):
        Transcriber(path, "words")
    evaluate(path, config)
    transcriber = Transcriber(path, "words")
    record = json.loads((config.exp / "lm" / "tuned.json").read_text())["words"]
    assert vars(transcriber.weights) == record["weights"]
    audio = sorted(config.root.glob("test/*/*/*.flac"))
    hypotheses = (config.exp / "decode_test_words" / "hyp.trn").read_text().splitlines()
    for file, hypothesis in zip(audio, hypotheses, strict=True):
        assert f"{transcriber(file)[0]} ({file.stem})" == hypothesis
    capsys.readouterr()
    # another model of that name was never tuned
    arpa = str(config.exp / "lm" / "words.arpa.gz")
    assert Transcriber(path, "arpa", lm=arpa).weights.lm_weight == config.decode.lm_weight
    assert "never tuned" in capsys.readouterr().err

    assert transcribed(monkeypatch, path, "--method", "words", "--times", str(audio[1])) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{audio[1]}: ")
    assert [row.split()[3] for row in rows] == first.partition(": ")[2].split()


def transcribed(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str) -> int | str | None:
    """The exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["transcribe.py", "--checkpoint", str(path), *arguments])
    with pytest.raises(SystemExit) as done:
        transcribe.main()
    return done.value.code


def test_the_command_decodes_by_the_settings_of_the_checkpoint_but_for_its_options(
    tiny: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["decode.methods=words", "decode.tune=false", "decode.beam_threshold=0.5", "decode.lm_weight=2"]
    config = tiny(*words)
    path = untrained(config)
    evaluate(path, config)
    hypotheses = read_trn(config.exp / "decode_test_words" / "hyp.trn")
    audio = sorted(config.root.glob("test/*/*/*.flac"))
    capsys.readouterr()
    assert transcribed(monkeypatch, path, "--method", "words", *map(str, audio)) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: {hypotheses[file.stem]}" for file in audio]
    made = []

    def told(_: Path, *given: str, **others: Any) -> None:
        made.append((given, others))
        raise OSError("enough")

    monkeypatch.setattr(transcribe, "Transcriber", told)
    transcribed(monkeypatch, path, "--beam-size", "3", "x.wav")
    transcribed(monkeypatch, path, "--lm", "x.arpa", "--lm-unit", "token", "x.wav")
    transcribed(monkeypatch, path, "--device", "cuda:1", "x.wav")
    assert made == [
        (("greedy", "auto"), {"beam_size": 3}), (("arpa", "auto"), {"lm": "x.arpa", "lm_unit": "token"}),
        (("greedy", "cuda:1"), {}),
    ]  # fmt: skip


@pytest.mark.parametrize(("method", "tune"), [("beam", True), ("tokens", True), ("tokens", False)])
def test_transcribe_searches_as_wide_as_evaluation_last_did(
    tiny: Make, capsys: pytest.CaptureFixture[str], method: str, tune: bool
) -> None:
    path = untrained(tiny())
    other = [f"decode.methods=greedy,{method}", f"decode.tune={tune}", "decode.lm_weight=0.75"]
    for wide in ({"beam_size": 3, "beam_threshold": 4.0, "token_threshold": -3.0}, {"beam_size": 5}):
        config = tiny(*other, *(f"decode.{name}={value}" for name, value in wide.items()))
        evaluate(path, config)
        capsys.readouterr()
        found = Transcriber(path, method)
        assert ("not tuned, those it was evaluated with" in capsys.readouterr().err) == (not tune)
        expected = {name: getattr(config.decode, name) for name in ("beam_size", "beam_threshold", "token_threshold")}
        assert {name: getattr(found.decoder.settings, name) for name in expected} == expected
        assert tune or found.weights.lm_weight == 0.75
        assert Transcriber(path, method, beam_size=7).decoder.settings.beam_size == 7
    # what has no search, and what was never evaluated
    kept = tiny().decode
    assert Transcriber(path, "greedy").decoder.settings == kept
    assert method == "beam" or Transcriber(path, "beam").decoder.settings == kept


def test_scores_are_computed_where_the_settings_say(tiny: Make) -> None:
    path = untrained(tiny())
    for use in (lambda: Transcriber(path, device="cuda:99"), lambda: evaluate(path, tiny("train.device=cuda:99"))):
        with pytest.raises(ValueError, match=r"train\.device must be auto, cuda or one of cpu.*, got 'cuda:99'"):
            use()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "arpa"], "an ARPA file must be named for the method arpa, by --lm or decode.lm, got none"),
        (["--method", "words", "--lm", "x.arpa"], "--lm must go with --method arpa, got words"),
        (["--lm", "x.arpa"], "x.arpa is missing$"),
    ],
)
def test_options_of_a_language_model_that_cannot_be_are_told(
    tiny: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    path = untrained(tiny())
    assert transcribed(monkeypatch, path, *arguments, "x.wav") == 2
    assert re.search(message, capsys.readouterr().err.strip())


@pytest.mark.parametrize("upsample", [1, 2])
def test_exported_scores_are_those_of_the_checkpoint_at_any_length(tiny: Make, tmp_path: Path, upsample: int) -> None:
    path = untrained(tiny("model.layers=2", f"model.upsample={upsample}"))
    assert export.export(path, tmp_path / "model.ts") <= export.TOLERANCE
    recogniser = Recogniser(path)
    files: dict[str, str] = {"about.json": ""}
    module = torch.jit.load(tmp_path / "model.ts", _extra_files=files)
    about = json.loads(files["about.json"])
    assert about == {"sample_rate": 16000, "frame_seconds": 0.04 / upsample, "labels": recogniser.tokens.labels}
    for length in (1, 399, 1600, 16001, 50000):
        samples = torch.rand(length, generator=torch.Generator().manual_seed(length)) - 0.5
        torch.testing.assert_close(module(samples), recogniser.scores(samples), atol=1e-4, rtol=0)


def test_an_export_that_differs_is_not_written(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = untrained(tiny())
    original = export.traced

    def other(recogniser: Recogniser) -> torch.jit.ScriptModule:
        module = original(recogniser)
        with torch.no_grad():
            recogniser.model.head.bias = torch.nn.Parameter(torch.randn(29))
        return module

    monkeypatch.setattr(export, "traced", other)
    with pytest.raises(RuntimeError, match="must be within"):
        export.export(path, tmp_path / "model.ts")
    assert not list(tmp_path.glob("*.ts*"))


def test_an_exported_model_needs_nothing_of_the_recipe(tiny: Make, tmp_path: Path) -> None:
    out = tmp_path / "model.ts"
    export.export(untrained(tiny()), out)
    code = f"import torch; print(tuple(torch.jit.load({str(out)!r})(torch.zeros(16000)).shape))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "(26, 29)"

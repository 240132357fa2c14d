"""Stage 0: formats, validation, the synthesised corpus, buckets."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import synthesise
from common.batches import BucketSampler
from config import Config
from features import read_audio
from manifest import read_manifests
from prepare import prepare_subset
from tones import tones, write_corpus

Make = Callable[..., Config]


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".mp3", ".ogg"])
def test_every_format_is_found_and_read(tiny: Make, tmp_path: Path, suffix: str) -> None:
    write_corpus(tmp_path / suffix, "train", ["ONE", "TWO ONE"], suffix)
    config = tiny(f"data.root={tmp_path / suffix}")
    assert "2 utterances" in prepare_subset("train", config)
    utterances = read_manifests(config, ["train"])
    assert [u.text for u in utterances] == ["ONE", "TWO ONE"]
    assert utterances[1].duration == pytest.approx(1.2, abs=0.15)  # an MP3 pads
    samples = read_audio(utterances[0].audio_filepath, 16000).numpy()
    spectrum = np.abs(np.fft.rfft(samples[:8000]))
    assert spectrum.argmax() * 2 == pytest.approx(300, abs=6)  # the tone of ONE, in Hz


def test_stereo_at_another_rate_is_mixed_and_resampled(tmp_path: Path) -> None:
    left = tones("ONE", 44100)
    soundfile.write(tmp_path / "x.wav", np.stack([left, 0 * left], axis=1), 44100)
    samples = read_audio(tmp_path / "x.wav", 16000)
    assert samples.shape[0] == pytest.approx(0.6 * 16000, abs=2)
    assert samples.abs().max().item() == pytest.approx(0.25, abs=0.02)


def test_what_cannot_be_used_is_dropped_with_its_reason_and_nothing_else(tiny: Make, tmp_path: Path) -> None:
    texts = ["ONE", "ONE", "TWO", "TWO", "THREE", "FOUR", "FOUR", "ONE"]
    chapter = write_corpus(tmp_path / "bad", "train", texts)
    rows = (chapter / "7-1.trans.txt").read_text().splitlines()
    rows[1] += " 2"
    rows[2] = "7-1-0002"
    rows[3] += " " + "X" * 40
    (chapter / "7-1.trans.txt").write_text("\n".join(rows) + "\n")
    (chapter / "7-1-0004.flac").write_bytes(b"not audio")
    whole = (chapter / "7-1-0005.flac").read_bytes()
    (chapter / "7-1-0005.flac").write_bytes(whole[: len(whole) // 2])
    (chapter / "7-1-0006.flac").unlink()
    soundfile.write(chapter / "7-1-0007.flac", np.zeros(16000 * 3), 16000)
    soundfile.write(chapter / "7-1-0008.flac", tones("ONE"), 16000)
    soundfile.write(chapter / "7-1-0009.wav", np.full(8000, np.nan), 16000, subtype="FLOAT")
    with (chapter / "7-1.trans.txt").open("ab") as file:
        file.write(b"7-1-0009 ONE\n7-1-0010 CAF\xc9\n")
    soundfile.write(chapter / "7-1-0010.flac", tones("ONE"), 16000)
    config = tiny(f"data.root={tmp_path / 'bad'}", "data.max_seconds=2")
    report = prepare_subset("train", config)
    dropped = (config.manifests / "train.dropped.txt").read_text()
    reasons = dict(row.split(": ", 1) for row in dropped.splitlines())
    expected = {
        "7-1-0001": "unknown characters ('2')",
        "7-1-0002": "empty transcript",
        "7-1-0003": "too short for its text (",
        "7-1-0004": "unreadable (",
        "7-1-0005": "unreadable (",
        "7-1-0006": "no audio file (",
        "7-1-0007": "too long (3.00 s",
        "7-1-0008": "no transcript",
        "7-1-0009": "unreadable (samples that are not numbers",
        "7-1-0010": "unknown characters (",
    }
    assert reasons.keys() == expected.keys()
    for name, start in expected.items():
        assert reasons[name].startswith(start), reasons[name]
    assert [u.id for u in read_manifests(config, ["train"])] == ["7-1-0000"]
    assert "1 utterances" in report
    assert "dropped 10, 3 unreadable" in report


def test_prepare_repeated_does_nothing_until_a_file_changes(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny()
    first = prepare_subset("train", config)
    with monkeypatch.context() as patched:
        patched.setattr("prepare.duration_of", lambda _: pytest.fail("decoded again"))
        assert prepare_subset("train", config) == first
    next(config.root.glob("train/*/*/*.flac")).unlink()
    assert "dropped 1" in prepare_subset("train", config)


def test_a_missing_subset_is_named_with_what_is_there(tiny: Make) -> None:
    with pytest.raises(FileNotFoundError, match=r"train-clean-5.*'dev', 'test', 'train'"):
        prepare_subset("train-clean-5", tiny())


def test_no_voice_family_is_in_two_subsets() -> None:
    dealt = synthesise.deal_variants(1)
    families = {subset: {synthesise.family(v) for v in variants} for subset, variants in dealt.items()}
    assert all(len(f) >= 2 for f in families.values())
    assert not families["train"] & families["test"]
    assert not families["train"] & families["dev"]
    assert not families["dev"] & families["test"]


def test_synthesised_corpus_is_librispeech_with_unseen_voices_and_sentences(tiny: Make, tmp_path: Path) -> None:
    root = tmp_path / "spoken"
    synthesise.synthesise(root, {"train": 12, "dev": 3, "test": 5}, seed=3)
    config = tiny(f"data.root={root}")
    sets = {}
    for subset, count in [("train", 12), ("dev", 3), ("test", 5)]:
        assert f"{count} utterances" in prepare_subset(subset, config)
        sets[subset] = read_manifests(config, [subset])
    rows = [line.split(" | ") for line in (root / "SPEAKERS.TXT").read_text().splitlines()[1:]]
    variant = {row[0]: synthesise.family(row[1]) for row in rows}
    heard = {subset: {variant[u.speaker] for u in found} for subset, found in sets.items()}
    texts = {subset: {u.text for u in found} for subset, found in sets.items()}
    for a, b in [("train", "dev"), ("train", "test"), ("dev", "test")]:
        assert not heard[a] & heard[b]
        assert not texts[a] & texts[b]
    samples = read_audio(sets["test"][0].audio_filepath, 16000)
    assert samples.std() > 0.01  # not silence


def test_a_sentence_of_one_subset_is_in_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN"]
    monkeypatch.setattr(synthesise, "sentence", lambda draw: (text := draw.choice(few), text))
    synthesise.synthesise(tmp_path, {"train": 20, "dev": 3, "test": 3}, seed=1)
    said = {
        subset: {row.split()[1] for path in (tmp_path / subset).rglob("*.txt") for row in path.read_text().splitlines()}
        for subset in ("train", "dev", "test")
    }
    assert not said["train"] & said["dev"]
    assert not said["train"] & said["test"]
    assert not said["dev"] & said["test"]


def test_synthesis_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        sizes = ["--train", "6", "--dev", "1", "--test", "2", "--seed", "5"]
        command = [sys.executable, str(synthesise.__file__), "--out", str(tmp_path / folder), *sizes]
        subprocess.run(command, check=True, capture_output=True)
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 9 + 10 + 1
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_breath_of_voices_is_drawn_from_the_seed() -> None:
    """By other processes: eSpeak NG, which has one state a process, seeds it by the clock when it starts."""
    code = "import sys, synthesise; s = synthesise.Synthesiser(int(sys.argv[1])).say('ten', 'en-us+f5', 150, 50)"
    show = "import hashlib; print(hashlib.sha256(s.tobytes()).hexdigest())"
    folder = Path(synthesise.__file__).parent
    commands = [[sys.executable, "-c", f"{code}; {show}", seed] for seed in ("1", "1", "2")]
    said = [subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout for command in commands]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_buckets_hold_every_utterance_once_and_few_seconds(epoch: int) -> None:
    durations = [*np.random.default_rng(0).uniform(0.5, 12, 300).tolist(), 50.0]
    sampler = BucketSampler(durations, 40, seed=2)
    sampler.epoch = epoch
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert Counter(i for batch in batches for i in batch) == Counter(range(301))
    for batch in batches:
        longest = max(durations[i] for i in batch)
        assert len(batch) == 1 or longest * len(batch) <= 40
    padded = sum(max(durations[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.15 * sum(durations)


def test_first_epoch_goes_from_short_to_long_and_later_ones_differ() -> None:
    durations = np.random.default_rng(1).uniform(1, 9, 100).tolist()
    sampler = BucketSampler(durations, 30)
    order = [durations[i] for batch in sampler for i in batch]
    assert order == sorted(durations)
    sampler.epoch = 1
    second = list(sampler)
    assert second == list(sampler)
    sampler.epoch = 2
    assert second != list(sampler)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_epochs_as_asked_for_are_sorted(count: int) -> None:
    durations = np.random.default_rng(1).uniform(1, 9, 100).tolist()
    sampler = BucketSampler(durations, 30, sorted_epochs=count)
    for epoch in range(5):
        sampler.epoch = epoch
        order = [durations[i] for batch in sampler for i in batch]
        assert (order == sorted(durations)) == (epoch < count)


def test_a_number_of_sorted_epochs_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.sorted_epochs must not be negative, got -1"):
        BucketSampler([1.0], 30, sorted_epochs=-1)


def test_what_does_not_fit_the_model_is_left_out_of_training_only(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for transcripts in tiny().root.rglob("*.trans.txt"):
        transcripts.write_text(transcripts.read_text().replace("THREE\n", "THREE" + 20 * " THREE" + "\n"))
    config = tiny("data.max_seconds=1")
    assert "dropped 5, 4 too long, 1 too short for its text" in prepare_subset("train", config)
    assert "8 utterances" in prepare_subset("test", config)
    other = tiny("data.min_seconds=1", "model.strides=[4,4]", "data.speeds=[1.1]", "features.hop_length=200")
    assert "dropped 4, 4 too short" in prepare_subset("train", tiny("data.min_seconds=1"))
    coarse = ["data.max_seconds=1", "model.strides=[8,8]"]
    assert "1 too short for its text" in prepare_subset("train", tiny(*coarse, "model.upsample=4"))
    with pytest.raises(ValueError, match="'too short for its text': 4"):
        prepare_subset("train", tiny(*coarse))
    with monkeypatch.context() as patched:
        patched.setattr("prepare.duration_of", lambda _: pytest.fail("decoded again"))
        assert "8 utterances" in prepare_subset("test", other)


@pytest.mark.parametrize("speeds", ["[]", "[0]", "[1.0,-0.9]"])
def test_speeds_that_cannot_be_are_refused(tiny: Make, speeds: str) -> None:
    with pytest.raises(ValueError, match=r"data\.speeds must be numbers from 0\.1 up, at least one, got"):
        prepare_subset("train", tiny(f"data.speeds={speeds}"))

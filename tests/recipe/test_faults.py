"""Kills, full disks, files made to harm and strange recordings: nothing is lost, run or passed over in silence."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import config as configs
import evaluate
import transcribe
from common import checkpoint
from config import Config
from manifest import Utterance, read_manifests, write_manifest
from prepare import prepare_subset
from runs import command, prepared, trained
from tones import TEXTS, tones
from trainer import Trainer
from untrained import untrained

Make = Callable[..., Config]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.utils.tensorboard"),
]


def campaign(folder: Path, *words: str) -> dict[str, Any]:
    """What `faults.py` found; it ends in an error if anything was lost."""
    script = Path(__file__).with_name("faults.py")
    done = subprocess.run([sys.executable, str(script), str(folder), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_kill_at_any_change_of_a_file_in_stages_0_and_1_changes_nothing(tmp_path: Path) -> None:
    assert campaign(tmp_path, "--every-moment")["kills"] > 40


@pytest.mark.faults
def test_a_kill_at_any_change_of_a_file_in_any_stage_changes_nothing(tmp_path: Path) -> None:
    assert campaign(tmp_path, "--every-moment", "--stages", "5", "--methods", "greedy")["kills"] > 80


@pytest.mark.parametrize("back", [False, True])
def test_stage_0_interrupted_among_its_files_is_not_taken_for_done(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """A mark of an earlier run, or of this one, does not speak for a manifest that is not its own."""
    config = tiny()
    prepare_subset("train", config)
    audio = next(config.root.glob("train/*/*/*-0004.flac"))
    audio.rename(config.root / "elsewhere.flac")

    def interrupted(path: Path, utterances: Sequence[Utterance]) -> None:
        if back:
            write_manifest(path, utterances)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("prepare.write_manifest", interrupted)
        prepare_subset("train", config)
    if back:
        (config.root / "elsewhere.flac").rename(audio)
    prepare_subset("train", config)
    assert len(read_manifests(config, ["train"])) == len(TEXTS) - (not back)


def test_a_run_killed_in_every_stage_ends_in_the_same_files(tmp_path: Path) -> None:
    assert sum(campaign(tmp_path, "--kills", "5", "--seed", "4", "--methods", "greedy")["kills"].values()) == 5


@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_a_run_killed_twenty_times_ends_in_the_same_files(tmp_path: Path, seed: int) -> None:
    found = campaign(tmp_path, "--kills", "20", "--seed", str(seed))
    print(found)
    assert sum(found["kills"].values()) == 20
    assert {"prepare", "train", "evaluate"} <= found["kills"].keys()


def test_a_run_killed_before_its_last_scoring_is_scored_when_it_goes_on(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget is used up, and yet it is not over: best.pt might be of an earlier step, or not be there at all."""
    config = prepared(tiny("train.steps=3", "train.save_minutes=0", "data.train=train,train,train"))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        trained(config)
    assert checkpoint.load(config.exp / "last.pt")["step"] == 3
    assert not (config.exp / "best.pt").exists()
    again = trained(config)
    assert again.finished and [rates[0] for rates in again.rates] == [3]
    assert checkpoint.load(config.exp / "best.pt")["step"] == 3


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the system takes what goes before and refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("most", [0, 1000, 20_000])
def test_a_full_disk_keeps_the_checkpoint_before_and_says_so(tmp_path: Path, most: int) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})
    with full_disk(most), pytest.raises(OSError, match=r"File too large: '.*last\.pt'") as raised:
        checkpoint.save(path, {"step": 2, "weights": torch.ones(10_000)})
    assert raised.value.errno == errno.EFBIG
    assert checkpoint.load(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.pt"], "half a file is left on the full disk"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a Linux device")
def test_no_space_left_is_told_by_its_name(tmp_path: Path) -> None:
    for content in (b"x" * 100_000, "x" * 100_000):
        (tmp_path / "a.partial").symlink_to("/dev/full")
        with pytest.raises(OSError, match=r"No space left on device: '.*/a'"):
            checkpoint.write_atomically(tmp_path / "a", content)
        assert os.listdir(tmp_path) == []


def test_training_on_a_full_disk_goes_on_where_it_was_once_there_is_room(tiny: Make) -> None:
    words = ["train.epochs=2", "train.save_minutes=0", "train.threads=1"]
    whole = trained(prepared(tiny("name=whole", *words)))
    config = prepared(tiny("name=full", *words))
    trained(tiny("name=full", "train.steps=2", "train.epochs=0", "train.save_minutes=0", "train.threads=1"))
    state = checkpoint.load(config.exp / "last.pt")
    with full_disk(30_000), pytest.raises(OSError, match=r"File too large: '.*\.pt'"):
        trained(config)
    assert checkpoint.load(config.exp / "last.pt")["step"] == state["step"]
    again = trained(config)
    assert again.step == whole.step and again.finished


class Harm:
    """Pickled, it asks whoever loads it to make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_a_checkpoint_made_to_harm_runs_nothing(tiny: Make, tmp_path: Path) -> None:
    config = tiny("train.epochs=1")
    best = untrained(config)
    harm = Harm(tmp_path / "harmed")
    whole = checkpoint.load(best)
    files = [
        pickle.dumps(harm), pickle.dumps({"model": harm}, 2), b"", b"PK\x03\x04", b"not a checkpoint",
        best.read_bytes()[:-200], best.read_bytes()[:100],
    ]  # fmt: skip
    for content in files:
        best.write_bytes(content)
        for use in (checkpoint.load, transcribe.Transcriber):
            with pytest.raises(ValueError, match=r"best\.pt must be a checkpoint of .* plain types, whole: \S"):
                use(best)
    for thing in ({**whole, "model": harm}, {**whole, "extra": [harm]}):
        torch.save(thing, best)
        with pytest.raises(ValueError, match=r"best\.pt must be a checkpoint of tensors and plain types"):
            evaluate.evaluate(best, config)
        torch.save(thing, config.exp / "last.pt")
        with pytest.raises(ValueError, match=r"last\.pt must be a checkpoint of tensors and plain types"):
            Trainer(config).resume()
    torch.save([1, 2], best)
    with pytest.raises(ValueError, match="which is a dictionary, got list"):
        checkpoint.load(best)
    assert not harm.folder.exists()
    harm.folder.parent.joinpath("proof").write_bytes(pickle.dumps(harm))
    pickle.loads(harm.folder.parent.joinpath("proof").read_bytes())
    assert harm.folder.exists(), "the file would do no harm anywhere"


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:os.mkdir [{folder}]",
        "name: !!python/object/new:os.mkdir [{folder}]",
        "name: !!python/name:os.mkdir",
        "name: !!python/module:os",
        "name: 'not closed",
        "\tname: x",
    ],
)
def test_settings_made_to_harm_run_nothing(tmp_path: Path, text: str) -> None:
    path, folder = tmp_path / "x.yaml", tmp_path / "harmed"
    path.write_text(text.format(folder=folder) + "\n")
    with pytest.raises(ValueError, match=r"x\.yaml must be plain YAML: "):
        configs.load(path)
    with pytest.raises(ValueError, match=r"model\.hidden must be plain YAML: "):
        configs.load(Path(configs.__file__).parent / "conf" / "demo.yaml", ["model.hidden=!!python/name:os.mkdir"])
    assert not folder.exists()


def test_settings_that_are_no_sections_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("- name\n- data\n")
    with pytest.raises(ValueError, match=r"x\.yaml must be sections of keys, got \['name', 'data'\]"):
        configs.load(tmp_path / "x.yaml")


STRANGE = [
    # what is said, what was recorded and at which rate, and what becomes of it
    ("ONE", (tones("ONE", 8000), 8000), ""),
    ("TWO", (tones("TWO", 44100), 44100), ""),
    ("THREE", (np.stack([tones("THREE")] * 2, axis=1), 16000), ""),
    ("FOUR", (np.zeros(16000), 16000), ""),
    ("ONE TWO", (np.full(16000, 0.25), 16000), ""),
    ("café", (tones("ONE ONE"), 16000), ""),
    (unicodedata.normalize("NFD", "café"), (tones("ONE ONE"), 16000), ""),
    ("", (tones("ONE"), 16000), "empty transcript"),
    ("一二", (tones("ONE ONE"), 16000), "unknown characters ('一' '二')"),
    ("TWO", (np.full(8000, np.nan), 16000), "unreadable (samples that are not numbers)"),
    ("TWO", (np.zeros(0), 16000), "unreadable (no samples)"),
]


def test_strange_recordings_are_used_or_told_of_from_stage_0_to_3(
    tiny: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other rates, stereo, silence and a constant, letters beyond ASCII are used; the rest has a line that says why."""
    chapter = tmp_path / "strange" / "train" / "7" / "1"
    chapter.mkdir(parents=True)
    for k, (_, (samples, rate), _) in enumerate(STRANGE):
        soundfile.write(chapter / f"7-1-{k:04d}.wav", samples, rate, subtype="FLOAT")
    rows = [f"7-1-{k:04d} {text}\n" for k, (text, _, _) in enumerate(STRANGE)]
    (chapter / "7-1.trans.txt").write_text("".join(rows), encoding="utf-8")
    words = ["data.train=train", "data.dev=train", "data.test=train", "data.alphabet= 'ABCDEFGHIJKLMNOPQRSTUVWXYZÉ"]
    config = tiny(f"data.root={chapter.parents[2]}", "train.epochs=2", *words)
    report = prepare_subset("train", config)
    assert "train: 7 utterances" in report and "dropped 4, 2 unreadable, 1 empty transcript, 1 unknown" in report
    dropped = (config.manifests / "train.dropped.txt").read_text(encoding="utf-8").splitlines()
    assert dropped == [f"7-1-{k:04d}: {reason}" for k, (_, _, reason) in enumerate(STRANGE) if reason]
    trainer = trained(config)
    assert len(trainer.rates) == 2 and np.isfinite(trainer.rates).all()
    for parameter in trainer.model.parameters():
        assert parameter.isfinite().all()
    assert "left out" not in caplog.text and "skipped" not in caplog.text
    (result,) = evaluate.evaluate(config.exp / "best.pt", config)
    assert (result["utterances"], result["unreadable"]) == (7, 0)
    said = (config.exp / "decode_train_greedy" / "ref.trn").read_text(encoding="utf-8").splitlines()
    assert said[5:] == ["CAFÉ (7-1-0005)", "CAFÉ (7-1-0006)"]


@pytest.mark.faults
def test_a_process_that_is_killed_ends_the_other_with_a_message(tiny: Make, recipe_home: Path) -> None:
    config = prepared(tiny("name=two", "train.epochs=200", "train.batch_seconds=2.5", "train.threads=1"))
    done = subprocess.run(
        command(recipe_home, config, "end=1:3", processes=2), capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr or "Signal 9" in done.stderr
    assert "process 0 of 2 cannot reach the others; has one of them ended?" in (config.exp / "log").read_text()

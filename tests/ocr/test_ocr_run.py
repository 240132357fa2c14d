"""The whole recipe in miniature, as run.sh does it, and what its checkpoint reads."""

from __future__ import annotations

import doctest
import importlib
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import numbactc
import ocr
import pages
import read
from common import checkpoint
from images import read_image, scaled
from learning import LineTrainer, confusions
from lines import read_manifests
from reader import LineReader, Reader, cells
from settings import Config, load

Make = Callable[..., Config]
CONF = Path(__file__).resolve().parents[2] / "recipes" / "ocr" / "conf"
pytestmark = [
    # TensorBoard's own, on Python 3.12 and NumPy 2.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.utils.tensorboard"),
]


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_loads_and_is_named_after_its_file(path: Path) -> None:
    assert load(path).name == path.stem


@pytest.mark.parametrize("module", ["images", "learning", "reader"])
def test_examples_of_the_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def run(config: Config, monkeypatch: pytest.MonkeyPatch, *stages: str, option: str = "") -> None:
    path = config.manifests.with_name(f"{config.name}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config.to_dict()))
    for stage in stages:
        monkeypatch.setattr(sys, "argv", ["ocr.py", stage, "--config", str(path), *option.split()])
        ocr.main()


def test_a_small_run_learns_and_is_evaluated_pictured_and_read(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["data.drawn=digits", "data.counts=240,20,30", "data.alphabet=0123456789", "optim.lr=1e-2"]
    words += ["train.epochs=3", "decode.methods=greedy,tokens", "decode.token_order=2", "decode.beam_size=4"]
    config = tiny(*words)
    run(config, monkeypatch, "data", "train")
    losses = [row[1] for row in checkpoint.load(config.exp / "last.pt")["rates"]]
    assert losses[-1] < losses[0]
    run(config, monkeypatch, "data", "train", "evaluate", option="--peer")
    peer = checkpoint.load(config.exp.with_name("tiny-torch") / "last.pt")
    assert peer["config"]["loss"]["package"] == "torch"
    theirs = [row[1] for row in peer["rates"]]
    assert theirs == pytest.approx(losses, rel=0.05)
    run(config, monkeypatch, "evaluate", "report")
    report = (config.exp / "report.md").read_text(encoding="utf-8")
    for name in ("curves", "line-best", "line-median", "line-worst", "errors"):
        assert f"({name}.png)" in report
        assert (config.exp / f"{name}.png").stat().st_size > 5000
    rows = ["| test | numbactc | 3 |", "| test | torch | 3 |", "| written | read | times |"]
    for part in ("exact match", "scikit-learn", *rows):
        assert part in report

    line = read_manifests(config, ["test"])[0]
    capsys.readouterr()
    options = ["--checkpoint", str(config.exp / "best.pt"), "--boxes", str(tmp_path / "boxes.png")]
    monkeypatch.setattr(sys, "argv", ["read.py", *options, line.image, "no-such.png"])
    with pytest.raises(SystemExit, match="1"):
        read.main()
    printed = capsys.readouterr()
    text = printed.out.splitlines()[0].removeprefix(f"{line.image}: ")
    assert len(printed.out.splitlines()) == 2 + len(text)
    assert "no-such.png" in printed.err
    for beam_size in (2, 3):
        run(tiny(*words, "decode.methods=tokens", f"decode.beam_size={beam_size}"), monkeypatch, "evaluate")
        assert LineReader(config.exp / "best.pt", "tokens").decoder.settings.beam_size == beam_size


@pytest.mark.parametrize("upsample", [1, 3])
def test_a_picture_of_a_line_is_as_wide_as_its_frames(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upsample: int
) -> None:
    config = tiny("data.drawn=digits", "data.counts=2,1,1", "data.alphabet=0123456789", f"model.upsample={upsample}")
    ocr.data(config)
    checkpoint.save(config.exp / "best.pt", LineTrainer(config).kept())
    reader, line = Reader(config.exp / "best.pt"), read_manifests(config, ["test"])[0]
    drawn = []
    original = numbactc.plot_alignment

    def plot(spans: Any, ink: torch.Tensor, **options: Any) -> Any:
        drawn.append((ink, options["frames"]))
        return original(spans, ink, **options)

    monkeypatch.setattr(numbactc, "plot_alignment", plot)
    pages.plot_line(reader, line, "a line", tmp_path / "line.png")
    ((ink, frames),) = drawn
    assert ink.shape[1] == frames * 2 / upsample
    assert 0 <= ink.shape[1] - scaled(read_image(line.image), 16).shape[1] < 2


@pytest.mark.parametrize("upsample", [1, 2])
def test_characters_lie_where_they_are_written(tiny: Make, upsample: int) -> None:
    config = tiny("data.drawn=digits", "data.counts=2,1,1", "data.alphabet=0123456789", f"model.upsample={upsample}")
    ocr.data(config)
    torch.manual_seed(0)
    config.train.steps = 1
    trainer = LineTrainer(config)
    checkpoint.save(config.exp / "best.pt", trainer.kept())
    reader = Reader(config.exp / "best.pt")
    image = read_image(read_manifests(config, ["test"])[0].image)
    log_probs = torch.full((len(reader.scores(image)), 11), -20.0)
    log_probs[:, 0] = -0.1
    log_probs[4] = log_probs[10] = -20.0
    log_probs[4, 3] = log_probs[10, 8] = -0.1
    three, seven = reader.characters(image, log_probs, [3, 8])
    assert (three.text, seven.text) == ("2", "7")
    a_frame = reader.columns_a_frame(image)
    assert a_frame == 2 / upsample * image.height / 16
    assert three.left <= 4 * a_frame < 5 * a_frame <= three.right == seven.left <= 10 * a_frame < seven.right
    assert three.confidence == pytest.approx(0.905, abs=1e-3)


def test_cells_share_the_gaps_and_stay_in_the_image() -> None:
    assert cells([], 10) == []
    assert cells([(4, 5)], 30) == [(0.0, 30)]
    assert cells([(1, 2), (8, 10)], 11) == [(0.0, 5.0), (5.0, 11)]


def test_confusions_count_each_character_of_a_stretch() -> None:
    counts = confusions(["1234", "AB"], ["1774", "ABCC"])
    assert counts == Counter({("2", "7"): 1, ("3", "7"): 1, ("", "C"): 2})


def test_a_part_of_an_epoch_is_no_epoch() -> None:
    """A run that its limit of time ends in the middle: 30 of its 130 steps are of an epoch that is not counted."""
    state = {"step": 130, "batch": 60, "epoch": 2, "seconds": 26.0, "config": {"train": {"accumulate": 2}}}
    assert pages.seconds_an_epoch(state) == pytest.approx(10.0)
    assert pages.seconds_an_epoch(state | {"epoch": 0, "batch": 260}) == 26.0

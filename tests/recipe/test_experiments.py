"""Tables of tricks and of throughput, in miniature."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import experiments
import throughput
from common import checkpoint
from common.config import overridden
from common.trainer import log
from config import RECIPE, Config
from data import Batch
from experiments import read_variants, table
from runs import prepared
from trainer import Trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.utils.tensorboard"),
]


def in_this_process(stage: str, arguments: list[str]) -> str:
    """As ``launch``, but where the modules are loaded and data/ and exp/ are the test's own."""
    before = sys.argv
    sys.argv = [stage, *arguments]
    try:
        runpy.run_path(str(RECIPE / stage), run_name="__main__")
    except ValueError as error:
        return str(error)
    finally:
        sys.argv = before
        while log.handlers:
            log.handlers[0].close()
            log.removeHandler(log.handlers[0])
    return ""


def test_variants_are_trained_and_compared_losers_and_failures_too(
    tiny: Callable[..., Config], recipe_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny("train.steps=9")
    (recipe_home / "tiny.yaml").write_text(yaml.safe_dump(config.to_dict()))
    (recipe_home / "variants.yaml").write_text("base:\nbroken: model.kernel=4\nother: model.hidden=16\n")
    monkeypatch.setattr(experiments, "launch", in_this_process)
    arguments = ["--config", str(recipe_home / "tiny.yaml"), "--variants", str(recipe_home / "variants.yaml")]
    monkeypatch.setattr(sys, "argv", ["experiments.py", *arguments, "train.steps=4"])
    experiments.main()
    table = (recipe_home / "exp" / "tiny-experiments.md").read_text()
    assert capsys.readouterr().out.endswith(table + "\n")
    base, broken, other = table.splitlines()[-3:]
    assert base.startswith("| base | as it is | 0.02 |")
    assert base.endswith("| +0.0 % |")
    assert broken.startswith("| broken | `model.kernel=4` | train.py failed: model.kernel must be odd, got 4 |")
    assert other.startswith("| other | `model.hidden=16` | 0.01 |")
    assert base.count("|") == broken.count("|") == other.count("|")
    for name in ("base", "other"):
        assert checkpoint.load(recipe_home / "exp" / f"tiny-{name}" / "last.pt")["step"] == 4


def test_a_stage_that_fails_says_why() -> None:
    assert "no-such.yaml" in experiments.launch("prepare.py", ["--config", "no-such.yaml"])


def test_throughput_is_measured_with_both_losses_on_the_same_batches(
    tiny: Callable[..., Config], recipe_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prepared(tiny("train.epochs=1"))
    (recipe_home / "tiny.yaml").write_text(yaml.safe_dump(config.to_dict()))
    train_step = Trainer.train_step
    seen: list[tuple[str, list[str]]] = []

    def watched(self: Trainer, batches: Sequence[tuple[int, Batch]], progress: float) -> float:
        seen.extend((self.objective.config.package, [u.id for u in batch.utterances]) for _, batch in batches)
        return train_step(self, batches, progress)

    monkeypatch.setattr(Trainer, "train_step", watched)
    arguments = ["--config", str(recipe_home / "tiny.yaml"), "--steps", "3", "--hours", "1000", "train.epochs=30"]
    monkeypatch.setattr(sys, "argv", ["throughput.py", *arguments])
    throughput.main()
    assert [name for name, _ in seen] == ["numbactc", "torch", "torch", "numbactc"] * 2 + ["numbactc", "torch"]
    assert [names for _, names in seen[::2]] == [names for _, names in seen[1::2]]
    result = json.loads((config.exp / "throughput.json").read_text())
    assert len(result["audio"]) == len(result["seconds"]["numbactc"]) == len(result["seconds"]["torch"]) == 3
    printed = capsys.readouterr().out
    for name in ("numbactc", "torch"):
        hours = sum(result["audio"]) / sum(result["seconds"][name])
        assert result["hours_per_hour"][name] == pytest.approx(hours)
        assert f"{name}: {hours:.0f} hours of speech an hour, cpu, float32" in printed
    estimate = 30 * 1000 / result["hours_per_hour"]["numbactc"]
    assert f"estimate: 30 epochs of 1000.0 h take {estimate:.1f} h" in printed
    assert result["ratio"]["lowest"] <= result["ratio"]["median"] <= result["ratio"]["highest"]
    assert not (config.exp / "last.pt").exists()


def test_error_rates_are_compared_to_those_of_the_first() -> None:
    found: dict[str, Any] = {"parameters": 1.0, "minutes": 2.0, "steps": 3, "epochs": 4, "dev loss": 0.5, "CER": 20.0}
    found["environment"] = {"machine": "another machine; bfloat16", "versions": "torch 2", "commit": "abc"}
    variants = {"base": [], "worse": ["optim.lr=1"], "better": ["optim.lr=2", "train.seed=2"]}
    outcomes = {"base": found | {"WER": 50.0}, "worse": found | {"WER": 60.0}, "better": found | {"WER": 45.0}}
    text = table(variants, outcomes, Config())
    assert "- machine: another machine; bfloat16\n- versions: torch 2\n- commit: abc\n" in text  # of the training
    rows = text.splitlines()[-3:]
    assert [row.split("|")[-2].strip() for row in rows] == ["+0.0 %", "+20.0 %", "-10.0 %"]
    assert "`optim.lr=2 train.seed=2`" in rows[2]


@pytest.mark.parametrize("text", ["", "- base\n", "base: [1]\n", "base: model.hidden 3\n"])
def test_a_file_that_is_no_list_of_variants_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "variants.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"variants\.yaml must"):
        read_variants(tmp_path / "variants.yaml")


def test_every_variant_that_is_shipped_is_a_setting_there_is() -> None:
    variants = read_variants(RECIPE / "variants.yaml")
    assert next(iter(variants)) == "base"
    assert not variants["base"]
    for words in variants.values():
        overridden(Config(), words)

"""Tables of tricks and of throughput, in miniature."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import experiments
from config import RECIPE, Config, overridden
from experiments import read_variants, table

AT_HOME = """
import runpy, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import config
config.RECIPE = Path(sys.argv[2])
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_variants_are_trained_and_compared_losers_and_failures_too(
    tiny: Callable[..., Config], recipe_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny("train.epochs=1")
    (recipe_home / "tiny.yaml").write_text(yaml.safe_dump(config.to_dict()))
    (recipe_home / "variants.yaml").write_text("base:\nbroken: model.kernell=4\n")
    started: list[str] = []

    def command(stage: str, arguments: list[str]) -> list[str]:
        started.append(stage)
        return [sys.executable, "-c", AT_HOME, str(RECIPE), str(recipe_home), str(RECIPE / stage), *arguments]

    monkeypatch.setattr(experiments, "command", command)
    arguments = ["--config", str(recipe_home / "tiny.yaml"), "--variants", str(recipe_home / "variants.yaml")]
    monkeypatch.setattr(sys, "argv", ["experiments.py", *arguments, "train.steps=4"])
    experiments.main()
    assert started == [*experiments.STAGES, "prepare.py"]
    rows = (recipe_home / "exp" / "tiny-experiments.md").read_text().splitlines()
    assert rows[-2].startswith("| base | as it is | 0.0")
    assert rows[-2].endswith("| +0.0 % |")
    assert rows[-1].startswith(
        "| broken | `model.kernell=4` | prepare.py failed: ValueError: unknown key 'model.kernell'"
    )
    assert len({row.count("|") for row in rows[-4:]}) == 1
    assert rows[-1] in capsys.readouterr().out


def test_error_rates_are_compared_to_those_of_the_first() -> None:
    found = {"parameters": 1.0, "minutes": 2.0, "steps": 3, "epochs": 4, "dev loss": 0.5, "CER": 20.0}
    variants = {"base": [], "worse": ["optim.lr=1"], "better": ["optim.lr=2", "train.seed=2"]}
    outcomes = {"base": found | {"WER": 50.0}, "worse": found | {"WER": 60.0}, "better": found | {"WER": 45.0}}
    rows = table(variants, outcomes, Config()).splitlines()[-3:]
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

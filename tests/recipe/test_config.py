"""Settings: what is read, converted, and refused by name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from common.config import overridden
from config import Config, load
from model import AcousticModel

CONF = Path(__file__).resolve().parents[2] / "recipes" / "librispeech" / "conf"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_loads_and_is_named_after_its_file(path: Path) -> None:
    assert load(path).name == path.stem


def test_overrides_are_converted_to_the_type_of_the_setting() -> None:
    config = overridden(
        Config(),
        ["optim.lr=5e-4", "model.strides=[2,1]", "data.train=a,b", "train.minutes=3", "model.inter_layers=1,2"],
    )
    assert config.optim.lr == 5e-4
    assert config.model.strides == [2, 1]
    assert config.data.train == ["a", "b"]
    assert config.model.inter_layers == [1, 2]  # integers, though the default is empty
    assert isinstance(config.train.minutes, float)


@pytest.mark.parametrize("path", ["my words #2.txt", "a: b", "2026", "null", "[x]"])
def test_a_path_is_text_whatever_yaml_would_make_of_it(path: str) -> None:
    config = overridden(Config(), [f"decode.vocabulary={path}", f"decode.lm={path}", f"train.init={path}"])
    assert config.decode.vocabulary == config.decode.lm == config.train.init == path


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.hiden=3", "unknown key 'model.hiden'.*model.hidden"),
        ("modle.hidden=3", "unknown key 'modle'"),
        ("model.hidden=wide", "model.hidden must be int, got 'wide'"),
        ("model.hidden=2.5", "model.hidden must be int, got 2.5"),
        ("model.hidden", "key=value, got 'model.hidden'"),
        ("model=3", "model must be a section"),
    ],
)
def test_a_wrong_override_is_an_error_that_names_it(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overridden(Config(), [word])


def test_a_wrong_key_in_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("optim:\n  learning_rate: 1\n")
    with pytest.raises(ValueError, match=r"optim\.learning_rate"):
        load(tmp_path / "x.yaml")


def test_yaml_makes_no_python_objects(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(Exception, match="could not determine a constructor"):
        load(tmp_path / "x.yaml")


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_says_how_many_parameters_it_has(path: Path) -> None:
    config = load(path)
    model = AcousticModel(config.features, config.model, config.data.bpe or 1 + len(config.data.alphabet))
    parameters = sum(p.numel() for p in model.parameters())
    assert f" {parameters / 1e6:.2f} M parameters" in path.read_text().splitlines()[0]


@pytest.mark.parametrize("recipe", ["librispeech", "ocr"])
def test_the_script_takes_every_path_from_where_the_user_stands(recipe: str, tmp_path: Path) -> None:
    words = {"data.root": "corpus", "decode.lm": "lm.arpa", "decode.vocabulary": "lists/words.txt"}
    if recipe == "librispeech":
        words["data.noise"] = "noises"
    (tmp_path / "lists").mkdir()
    for place in words.values():
        (tmp_path / place).touch()
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "python").write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    script = CONF.parents[1] / recipe / "run.sh"
    command = ["bash", str(script), "--config", "mine.yaml", "--stage", "2", "--stop-stage", "2"]
    command += [f"{key}={place}" for key, place in words.items()]
    environment = os.environ | {"PYTHON": "./python", "CDPATH": f"{tmp_path}:."}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    # what stage 2 is run with, by the interpreter that was asked for
    assert f"\n{tmp_path}\n" in done.stdout  # a file of settings may hold paths too
    for key, place in words.items():
        assert f"\n{key}={tmp_path / place}\n" in done.stdout
    assert f"\n{tmp_path / 'mine.yaml'}\n" in done.stdout
    missing = [*command, "decode.lm=worst.arpa"]
    done = subprocess.run(missing, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "decode.lm must exist, got worst.arpa" in done.stderr


def test_manifests_know_their_audio_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert overridden(Config(), ["data.root=corpus"]).root == tmp_path / "corpus"

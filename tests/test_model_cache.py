"""Models on disk: files are parsed once, a cache is never out of date, and is not needed."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arpa_files import SMALL, written
from numbactc import _arpa, _model_cache
from numbactc.kernels.automata import Automaton
from numbactc.language_model import NgramLM
from processes import REPOSITORY, TIMEOUT_S


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refuse(*_: object) -> None:
    raise AssertionError("the file is parsed again")


def test_a_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, SMALL)
    first = NgramLM.read(path)
    monkeypatch.setattr(_arpa, "parse", refuse)
    again = NgramLM.read(path)
    assert again.vocabulary == first.vocabulary and repr(again) == repr(first)
    for field, its, other in zip(Automaton._fields, again.automaton, first.automaton, strict=True):
        assert its.dtype == other.dtype and (its == other).all(), field
    with pytest.raises(AssertionError, match="parsed again"):
        NgramLM.read(path, cache=False)


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    """Even one of the same name, size and time."""
    path = written(tmp_path, SMALL)
    before, stamp = NgramLM.read(path).score("the"), path.stat()
    written(tmp_path, SMALL.replace("-0.2\t<s> the", "-0.3\t<s> the"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert NgramLM.read(path).score("the") == pytest.approx(before - 0.1 * math.log(10))


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:100], lambda content: content[:-30],
                                    lambda content: content.replace(b"cat", b"dog", 1)])  # fmt: skip
def test_a_damaged_cache_is_not_used(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = written(tmp_path, SMALL)
    NgramLM.read(path)
    (kept,) = (tmp_path / "cache" / "numbactc" / "language-models").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert NgramLM.read(path).score("the cat sat") / math.log(10) == pytest.approx(-1.05)
    assert _model_cache.read(kept.name) is not None, "written anew"


def test_no_cache_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(written(tmp_path, "a file, not a folder", "cache")))
    assert NgramLM.read(written(tmp_path, SMALL)).score("the cat sat") / math.log(10) == pytest.approx(-1.05)


def test_many_processes_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    script = f"from numbactc.language_model import NgramLM\nprint(NgramLM.read({str(path)!r}).score('the cat sat'))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    running = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=TIMEOUT_S)[0] for process in running}) == 1
    assert not any(process.returncode for process in running)
    files = list((tmp_path / "cache" / "numbactc" / "language-models").iterdir())
    assert [file.suffix for file in files] == [".npz"]

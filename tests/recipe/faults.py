"""Stages 0 to 3 killed again and again, and what they leave, next to those of a run that nobody disturbed.

    python faults.py FOLDER --kills 20 --seed 1

Between two changes of files nothing on disk tells one moment from another. So the moments to kill at are the changes:
each opening of a file to write, each renaming, each removal. Half of the kills also leave the last file that was opened
half written, as far as it was not yet in its place. Every run is a fork of this process, which imports and computes
nothing more: a run takes a second.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import numba  # noqa: F401  once, not in every run
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "librispeech"))

import config as configs
import evaluate
import normalisation
import prepare
import train
import vocabulary
from common import checkpoint
from common.config import overridden
from tones import TEXTS, write_corpus

STAGES = [prepare, vocabulary, normalisation, train, evaluate]
WORDS = [
    "name=tiny", "data.bpe=32", "data.speeds=[0.9,1.0]", "features.normalise=global", "features.n_mels=20",
    "features.freq_width=2", "features.time_width=2", "model.hidden=16", "model.channels=16", "model.layers=1",
    "optim.lr=1e-2", "optim.average=0.8", "train.batch_seconds=4", "train.precision=float32", "train.threads=1",
    "train.steps=5", "train.save_minutes=0", "decode.beam_size=4", "decode.word_order=2",
]  # fmt: skip
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


class Kill:
    """Ends this process at its ``moment``-th change of a file under ``home``; with ``torn``, the last file is cut."""

    def __init__(self, home: Path, moment: int, torn: float | None, seen: Any) -> None:
        self.home, self.moment, self.torn, self.seen = str(home), moment, torn, seen
        self.last = ""
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not (opens or event in CHANGES) or not str(arguments[0]).startswith(self.home):
            return
        self.seen[0] += 1
        if self.seen[0] == self.moment:
            if self.torn is not None and os.path.isfile(self.last):
                os.truncate(self.last, int(self.torn * os.path.getsize(self.last)))
            os.kill(os.getpid(), signal.SIGKILL)
        if opens:
            self.last = str(arguments[0])


def run(home: Path, stages: int, moment: int = 0, torn: float | None = None) -> tuple[bool, int, int]:
    """Stages in a process of its own: whether it was killed, in which stage, and how many changes it had made."""
    seen = RawArray("q", 2)
    child = os.fork()
    if child == 0:
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
            configs.RECIPE = home
            sys.argv = ["a stage", "--config", str(home.parent / "tiny.yaml")]
            Kill(home, moment, torn, seen)
            for number, stage in enumerate(STAGES[:stages]):
                seen[1] = number
                stage.main()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a run could not go on after a kill: exit status {status}")
    return status != 0, seen[1], seen[0]


def plain(value: Any) -> Any:
    """A checkpoint or a result as text without what the clock says, to the last bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items() if key not in ("seconds", "legs")}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else repr(value)


def left(home: Path) -> dict[str, Any]:
    """All that is on disk, but for what is meant for people who watch."""
    found: dict[str, Any] = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if path.suffix == ".pt":
            found[name] = plain(checkpoint.load(path))
        elif path.name == "result.json":
            found[name] = plain(json.loads(path.read_text()))
        elif path.suffix == ".gz":
            found[name] = gzip.decompress(path.read_bytes())
        elif path.is_file() and path.name != "log" and "tensorboard" not in path.parts:
            found[name] = path.read_bytes()
    return found


def differences(home: Path, undisturbed: Path) -> list[str]:
    found, expected = left(home), left(undisturbed)
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def prepared(folder: Path, methods: str = "greedy") -> None:
    """A corpus of tones and settings."""
    for subset in ("train", "dev", "test"):
        transcripts = write_corpus(folder / "corpus", subset, TEXTS) / "7-1.trans.txt"
        # too much for its audio: stage 1 drops it
        transcripts.write_text(transcripts.read_text().replace("7-1-0007 FOUR", "7-1-0007" + 40 * " FOUR"))
    config = overridden(configs.Config(), [*WORDS, f"data.root={folder / 'corpus'}", f"decode.methods={methods}"])
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config.to_dict()))


def every_moment(folder: Path, stages: int, methods: str) -> int:
    """Kill at each change in turn, with the last file half written, and go on; returns how many kills there were."""
    prepared(folder, methods)
    _, _, changes = run(folder / "whole", stages)
    for moment in range(1, changes + 1):
        home = folder / "killed"
        shutil.rmtree(home, ignore_errors=True)
        assert run(home, stages, moment, 0.5)[0]
        assert not run(home, stages)[0]
        if lost := differences(home, folder / "whole"):
            raise AssertionError(f"killed at change {moment} of {changes}: {', '.join(lost)}")
    return changes


def at_random(folder: Path, kills: int, seed: int, methods: str) -> dict[str, Any]:
    """Kill until there were so many, always going on with what is left; returns how many kills hit which stage."""
    prepared(folder, methods)
    draw = random.Random(seed)
    _, _, changes = run(folder / "whole", len(STAGES))
    hit: Counter[str] = Counter()
    runs = 0
    while hit.total() < kills:
        home = folder / "killed"
        shutil.rmtree(home, ignore_errors=True)
        killed, runs = True, runs + 1
        while killed:
            moment = draw.randint(1, changes) if hit.total() < kills else 0
            killed, stage, _ = run(home, len(STAGES), moment, draw.choice([None, draw.random()]))
            if killed:
                hit[STAGES[stage].__name__] += 1
        if lost := differences(home, folder / "whole"):
            raise AssertionError(f"run {runs}, seed {seed}, differs from the undisturbed one in {', '.join(lost)}")
    return {"kills": dict(hit), "runs": runs, "changes": changes, "files": len(left(folder / "whole"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", default="greedy,words", help="of decoding; greedy alone is fast")
    parser.add_argument("--every-moment", action="store_true", help="in turn, instead of random ones")
    parser.add_argument("--stages", type=int, default=3, help="scripts that run then: 3 are stages 0 and 1, 5 all")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.every_moment:
        print(json.dumps({"kills": every_moment(args.folder, args.stages, args.methods)}))
    else:
        print(json.dumps(at_random(args.folder, args.kills, args.seed, args.methods)))


if __name__ == "__main__":
    main()

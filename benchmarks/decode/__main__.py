"""One command for everything: search, alignment and first use, as JSON and as tables.

    python -m benchmarks.decode                                   # everything, from the root of the repository
    python -m benchmarks.decode --parts align,paths --out /tmp/quick.json

Each group of tasks and each number of threads is a process; they run one after the other. What is measured is added to
the file as it comes, in place of what it has of that part, so that a run can be made in pieces.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.decode import align, firsts, report
from benchmarks.decode.aligners import ALIGNERS
from benchmarks.decode.peers import SEARCHERS
from benchmarks.decode.tasks import search_tasks, write_models
from benchmarks.environment import ROOT, describe
from benchmarks.report import Document
from benchmarks.rows import Row
from benchmarks.run import thread_counts

PARTS = ("search", "align", "memory", "paths", "firsts")


def _apart(module: str, *arguments: str) -> list[Row]:
    command = [sys.executable, "-m", f"benchmarks.decode.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    rows: list[Row] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _threads(options: argparse.Namespace) -> list[str]:
    return [str(count) for count in thread_counts(options.threads)]


def measure_search(options: argparse.Namespace) -> list[Row]:
    """A process for each number of threads."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.models or Path(temporary)
        if not any(folder.glob("*.arpa")):
            write_models(folder)
        given = ["--models", str(folder), "--tasks", options.tasks]
        given += ["--rounds", str(options.rounds), "--budget", str(options.budget)]
        return [row for count in _threads(options) for row in _apart("search", "--threads", count, *given)]


def measure(part: str, options: argparse.Namespace) -> list[Row]:
    """The rows of a part."""
    if part == "search":
        return measure_search(options)
    if part == "align":
        return [row for count in _threads(options) for row in _apart("align", "--part", "speed", "--threads", count)]
    if part == "memory":
        return align.measure_memory(list(ALIGNERS))
    if part == "paths":
        return _apart("align", "--part", "paths")
    return firsts.measure(list(firsts.WHATS))


def _key(row: Row) -> str:
    names = ("units", "difficulty", "beam", "cut", "model", "T", "N", "L", "threads", "peer")
    return str([row.get(name) for name in names])


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the JSON file and the tables, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--tasks", default=":", help=f"a slice of the {len(search_tasks())} tasks of search")
    parser.add_argument("--threads", default="1,all", help="numbers of threads, or all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for one task, all peers")
    parser.add_argument("--models", type=Path, help="a folder that keeps the language models for the next run")
    parser.add_argument("--note", help="a line for the report, such as who else used the machine")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/decode.json")
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    document: Document = json.loads(options.out.read_text()) if options.out.exists() else {}
    start = time.perf_counter()
    document["environment"] = describe(shlex.join(["python", "-m", "benchmarks.decode", *given]))
    document["peers"] = {name: peer.version for name, peer in SEARCHERS.items()}
    document["peers"] |= {name: aligner.version for name, aligner in ALIGNERS.items()}
    if options.note:
        document["note"] = options.note
    for part in filter(None, options.parts.split(",")):
        rows = measure(part, options)
        if part in ("search", "align"):  # rows that are not measured now stay
            new = {_key(row): row for row in rows}
            rows = [new.pop(_key(row), row) for row in document.get(part, [])] + list(new.values())
        document[part] = rows
    document["elapsed_s"] = round(time.perf_counter() - start, 1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(report.write(options.out))


if __name__ == "__main__":
    main()

"""What comes first: compilation, from nothing and from the cache, and reading an ARPA file of a million n-grams.

    python -m benchmarks.decode.firsts --what beam_search_decode

prints one JSON row, of this process and of whatever caches `NUMBA_CACHE_DIR` and `XDG_CACHE_HOME` name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decode.rows import FirstRow
from benchmarks.environment import ROOT
from benchmarks.peers import missing, version_of
from benchmarks.rows import OK, Row, failed, not_installed
from benchmarks.timing import single_ms

NGRAMS = (50_000, 450_000, 500_000)
"""N-grams of each order in the large file: a million."""
TINY = "tiny.arpa"
LARGE = "large.arpa"


def write_tiny(path: Path) -> None:
    """A model of two words, for compiling the search that has one."""
    lines = ["\\data\\", "ngram 1=4", "", "\\1-grams:", "-1 <s>", "-1 </s>", "-0.5 a", "-0.5 b", "", "\\end\\"]
    path.write_text("\n".join(lines) + "\n")


def write_large(path: Path) -> None:
    """Random n-grams of 50,000 words: with each of them are all that it contains, as in a file from a toolkit.

    KenLM refuses a file in which they are not, once many are missing.
    """
    generator = np.random.default_rng(0)
    words = ["<unk>", "<s>", "</s>", *(f"w{index}" for index in range(NGRAMS[0] - 3))]
    pairs = np.unique(generator.integers(3, len(words), (NGRAMS[1] * 11 // 10, 2)), axis=0)
    pairs = np.unique(generator.permutation(pairs)[: NGRAMS[1]], axis=0)
    # a pair, and one of those that begin where it ends: rows are sorted
    heads = pairs[generator.integers(0, len(pairs), NGRAMS[2] * 11 // 10)]
    first, stop = (np.searchsorted(pairs[:, 0], heads[:, 1], side) for side in ("left", "right"))
    tails = pairs[np.minimum(generator.integers(first, np.maximum(stop, first + 1)), len(pairs) - 1)]
    triples = np.unique(np.column_stack([heads, tails[:, 1]])[heads[:, 1] == tails[:, 0]], axis=0)
    triples = generator.permutation(triples)[: NGRAMS[2]]
    with path.open("w") as file:
        file.write("\\data\\\n" + "".join(f"ngram {order}={count}\n" for order, count in enumerate(NGRAMS, 1)))
        for order, grams in enumerate((np.arange(len(words))[:, None], pairs, triples), 1):
            scores = -6 * generator.random((len(grams), 2))
            back = "\t{:.4f}\n" if order < 3 else "\n"
            file.write(f"\n\\{order}-grams:\n")
            file.writelines(
                f"{score:.4f}\t{' '.join(words[word] for word in gram)}" + back.format(backoff / 6)
                for gram, (score, backoff) in zip(grams.tolist(), scores.tolist(), strict=True)
            )
        file.write("\n\\end\\\n")


def _scores() -> Any:
    torch = importlib.import_module("torch")
    return torch.log_softmax(torch.randn(20, 1, 6, generator=torch.Generator().manual_seed(0)), dim=-1)


def _greedy(_: Path) -> Callable[[], object]:
    numbactc, scores = importlib.import_module("numbactc"), _scores()
    return lambda: numbactc.greedy_decode(scores)


def _search(_: Path) -> Callable[[], object]:
    numbactc, scores = importlib.import_module("numbactc"), _scores()
    return lambda: numbactc.beam_search_decode(scores, beam_size=16)


def _search_words(folder: Path) -> Callable[[], object]:
    numbactc, scores = importlib.import_module("numbactc"), _scores()

    def call() -> object:
        lexicon = numbactc.Lexicon.from_characters(["a", "b"], ["", " ", "a", "b", "c", "d"])
        model = numbactc.NgramLM.read(folder / TINY)
        return numbactc.beam_search_decode(scores, beam_size=16, language_model=model, lexicon=lexicon)

    return call


def _align(_: Path) -> Callable[[], object]:
    numbactc, torch, scores = importlib.import_module("numbactc"), importlib.import_module("torch"), _scores()
    return lambda: numbactc.forced_align(scores, torch.tensor([[1, 2, 3]]), [20], [3])


def _read(folder: Path) -> Callable[[], object]:
    numbactc = importlib.import_module("numbactc")
    return lambda: numbactc.NgramLM.read(folder / LARGE)


def _read_kenlm(folder: Path) -> Callable[[], object]:
    kenlm = importlib.import_module("kenlm")
    return lambda: kenlm.Model(str(folder / LARGE))


READS = "reading a million n-grams"
WHATS: dict[tuple[str, str], Callable[[Path], Callable[[], object]]] = {
    ("greedy_decode", "numbactc"): _greedy,
    ("beam_search_decode", "numbactc"): _search,
    ("beam_search_decode with words", "numbactc"): _search_words,
    ("forced_align", "numbactc"): _align,
    (READS, "numbactc"): _read,
    (READS, "kenlm"): _read_kenlm,
}


def measure_here(what: str, peer: str, cache: str, folder: Path) -> Row:
    """Import, first and second call in this process, which must be fresh."""
    importlib.import_module("torch")
    import_ms = single_ms(lambda: importlib.import_module(peer))
    call = WHATS[what, peer](folder)
    return asdict(FirstRow(what, peer, cache, OK, version_of(peer), import_ms, single_ms(call), single_ms(call)))


def measure(whats: list[tuple[str, str]]) -> list[Row]:
    """For each, two fresh processes on one new cache folder: the second finds what the first left."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny(folder / TINY)
        if any(what == READS for what, _ in whats):
            write_large(folder / LARGE)
        for number, (what, peer) in enumerate(whats):
            caches = {"NUMBA_CACHE_DIR": str(folder / f"{number}"), "XDG_CACHE_HOME": str(folder / f"{number}")}
            for cache in ("cold", "warm"):
                print(f"first use: {what}, {peer}, {cache}", file=sys.stderr, flush=True)
                rows.append(_measure_apart(what, peer, cache, folder, os.environ | caches))
    return rows


def _measure_apart(what: str, peer: str, cache: str, folder: Path, environment: dict[str, str]) -> Row:
    if lost := missing([peer]):
        return asdict(FirstRow(what, peer, cache, not_installed(lost)))
    command = [sys.executable, "-m", "benchmarks.decode.firsts", "--what", what, "--peer", peer]
    command += ["--cache", cache, "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return asdict(FirstRow(what, peer, cache, failed(RuntimeError(f"exit status {done.returncode}"))))
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def main(arguments: list[str] | None = None) -> None:
    """Measure one thing in this process and print the row as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=sorted({what for what, _ in WHATS}), required=True)
    parser.add_argument("--peer", default="numbactc")
    parser.add_argument("--cache", default="unknown")
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args(arguments)
    print(json.dumps(measure_here(options.what, options.peer, options.cache, options.folder)))


if __name__ == "__main__":
    main()

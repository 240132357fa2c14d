"""Stage 1, tokens: characters as class numbers, blank 0.

>>> Tokens("AB ").encode("A BAB")
[1, 3, 2, 1, 2]
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import config as configs

BLANK = 0


class Tokens:
    """Character k of ``alphabet`` is class k + 1; class 0 is the blank."""

    def __init__(self, alphabet: str) -> None:
        if not alphabet or len(set(alphabet)) != len(alphabet):
            raise ValueError(f"alphabet must hold each character once and at least one, got {alphabet!r}")
        self.alphabet = alphabet
        self.labels = ["", *alphabet]
        self.separator = self.labels.index(" ") if " " in alphabet else None
        self.begins_word: list[bool] | None = None
        self._index = {c: k + 1 for k, c in enumerate(alphabet)}

    def __len__(self) -> int:
        """Number of classes, the blank included."""
        return len(self.alphabet) + 1

    def unknown(self, text: str) -> list[str]:
        """The characters of ``text`` outside the alphabet, sorted."""
        return sorted(set(text) - set(self.alphabet))

    def encode(self, text: str) -> list[int]:
        """Text to class numbers; ValueError names the unknown characters."""
        if unknown := self.unknown(text):
            raise ValueError(f"text must be written in the alphabet {self.alphabet!r}, got {unknown} in {text!r}")
        return [self._index[c] for c in text]

    def decode(self, labels: Sequence[int]) -> str:
        """Class numbers, blanks already gone, to text."""
        return "".join(self.alphabet[k - 1] for k in labels)


def collapse(path: Sequence[int]) -> list[int]:
    """A frame-by-frame path to labels: repeats merged, then blanks dropped.

    >>> collapse([0, 1, 1, 0, 1, 2, 2])
    [1, 1, 2]
    """
    return [k for t, k in enumerate(path) if k != BLANK and (t == 0 or path[t - 1] != k)]


def frames_needed(text: str) -> int:
    """Fewest frames a CTC path of ``text`` can have: its length, and a blank between each pair of repeats.

    >>> frames_needed("BALL")
    5
    """
    return len(text) + sum(a == b for a, b in pairwise(text))


def main() -> None:
    parser = configs.argument_parser(__doc__)
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    tokens = Tokens(config.data.alphabet)
    counts: Counter[str] = Counter()
    for subset in config.data.train:
        for line in Path(config.manifests / f"{subset}.jsonl").read_text(encoding="utf-8").splitlines():
            counts.update(json.loads(line)["text"])
    rows = ["<blank> 0"] + [f"{'<space>' if c == ' ' else c} {k} {counts[c]}" for k, c in enumerate(tokens.alphabet, 1)]
    path = config.manifests / "tokens.txt"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(tokens)} classes, {counts.total()} characters in {', '.join(config.data.train)} -> {path}")
    if unseen := [c for c in tokens.alphabet if not counts[c]]:
        print(f"never seen in training: {' '.join(unseen)}")


if __name__ == "__main__":
    main()

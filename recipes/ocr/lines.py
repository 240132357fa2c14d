"""Folders of line images: what they hold, and manifests of what of it can be used.

A folder of lines has a file labels.tsv (or labels.txt), a line each: the image's file, a tab (or, in labels.txt without
tabs, spaces), the text; in a .tsv a third column may say what the text is written in, such as a font or a writer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from common.checkpoint import write_atomically
from settings import Config

LABELS = ("labels.tsv", "labels.txt")


@dataclass(frozen=True)
class Line:
    """A line of a manifest.

    Attributes:
        id: its image's path in the folder. image: where that is.
        columns, rows: of pixels.
        text: what it says. source: what it is written in.
    """

    nouns: ClassVar[tuple[str, str]] = ("line", "source")

    id: str
    image: str
    columns: int
    rows: int
    text: str
    source: str


class Label(NamedTuple):
    """A line of labels.tsv; ``image`` is its path in the folder."""

    image: str
    text: str
    source: str


def labels_of(folder: Path) -> list[Label]:
    """All that labels.tsv or labels.txt of a folder lists."""
    path = next((folder / name for name in LABELS if (folder / name).exists()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} must hold {' or '.join(LABELS)}: a line each, image file, tab, text")
    found = []
    # bytes that are not UTF-8 become a character that no alphabet has: the line is dropped and reported
    for row in path.read_text(encoding="utf-8-sig", errors="replace").split("\n"):
        row = row.rstrip("\r")
        if not row.strip():
            continue
        name, tab, rest = row.partition("\t")
        if not tab:
            name, _, rest = row.strip().partition(" ")
        text, _, source = rest.partition("\t") if path.suffix == ".tsv" else (rest, "", "")
        found.append(Label(name, " ".join(text.split()), source.strip() or folder.name))
    return found


def write_manifest(path: Path, lines: Sequence[Line]) -> None:
    write_atomically(path, "".join(json.dumps(asdict(line)) + "\n" for line in lines))


def read_manifest(path: Path) -> list[Line]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run stage 0 (./run.sh --stage 0 --stop-stage 0)")
    with path.open(encoding="utf-8") as rows:
        return [Line(**json.loads(row)) for row in rows]


def read_manifests(config: Config, subsets: Sequence[str]) -> list[Line]:
    """The lines that stage 0 accepted."""
    return [line for subset in subsets for line in read_manifest(config.manifests / f"{subset}.jsonl")]


def read_alphabet(config: Config) -> str:
    """``data.alphabet``, or what stage 0 found in the training texts."""
    return config.data.alphabet or (config.manifests / "alphabet.txt").read_text(encoding="utf-8")

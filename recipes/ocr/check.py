"""Stage 0: folders of line images to validated manifests, and a report of what was dropped and why."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from common.checkpoint import write_atomically
from common.recurrent import output_frames
from common.tokens import Characters
from images import SUFFIXES, columns_at, read_image
from lines import LABELS, Label, Line, labels_of, write_manifest
from settings import Config

SHARES = {"dev": 0.1, "test": 0.1}  # of a folder that is not dealt out yet


def check(folder: Path, label: Label, alphabet: str, config: Config, training: bool) -> tuple[Line | None, str, str]:
    """The line, or None with the reason and its details.

    What is too wide, or too narrow for its text, is left out of training only: leaving it out of a test would flatter
    that, and a test set would depend on the model.
    """
    path = folder / label.image
    if not path.is_file():
        return None, "no such image", ""
    if not label.text:
        return None, "empty text", ""
    if unknown := Characters(alphabet).unknown(label.text):
        return None, "unknown characters", " ".join(map(repr, unknown))
    try:
        columns, rows = read_image(path).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return None, "unreadable", str(error)
    scaled = columns_at((columns, rows), config.images.height)
    if training and scaled > config.data.max_columns:
        return None, "too wide", f"{scaled} columns at {config.images.height} rows, at most {config.data.max_columns}"
    frames = output_frames(scaled, config.model.columns, config.model.upsample)
    needed = Characters(alphabet).frames_needed(label.text)
    if training and needed > frames:
        return None, "too narrow for its text", f"{frames} frames of scores, {needed} needed"
    return Line(label.image, str(path), columns, rows, label.text, label.source), "", ""


def sorted_out(
    folder: Path, labels: Sequence[Label], alphabet: str, config: Config, training: bool
) -> tuple[list[Line], list[tuple[str, str, str]]]:
    """The lines that can be used; image, reason and details of those that cannot."""
    lines, dropped = [], []
    seen: set[str] = set()
    for label in labels:
        line, reason, details = check(folder, label, alphabet, config, training)
        if label.image in seen:
            line, reason, details = None, "listed before", ""
        seen.add(label.image)
        if line:
            lines.append(line)
        else:
            dropped.append((label.image, reason, details))
    return lines, dropped


def unlisted(folder: Path, labels: Sequence[Label]) -> list[tuple[str, str, str]]:
    """Images of a folder that its labels do not name."""
    listed = {str(Path(label.image)) for label in labels}
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    return [(str(p.relative_to(folder)), "no text", "") for p in paths if str(p.relative_to(folder)) not in listed]


def dealt(config: Config) -> dict[str, tuple[Path, list[Label]]]:
    """Folder and labels of each subset: those of its own folder, or a share of one folder, dealt out by the seed."""
    subsets = dict.fromkeys(config.data.train + config.data.dev + config.data.test)
    if not any((config.root / name).exists() for name in LABELS):
        return {subset: (config.root / subset, labels_of(config.root / subset)) for subset in subsets}
    labels = labels_of(config.root)
    random.Random(config.data.seed).shuffle(labels)
    found, start = {}, 0
    for subset, share in SHARES.items():
        stop = start + max(1, round(share * len(labels)))
        found[subset] = (config.root, labels[start:stop])
        start = stop
    return {"train": (config.root, labels[start:]), **found}


def prepare(config: Config) -> None:
    """Write <subset>.jsonl and <subset>.dropped.txt of every subset, and the alphabet."""
    sets = dealt(config)
    texts = [label.text for subset in config.data.train for label in sets[subset][1]]
    alphabet = config.data.alphabet or "".join(sorted(set("".join(texts))))
    config.manifests.mkdir(parents=True, exist_ok=True)
    write_atomically(config.manifests / "alphabet.txt", alphabet)
    print(f"{len(alphabet)} characters: {alphabet}")
    everything = [label for _, labels in sets.values() for label in labels]
    for subset, (folder, labels) in sets.items():
        lines, dropped = sorted_out(folder, labels, alphabet, config, subset in config.data.train)
        if folder != config.root:
            dropped += unlisted(folder, labels)
        elif subset in config.data.train:
            dropped += unlisted(folder, everything)
        report = "".join(f"{name}: {reason}{f' ({details})' if details else ''}\n" for name, reason, details in dropped)
        write_atomically(config.manifests / f"{subset}.dropped.txt", report)
        reasons = Counter(reason for _, reason, _ in dropped)
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        if not lines:
            raise ValueError(f"{folder} must hold at least one line that can be used, got {told or 'none'}")
        write_manifest(config.manifests / f"{subset}.jsonl", lines)
        print(f"{subset}: {len(lines)} lines" + (f"; dropped {told}, see {subset}.dropped.txt" if told else ""))

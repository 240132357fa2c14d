"""Stage 0, without data: draw the lines of train, dev and test as images on disk, in the layout that --data takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

from PIL import Image
from tqdm import tqdm

import digits
import printed
from common.checkpoint import write_atomically
from images import Pixels
from settings import Config


def drawn(config: Config, subset: str, count: int) -> Iterator[tuple[Pixels, str, str]]:
    """Images, what they say, what they are written in."""
    if config.data.drawn == "digits":
        return digits.lines(subset, count, config.data.seed)
    if config.data.drawn == "printed":
        families: list[str] = getattr(config.fonts, subset, [])
        if not families:
            raise ValueError(f"fonts.{subset} must name families of fonts, got none")
        if subset != "train" and (seen := set(families) & set(config.fonts.train)):
            raise ValueError(f"fonts.{subset} must be none of fonts.train, got {', '.join(sorted(seen))}")
        return printed.lines(subset, count, config.data.seed, families)
    raise ValueError(f"data.drawn must be digits or printed where data.root is empty, got {config.data.drawn!r}")


def draw(config: Config) -> None:
    """Write the lines, unless what is there was drawn in the same way."""
    subsets = [*config.data.train, *config.data.dev, *config.data.test]
    if len(subsets) != len(config.data.counts):
        raise ValueError(f"data.counts must have a number for each of {', '.join(subsets)}, got {config.data.counts}")
    mark = config.root / "drawn.json"
    wanted = json.dumps([config.data.drawn, subsets, config.data.counts, config.data.seed, vars(config.fonts)])
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return
    for subset, count in zip(subsets, config.data.counts, strict=True):
        folder = config.root / subset
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rows = []
        shown = tqdm(drawn(config, subset, count), subset, count, unit="line", mininterval=1)
        for k, (pixels, text, source) in enumerate(shown):
            name = f"{k:05d}.png"
            Image.fromarray(pixels).save(folder / name, compress_level=1)
            rows.append(f"{name}\t{text}\t{source}\n")
        write_atomically(folder / "labels.tsv", "".join(rows))
    write_atomically(mark, wanted)

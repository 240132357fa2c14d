"""Printed lines in the fonts that Python packages ship: matplotlib's own, and packages of fonts."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from images import Pixels, distorted
from texts import ALPHABET, SETS, text_of

HARDLY_SEEN = ("Thin", "ExtraLight", "VariableFont")  # styles that hardly leave a mark at this size


@functools.cache
def installed() -> dict[str, list[Path]]:
    """The files of each family with all characters of the alphabet, by its name without spaces, such as DejaVuSans."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = {path.stem: path for path in sorted(folder.glob("*.ttf"))}
    for group in ("fonts_otf", "fonts_ttf"):  # what packages of fonts have agreed on
        for entry in metadata.entry_points(group=group):
            files: dict[str, str] = entry.load()
            paths |= {Path(file).stem: Path(file) for file in files.values()}
    found: dict[str, list[Path]] = {}
    for name, path in sorted(paths.items()):
        family, _, style = name.partition("-")
        if "LastResort" in family or any(word in style for word in HARDLY_SEEN):
            continue  # the former has a box for every character
        if set(map(ord, ALPHABET)) <= set(TTFont(path).getBestCmap()):
            found.setdefault(family, []).append(path)
    return found


def files_of(families: Sequence[str]) -> list[list[Path]]:
    """The styles of each of some families; ValueError names one that is not there."""
    for family in families:
        if family not in installed():
            known = ", ".join(installed())
            raise ValueError(
                f"fonts must be among {known}, got {family!r}: pip install '.[recipe]' has those of conf/printed.yaml"
            )
    return [installed()[family] for family in families]


def line_of(text: str, font: Path, draw: np.random.Generator) -> Pixels:
    """Black or dark on light, at 20 to 40 pixels a line, with a little of the paper around it."""
    face = ImageFont.truetype(str(font), int(draw.integers(18, 34)))
    left, top, right, bottom = face.getbbox(text)
    ascent, descent = face.getmetrics()
    top = min(top, round(ascent * draw.uniform(0, 0.3)))
    bottom = max(bottom, ascent + round(descent * draw.uniform(0.6, 1)))
    margins = [*draw.integers(5, 12, 2), *draw.integers(2, 7, 2)]  # a perspective may cut off what is at the sides
    paper, ink = int(draw.integers(190, 256)), int(draw.integers(0, 90))
    size = (int(right - left + margins[0] + margins[1]), int(bottom - top + margins[2] + margins[3]))
    image = Image.new("L", size, paper)
    ImageDraw.Draw(image).text((int(margins[0] - left), int(margins[2] - top)), text, fill=ink, font=face)
    if draw.random() < 0.05:  # white on black
        return 255 - np.asarray(image)
    return np.asarray(image)


def lines(subset: str, count: int, seed: int, families: Sequence[str]) -> Iterator[tuple[Pixels, str, str]]:
    """``count`` images, what they say, and their font.

    Those of train are as they are: training distorts them anew each epoch.
    """
    fonts = files_of(families)
    for k in range(count):
        draw = np.random.default_rng([seed, SETS.index(subset), k])
        text = text_of(subset, random.Random(f"{seed} {subset} {k}"))
        styles = fonts[draw.integers(len(fonts))]  # as often a family with four styles as one with fourteen
        font = styles[draw.integers(len(styles))]
        pixels = line_of(text, font, draw)
        yield pixels if subset == "train" else distorted(pixels, draw, 1.0), text, font.stem

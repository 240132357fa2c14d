"""Number strings of real handwritten digits: the 1,797 that scikit-learn ships, no image in two sets.

They are the test set of the UCI repository's "Optical Recognition of Handwritten Digits": 13 people wrote them, 8 by 8
pixels, 17 greys. Who wrote which is not told, but they stand in the order in which the forms were read, one person
after the other. So they are cut into 13 stretches of 138; MARGIN digits at either end of a stretch of dev or test are
left out, as nobody knows whether a person's digits reach across. But for that guess, the writers of dev and test are
unseen in training. The set "known" is of other images by the writers of training: it is the easier test.

References: Alpaydin, Kaynak, "Cascading classifiers", Kybernetika 34, 1998.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from images import Pixels, distorted

PEOPLE, STRETCH, MARGIN = 13, 138, 15
OF_DEV, OF_TEST = (1,), (3, 7, 11)  # stretches, counted from 0
SUBSETS = ["train", "dev", "test", "known"]
LONGEST = 12  # digits in a string
HEIGHT = 32  # rows of a line
TILE = 28  # rows and columns of a digit's canvas

DISTORTED = 0.5  # test lines, of what printed ones are: there is not much in 8 by 8 pixels

Ink = NDArray[np.float32]


def subset_of(index: int) -> str:
    """The set that the image with this number is in; "" for none."""
    stretch, place = min(index // STRETCH, PEOPLE - 1), index % STRETCH
    if stretch in OF_DEV + OF_TEST:
        if not MARGIN <= place < STRETCH - MARGIN:
            return ""
        return "dev" if stretch in OF_DEV else "test"
    return "known" if index % 10 == 0 else "train"


@functools.cache
def written(subset: str) -> dict[int, list[Ink]]:
    """The images of each digit in a set: (8, 8), from 0, paper, to 1, ink."""
    bunch = load_digits()
    found: dict[int, list[Ink]] = {digit: [] for digit in range(10)}
    for index, (image, digit) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        if subset_of(index) == subset:
            found[int(digit)].append(image.astype(np.float32) / 16)
    return found


def tile(digit: Ink, draw: np.random.Generator, slant: float) -> Ink:
    """A digit turned, slanted, stretched and thickened at random; cut to the columns that have ink."""
    high, wide = draw.uniform(17, 23), draw.uniform(14, 21)
    turn = np.radians(draw.uniform(-9, 9))
    lean = slant + draw.uniform(-0.12, 0.12)
    # from a pixel of the tile, seen from its middle, to one of the digit
    forth = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1, lean], [0, 1]]
    back = np.diag([8 / wide, 8 / high]) @ forth
    at = np.array([4, 4]) - back @ np.array([TILE / 2, TILE / 2 + draw.uniform(-2, 2)])
    (a, b), (d, e) = back.tolist()
    image = Image.fromarray(digit).transform(
        (TILE, TILE), Image.Transform.AFFINE, (a, b, at[0], d, e, at[1]), Image.Resampling.BICUBIC
    )
    ink: Ink = np.clip(np.asarray(image), 0, 1) ** np.float32(draw.uniform(0.6, 1.4))
    columns = np.flatnonzero(ink.max(0) > 0.25)
    return ink[:, columns[0] : columns[-1] + 1]


def line_of(text: str, subset: str, draw: np.random.Generator) -> Pixels:
    """A string of digits by one hand's slant: they drift up and down, and some touch or overlap."""
    kinds, slant = written(subset), draw.uniform(-0.25, 0.35)
    tiles = [tile(kinds[int(digit)][draw.integers(len(kinds[int(digit)]))], draw, slant) for digit in text]
    gap = draw.uniform(-1.5, 4)
    ends = np.cumsum([ink.shape[1] + round(gap + draw.uniform(-1.5, 1.5)) for ink in tiles])
    margins = draw.integers(3, 12, 2)
    canvas = np.zeros((HEIGHT, int(ends[-1]) + TILE + int(margins.sum())), np.float32)
    drift = draw.uniform(-2, 2)
    for k, (ink, end) in enumerate(zip(tiles, ends, strict=True)):
        left = max(0, int(end) - ink.shape[1] + int(margins[0]))
        top = int(np.clip(2 + drift * (2 * k / len(tiles) - 1) + draw.uniform(-1, 1), 0, HEIGHT - TILE))
        part = canvas[top : top + TILE, left : left + ink.shape[1]]
        np.maximum(part, ink, out=part)
    used = int(np.flatnonzero(canvas.max(0))[-1]) + 1 + int(margins[1])
    paper, pen = draw.uniform(200, 255), draw.uniform(0, 90)
    return (paper - (paper - pen) * canvas[:, :used]).astype(np.uint8)


def lines(subset: str, count: int, seed: int) -> Iterator[tuple[Pixels, str, str]]:
    """``count`` images, what they say, and what they are written in; no string is in two sets.

    Those of train are as they are: training distorts them anew each epoch.
    """
    for k in range(count):
        draw = np.random.default_rng([seed, SUBSETS.index(subset), k])
        text = "".join(map(str, draw.integers(0, 10, draw.integers(1, LONGEST + 1))))
        pixels = line_of(text, subset, draw)
        yield pixels if subset == "train" else distorted(pixels, draw, DISTORTED), text, f"digits of {subset}"

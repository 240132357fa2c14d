"""Figures next to reference images: near enough that another version of matplotlib or FreeType passes.

Pictures are compared as means of blocks of 8 by 8 pixels, each at the best of its places up to two pixels off: how a
letter is smoothed or set does not show there; a line, a shade or a letter that is missing or elsewhere does.
"""

import itertools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from matplotlib import image
from matplotlib.figure import Figure

REFERENCES = Path(__file__).parent / "reference_images"
STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans", "figure.dpi": 80.0, "savefig.dpi": 80.0}
"""DejaVu Sans comes with matplotlib."""
BLOCK, SHIFT = 8, 2
TOLERANCE = 0.06
"""Of the range from black to white, for the worst block. matplotlib 3.9 and 3.11 are 0.034 apart."""


def blocks(pixels: np.ndarray) -> np.ndarray:
    """Means of blocks, colours apart; what does not fill a block at the right or below is left out."""
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    whole = pixels[: rows * BLOCK, : columns * BLOCK]
    means: np.ndarray = whole.reshape(rows, BLOCK, columns, BLOCK, 3).mean((1, 3))
    return means


def difference(one: Path, other: Path) -> float:
    """How far the worst block is from anything near its place, from 0 to 1; 1 for pictures of different sizes."""
    left, right = (image.imread(path)[..., :3] for path in (one, other))
    if left.shape != right.shape:
        return 1.0
    rows, columns = left.shape[:2]
    surrounded = np.pad(right, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    reference = blocks(left)
    apart = np.full(reference.shape[:2], np.inf)
    for down, across in itertools.product(range(2 * SHIFT + 1), repeat=2):
        shifted = surrounded[down : down + rows, across : across + columns]
        apart = np.minimum(apart, np.abs(reference - blocks(shifted)).max(-1))
    return float(apart.max())


def assert_looks_like(figure: Figure, name: str, folder: Path, renew: bool) -> None:
    """Compare a figure with `reference_images/<name>.png`, or write that."""
    drawn = REFERENCES / f"{name}.png" if renew else folder / f"{name}.png"
    drawn.parent.mkdir(exist_ok=True)
    figure.savefig(drawn, metadata={"Software": None})
    if renew:
        pytest.skip("the reference image was written: look at it")
    apart = difference(drawn, REFERENCES / f"{name}.png")
    assert apart <= TOLERANCE, f"{drawn} differs from its reference by {apart:.2f} of the range of a block"

"""Images of lines: read, scaled to the model's height, distorted, as a tensor.

An image is (rows, columns), uint8, 0 black; a tensor (columns, rows): the columns are the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

Pixels = NDArray[np.uint8]
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def read_image(path: str | Path) -> Image.Image:
    """In grey, transparency as white; OSError or ValueError where it cannot be read."""
    with Image.open(path) as file:
        file.load()
        image: Image.Image = file
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        elif image.mode.startswith(("I", "F")):  # 16 bits and more: by what is there, not cut off at 255
            values = np.asarray(image, dtype=np.float64)
            spread = max(float(np.ptp(values)), 1e-9)
            image = Image.fromarray(np.uint8(255 * (values - values.min()) / spread))
        return image.convert("L")


def columns_at(size: tuple[int, int], height: int) -> int:
    """Columns of an image of ``size`` (columns, rows) once it has ``height`` rows.

    >>> columns_at((300, 60), 32)
    160
    """
    return max(1, round(size[0] * height / size[1]))


def scaled(image: Image.Image, height: int) -> Pixels:
    """``height`` rows, as many columns as keep the proportions."""
    if image.height != height:
        image = image.resize((columns_at(image.size, height), height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def background(pixels: Pixels) -> int:
    """The grey of the paper: the middle one of the border's."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return int(np.median(border))


def as_tensor(pixels: Pixels) -> Tensor:
    """(columns, rows) float32: 0 is the paper, 1 about as far from it as ink is.

    So neither the lamp nor the printer's contrast matters, white on black is read like black on white, and a batch's
    padding, which is 0, looks like paper.
    """
    values = background(pixels) - pixels.astype(np.float32)
    if values.mean() < 0:
        values = -values
    marked = np.abs(values)
    values /= marked[marked >= marked.mean()].mean() + 8  # 8: noise on an empty image stays small
    return torch.from_numpy(np.ascontiguousarray(values.T))


def distorted(pixels: Pixels, draw: np.random.Generator, strength: float, elastic: float = 0.0) -> Pixels:
    """As a camera sees a line: turned, slanted, in perspective, unevenly lit, faint, blurred, noisy.

    With ``strength`` 0 it is the same image; the number of rows and columns stays. ``elastic``: how far it is pulled
    about besides, as by another hand or another type (`pulled`).
    """
    if strength <= 0:
        return pixels
    rows, columns = pixels.shape
    image = Image.fromarray(pixels)
    view = perspective(rows, columns, corners(rows, columns, draw, strength))
    mapping: tuple[Image.Transform, Sequence[Any]] = (Image.Transform.PERSPECTIVE, view)
    if elastic > 0:
        mapping = (Image.Transform.MESH, pulled(rows, columns, view, draw, elastic))
    image = image.transform(image.size, *mapping, Image.Resampling.BILINEAR, fillcolor=background(pixels))
    if (radius := strength * draw.uniform(-0.3, 1.0)) > 0:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    values = np.asarray(image, dtype=np.float32)
    paper = background(pixels)
    values = paper + (values - paper) * draw.uniform(1 - 0.5 * strength, 1)
    light = Image.fromarray(draw.normal(0, 1, (2, 4)).astype(np.float32))
    values += 20 * strength * np.asarray(light.resize((columns, rows), Image.Resampling.BICUBIC))
    values += draw.uniform(0, 14 * strength) * draw.standard_normal((rows, columns), dtype=np.float32)
    return np.clip(values, 0, 255).astype(np.uint8)


def corners(rows: int, columns: int, draw: np.random.Generator, strength: float) -> NDArray[np.float64]:
    """Where the corners of the new image lie in the old one: (4, 2), x and y, clockwise from the upper left.

    A turn of a long line is limited by what leaves the image: at most a seventh of its height at either end.
    """
    rise = strength * draw.uniform(-1, 1) * min(rows / 7, columns * np.tan(np.radians(3)) / 2)
    slant = strength * draw.uniform(-0.125, 0.125) * rows
    turned = np.array([[-slant, rise], [-slant, -rise], [slant, -rise], [slant, rise]])
    loose = strength * rows * draw.uniform(-1, 1, (4, 2)) * [0.08, 0.06]
    seen: NDArray[np.float64] = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]]) + turned + loose
    return seen


def perspective(rows: int, columns: int, seen: NDArray[np.float64]) -> list[float]:
    """The eight numbers a to h of x' = (a x + b y + c) / (g x + h y + 1) and y' = (d x + e y + f) / (g x + h y + 1)
    that take the corners of an image to ``seen``, as Pillow wants them.
    """
    equations, values = [], []
    for (x, y), (u, v) in zip([(0, 0), (columns, 0), (columns, rows), (0, rows)], seen, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solution: list[float] = np.linalg.solve(equations, values).tolist()
    return solution


def pulled(
    rows: int, columns: int, view: Sequence[float], draw: np.random.Generator, elastic: float
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """A perspective in cells about half as wide as the line is high, whose corners are each displaced by chance.

    ``elastic``: of the displacements, the standard deviation as a share of the height. Returns the cells as Pillow
    wants them: left, upper, right and lower edge, and where their corners lie in the old image, counterclockwise from
    the upper left. The cells meet, so strokes do not break.
    """
    # edges; each once, however few pixels there are
    x, y = (np.unique(np.linspace(0, *ends).round()) for ends in ((columns, 2 * columns // rows + 2), (rows, 3)))
    a, b, c, d, e, f, g, h = view
    across, down = np.meshgrid(x, y)
    scale = g * across + h * down + 1
    old = np.stack([(a * across + b * down + c) / scale, (d * across + e * down + f) / scale], axis=-1)
    old += elastic * rows * draw.standard_normal(old.shape)
    quads = np.concatenate([old[:-1, :-1], old[1:, :-1], old[1:, 1:], old[:-1, 1:]], axis=-1)
    boxes = [(int(x[j]), int(y[i]), int(x[j + 1]), int(y[i + 1])) for i in range(len(y) - 1) for j in range(len(x) - 1)]
    return list(zip(boxes, map(tuple, quads.reshape(-1, 8).tolist()), strict=True))

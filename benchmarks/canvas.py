"""What all figures share: a peer's colour and marker, the head with its provenance, the foot with who is missing.

Colours are Okabe and Ito's, of which the yellow is darkened; every peer has its own marker.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.environment import title
from benchmarks.report import label
from benchmarks.rows import OK, Row

STYLE = {
    "numbactc": ("#0072B2", "o"),
    "torch": ("#D55E00", "s"),
    "optax": ("#009E73", "^"),
    "paddle": ("#CC79A7", "D"),
    "tensorflow": ("#B07D00", "v"),
}
OTHER = ("#555555", "X")
WIDTH = 8.4
"""Inches."""
DPI = 110


def style(peer: str) -> tuple[str, str]:
    """Colour and marker."""
    return STYLE.get(peer, OTHER)


def head(figure: Figure, heading: str, environment: dict[str, Any]) -> None:
    """The heading, then machine, versions and commit in small type."""
    height = figure.get_figheight()
    lines = [part for line in title(environment).split("\n") for part in textwrap.wrap(line, 150)]
    figure.text(0.012, 1 - 0.1 / height, heading, fontsize=11, weight="bold", va="top")
    figure.text(0.012, 1 - 0.36 / height, "\n".join(lines), fontsize=7.5, color="#444444", va="top")


def foot(figure: Figure, rows: list[Row]) -> None:
    """The peers that have rows without a number, and why."""
    lost: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["status"] != OK:
            lost.setdefault(row["status"], {})[label(row["peer"])] = None
    words = "; ".join(f"{', '.join(peers)} {status}" for status, peers in lost.items())
    height = figure.get_figheight()
    figure.text(0.012, 0.08 / height, textwrap.shorten(words, 150), fontsize=7.5, color="#444444")


def save(figure: Figure, path: Path) -> Path:
    """Write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path

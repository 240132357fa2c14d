"""Run the pages of this folder: their code, top to bottom, writes their pictures and what they print.

    python -m docs.pages [page ...]      all pages, or those named; `make docs` does so

Every block of Python is run in one namespace a page. A block of text behind it is what it prints, and is written anew.
`tests/test_docs.py` runs the same and finds that nothing has changed.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from PIL import Image

FOLDER = Path(__file__).parent
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
STYLE: dict[Any, Any] = {"figure.dpi": 90.0, "savefig.dpi": 90.0, "font.family": "DejaVu Sans"}


class Block(NamedTuple):
    line: int
    code: str
    output: str
    """What the page says that it prints."""
    printed: str
    """What it prints."""


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(page: Path, folder: Path) -> list[Block]:
    """Run a page in a folder, where its code leaves pictures under `figures/`."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    text = page.read_text(encoding="utf-8")
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"__name__": page.stem}
    blocks = []
    with working_in(folder), plt.style.context("default"), plt.rc_context(STYLE):
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            code = compile("\n" * (line - 1) + match["code"], str(page), "exec")
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, names)
            plt.close("all")
            blocks.append(Block(line, match["code"], match["output"] or "", printed.getvalue()))
    return blocks


def renewed(text: str, blocks: list[Block]) -> str:
    """The page with what its blocks print now."""
    printed = iter(block.printed for block in blocks)

    def block(match: re.Match[str]) -> str:
        output = next(printed)
        return f"```python\n{match['code']}```\n" + (f"\n```text\n{output}```\n" if output else "")

    return BLOCK.sub(block, text)


def compress(picture: Path) -> None:
    """To 256 colours, which is all that these pictures need: a third of the size."""
    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)


def main() -> None:
    pages = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.md"))
    for page in pages:
        page.write_text(renewed(page.read_text(encoding="utf-8"), run(page.resolve(), FOLDER)), encoding="utf-8")
        print(os.path.relpath(page))
    for picture in sorted((FOLDER / "figures").glob("*.png")):
        compress(picture)


if __name__ == "__main__":
    main()

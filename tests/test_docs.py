"""The pages of docs/ run, print what they say they print, and draw the pictures that they show."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib import image

from benchmarks import page
from docs import pages
from docs.pages import FOLDER, Block
from processes import REPOSITORY

PAGES = sorted(path.name for path in FOLDER.glob("*.md"))
WITH_CODE = [name for name in PAGES if "```python" in (FOLDER / name).read_text(encoding="utf-8")]
LARGEST_PICTURE = 100_000


class Run(NamedTuple):
    name: str
    blocks: list[Block]
    folder: Path


@pytest.fixture(scope="module", params=WITH_CODE)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A page that has been run, once for all tests of it."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))  # language models that are read leave their arrays there
        return Run(request.param, pages.run(FOLDER / request.param, folder), folder)


def pictures_of(name: str) -> list[str]:
    return re.findall(r"!\[[^]]+\]\((figures/[^)]+\.png)\)", (FOLDER / name).read_text(encoding="utf-8"))


def test_prints_what_it_says(run: Run) -> None:
    assert run.blocks
    for block in run.blocks:
        assert block.printed == block.output, f"docs/{run.name}, line {block.line}; `make docs` writes it anew"


def test_every_block_of_code_is_run(run: Run) -> None:
    text = (FOLDER / run.name).read_text(encoding="utf-8")
    assert len(run.blocks) == text.count("```python")
    assert sum(bool(block.output) for block in run.blocks) == text.count("```text")


def test_draws_the_pictures_that_it_shows(run: Run) -> None:
    drawn = sorted(f"figures/{path.name}" for path in (run.folder / "figures").glob("*.png"))
    assert drawn == sorted(pictures_of(run.name))
    for picture in drawn:
        here, there = (image.imread(root / picture)[..., :3] for root in (run.folder, FOLDER))
        assert here.shape == there.shape, f"{picture} is stale: make docs"
        # another version of matplotlib moves everything by a pixel or two; a stale picture shows something else
        assert np.abs(here - there).mean() < 0.02, f"{picture} is stale: make docs"


def test_no_picture_is_large_or_left_over() -> None:
    shown = {picture for name in PAGES for picture in pictures_of(name)}
    there = {f"figures/{path.name}" for path in (FOLDER / "figures").glob("*")}
    assert there == shown
    for picture in shown:
        assert (FOLDER / picture).stat().st_size < LARGEST_PICTURE, picture


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", (FOLDER / name).read_text(encoding="utf-8")):
        if "://" not in link:
            assert (FOLDER / link).exists(), link


def test_the_index_has_every_page() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in PAGES if name != "README.md" and f"({name})" not in index] == []


def test_the_page_of_benchmarks_says_what_the_rows_say() -> None:
    made = page.text_of(page.RESULTS, page.FIGURES, page.PAGE)
    assert page.PAGE.read_text(encoding="utf-8") == made, "python -m benchmarks.page writes it anew"
    assert made.count("](../benchmarks/figures/") >= 2


def test_one_command_draws_them_all() -> None:
    assert re.search(r"^docs:.*\n\t.*python -m docs\.pages", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def test_a_page_is_written_with_what_it_prints(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n\n```python\nx = 2\n```\n\nb\n\n```python\nprint(x)\n```\n\n```text\n3\n```\n\nc\n")
    blocks = pages.run(page, tmp_path)
    assert [(block.line, block.output, block.printed) for block in blocks] == [(4, "", ""), (10, "3\n", "2\n")]
    assert pages.renewed(page.read_text(), blocks) == page.read_text().replace("text\n3", "text\n2")

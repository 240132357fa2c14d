"""The code on the front page runs, and its links lead somewhere."""

import re

import pytest

from benchmarks.front import front_parts, renewed
from benchmarks.page import RESULTS
from processes import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
MADE_BY_A_RUN = ("benchmarks/figures/", "benchmarks/results/")


def test_there_is_code_of_ten_lines() -> None:
    assert BLOCKS
    assert len(BLOCKS[0].strip().split("\n")) <= 10


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_code_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        if "://" not in link and not link.startswith(MADE_BY_A_RUN):
            assert (REPOSITORY / link).exists(), link


def test_commands_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_figures_and_numbers_are_those_of_the_results() -> None:
    assert renewed(README, front_parts(RESULTS)) == README, "python -m benchmarks.page writes them anew"
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+\.png)\)", README):
        assert (REPOSITORY / picture).exists(), picture

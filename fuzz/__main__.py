"""Draw calls, guided by which lines of the package they reach, and check each.

    python -m fuzz                     100,000 cases, as `make fuzz`
    python -m fuzz -runs=0 FILE        the one case of a file that an earlier run has left behind
    python -m fuzz FOLDER -runs=...    any options of libFuzzer; new cases worth keeping go to the folder

A case that fails ends the run, and its bytes are left in a file `crash-...`; so are those of one that crashes or hangs.
"""

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["numbactc"]):
    import numbactc  # noqa: F401  kernels come later, and are compiled as they stand

import torch

from fuzz.cases import draw
from fuzz.checks import check

DEFAULTS = {
    "runs": 100_000,
    "seed": 1,
    "max_len": 160,
    "len_control": 0,  # long ones from the beginning: what is short draws little
    "timeout": 120,  # seconds for one case
    "rss_limit_mb": 8192,
}
TOLD_EVERY = 10_000
outcomes = {"right": 0, "refused": 0}


def one_case(data: bytes) -> None:
    outcomes[check(draw(data))] += 1
    if sum(outcomes.values()) % TOLD_EVERY == 0:
        print(f"{outcomes['right']} calls gave what they must, {outcomes['refused']} were refused as they must be")


def main(arguments: list[str]) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    given = {argument.partition("=")[0] for argument in arguments}
    defaults = [f"-{name}={value}" for name, value in DEFAULTS.items() if f"-{name}" not in given]
    atheris.Setup([sys.argv[0], *defaults, *arguments], one_case)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])

"""Everything that can be measured on this machine, and the page of it, in one command.

    python -m benchmarks                            # some twenty minutes; `make bench` installs peers first
    python -m benchmarks --budget 3 --results /tmp/results --figures /tmp/results --page /tmp/results/page.md

The CPU's part is `benchmarks.run`, the GPU's, where PyTorch finds one, `benchmarks.gpu`; `benchmarks.page` writes the
page from the results that are there. Each writes what it has before the next begins.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks import page, run
from benchmarks.environment import ROOT
from benchmarks.peers import PEERS

GPU_MINUTES = 6.5
"""Of the budget, where there is one."""

ASK = "import sys, torch; sys.exit(not torch.cuda.is_available())"


def has_gpu() -> bool:
    """Whether PyTorch finds one; asked in another process, for this one must stay free of PyTorch's threads."""
    return subprocess.run([sys.executable, "-c", ASK], stderr=subprocess.DEVNULL, check=False).returncode == 0


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=24.0, help="minutes for everything; then rows are left out")
    parser.add_argument("--parts", default=",".join(run.PARTS), help="of the CPU's")
    parser.add_argument("--peers", default=",".join(PEERS), help="of the CPU's")
    parser.add_argument("--results", type=Path, default=page.RESULTS)
    parser.add_argument("--figures", type=Path, default=page.FIGURES)
    parser.add_argument("--page", type=Path, default=page.PAGE)
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    gpu = has_gpu()
    limit = max(options.budget - GPU_MINUTES * gpu, 0.0)
    chosen = ["--parts", options.parts, "--peers", options.peers, "--limit", f"{limit:g}"]
    out = ["--out", str(options.results / "cpu.json"), "--figures", str(options.figures)]
    run.main([*chosen, *out], shlex.join(["python", "-m", "benchmarks", *given]))
    if gpu:
        minutes = min(GPU_MINUTES, options.budget)
        command = [sys.executable, "-m", "benchmarks.gpu", "--limit", f"{60 * minutes:g}"]
        if options.results != page.RESULTS:
            command += ["--out", str(options.results.resolve() / "gpu.json")]
        subprocess.run(command, cwd=ROOT, check=False)
    else:
        print("PyTorch finds no GPU here: the page has the CPU's results alone", file=sys.stderr)
    page.main(["--results", str(options.results), "--figures", str(options.figures), "--out", str(options.page)])
    print(f"wrote {options.page}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""Tricks, one at a time, against the same budget: trains every variant of a configuration and writes a Markdown table.

    python experiments.py --config conf/mini.yaml --minutes 10 data.root=DIR
    python experiments.py --config conf/mini.yaml --variants mine.yaml train.epochs=12

A file of variants has a line each, ``name: key=value key=value``; the first is what the others are compared to. Each
runs stages 0 to 3 as a user would, greedy decoding only, in processes of its own, as exp/<configuration>-<name>/. The
table goes to exp/<configuration>-experiments.md after each of them. Interrupted, the same command continues; a variant
that is finished is not trained again; one that fails is a row that says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import config as configs
from common import checkpoint, environment
from common.config import plain
from config import PACKAGES, RECIPE, Config

STAGES = ["prepare.py", "vocabulary.py", "normalisation.py", "train.py", "evaluate.py"]


def read_variants(path: Path) -> dict[str, list[str]]:
    """Names and settings of each; ValueError unless every line is ``name: key=value ...``."""
    content = plain(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must hold lines of 'name: key=value key=value', got {content!r}")
    for name, words in content.items():
        if not isinstance(words, str | None) or not all("=" in word for word in (words or "").split()):
            raise ValueError(f"{path} must have key=value words for {name!r}, got {words!r}")
    return {str(name): (words or "").split() for name, words in content.items()}


def launch(stage: str, arguments: list[str]) -> str:
    """Run a stage in a process of its own; returns the last line of what went wrong, or nothing."""
    done = subprocess.run([sys.executable, str(RECIPE / stage), *arguments], stderr=subprocess.PIPE, text=True)
    if done.returncode == 130:
        raise KeyboardInterrupt
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return lines[-1] if done.returncode else ""


def run(path: str, words: list[str]) -> str:
    """Stages 0 to 3; returns what went wrong, or nothing."""
    for stage in STAGES:
        if failure := launch(stage, ["--config", path, *words]):
            return f"{stage} failed: {failure}"
    return ""


def outcome(config: Config) -> dict[str, Any]:
    """The figures of a finished variant; error rates of all test sets together, in percent."""
    state = checkpoint.load(config.exp / "last.pt")
    results = [config.exp / f"decode_{subset}_greedy" / "result.json" for subset in config.data.test]
    rates = [json.loads(path.read_text(encoding="utf-8")) for path in results]
    leg = checkpoint.legs_of(state)[-1]
    found: dict[str, Any] = {
        "environment": leg | {"machine": f"{leg['machine']}; {state['precision']}"},
        "parameters": sum(tensor.numel() for tensor in state["model"].values()) / 1e6,
        "minutes": state["seconds"] / 60,
        "steps": state["step"],
        "epochs": state["epoch"],
        "dev loss": min(loss for _, loss, _, _ in state["rates"]),
    }
    for unit in ("WER", "CER"):
        errors = sum(rate[unit][kind] for rate in rates for kind in ("ins", "del", "sub"))
        found[unit] = 100 * errors / sum(rate[unit]["total"] for rate in rates)
    return found


def table(variants: Mapping[str, list[str]], outcomes: Mapping[str, dict[str, Any] | str], config: Config) -> str:
    """The Markdown text; losing variants and failed ones keep their rows, those to come are not there yet."""
    here = environment.describe(PACKAGES)
    run = next((found["environment"] for found in outcomes.values() if not isinstance(found, str)), here)
    rows = [
        f"- command: `{here['command']}`",
        f"- machine: {run['machine']}",
        f"- versions: {run['versions']}",
        f"- commit: {run['commit']}",
        "",
        f"{', '.join(config.data.test)} ({config.data.note}), greedy, best checkpoint on dev. Dev loss: the lowest of "
        "the run, in nats a label. Change: of the WER, against the first row.",
        "",
        "| variant | settings | M parameters | minutes | steps | epochs | dev loss | WER % | CER % | change |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = outcomes.get(next(iter(variants)))
    for name, found in outcomes.items():
        settings = f"`{' '.join(variants[name])}`" if variants[name] else "as it is"
        if isinstance(found, str):
            rows.append(f"| {name} | {settings} | {found.replace('|', '/')} |" + " |" * 7)
            continue
        change = f"{100 * (found['WER'] / first['WER'] - 1):+.1f} %" if isinstance(first, dict) and first["WER"] else ""
        rows.append(
            f"| {name} | {settings} | {found['parameters']:.2f} | {found['minutes']:.1f} | {found['steps']} | "
            f"{found['epochs']} | {found['dev loss']:.3f} | {found['WER']:.2f} | {found['CER']:.2f} | {change} |"
        )
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = configs.argument_parser(__doc__)
    parser.add_argument("--variants", type=Path, default=RECIPE / "variants.yaml", help="what to try")
    parser.add_argument("--minutes", type=float, help="of training, for each variant")
    args = parser.parse_args()
    everywhere = [*args.overrides, "decode.methods=greedy"]
    if args.minutes:
        everywhere.append(f"train.minutes={args.minutes}")
    base = configs.load(args.config, everywhere)
    variants = read_variants(args.variants)
    outcomes: dict[str, dict[str, Any] | str] = {}
    for name, words in variants.items():
        print(f"== {name}: {' '.join(words) or 'as it is'}", flush=True)
        named = [*everywhere, *words, f"name={base.name}-{name}"]
        failure = run(args.config, named)
        outcomes[name] = failure or outcome(configs.load(args.config, named))
        path = base.exp.with_name(f"{base.name}-experiments.md")
        path.write_text(table(variants, outcomes, base), encoding="utf-8")
    print(table(variants, outcomes, base))


if __name__ == "__main__":
    main()

"""What every report.md has: figures and how to repeat them, tables, curves, the worst errors, settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import yaml

from common import checkpoint
from common.batches import E
from common.config import Settings
from common.decoders import METHODS
from common.evaluation import heading
from common.rates import aligned, error_rates, figures, read_trn, worst

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NO_ALIGNMENT = "no alignment: the text has more tokens than fit"  # in the title of a picture


def results_of(exp: Path, sets: list[str], step: int) -> list[dict[str, Any]]:
    """What stage 3 has written of the checkpoint of this step, in the order of ``data.test`` and of the methods."""
    paths = [exp / f"decode_{subset}_{method}" / "result.json" for subset in sets for method in METHODS]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    return [result for result in results if result["step"] == step]


def summary(config: Settings, state: dict[str, Any], results: list[dict[str, Any]], parameters: int) -> str:
    """Markdown for RESULTS.md: figures with all that is needed to repeat them."""
    run, *later = checkpoint.legs_of(state)
    rows = [
        f"## {config.name}",
        "",
        f"- command: `{run['command']}`",
        f"- machine: {run['machine']}; {state['precision']}",
        f"- versions: {run['versions']}",
        f"- commit: {run['commit']}",
        *(f"- from step {leg['step']} on: {changed(before, leg)}" for before, leg in pairwise([run, *later])),
        *([f"- begun with the weights of {state['origin']}"] if state.get("origin") else []),
        f"- model: {parameters / 1e6:.2f} M parameters; {state['epoch']} epochs, {state['step']} steps, "
        f"{state['seconds'] / 60:.1f} minutes of training; best checkpoint on dev",
        "",
    ]
    for result in results:
        rows += [
            f"{heading(result, config.data.note)}, epoch {result['epoch']}:",
            "",
            "```",
            *figures(result),
            "```",
            "",
        ]
    return "\n".join(rows)


def changed(before: dict[str, Any], leg: dict[str, Any]) -> str:
    """What of a leg's environment is new."""
    return "; ".join(f"{key} `{leg[key]}`" for key in leg if key != "step" and leg[key] != before[key])


def table(results: list[dict[str, Any]]) -> str:
    """All sets and methods beside each other."""
    exact = any("exact" in result for result in results)
    first = "| set | method |" + (" exact match % |" if exact else "")
    rows = [f"{first} WER % | CER % | words: ins, del, sub | weights |", "|---" * (7 if exact else 6) + "|"]
    for result in results:
        words = result["WER"]
        counts = f"{words['ins']}, {words['del']}, {words['sub']} of {words['total']}"
        rates = f"{words['percent']:.2f} | {result['CER']['percent']:.2f}"
        if exact:
            rates = f"{result['exact']['percent']:.2f} | {rates}"
        rows.append(f"| {result['set']} | {result['method']} | {rates} | {counts} | {result['weights']} |")
    return "\n".join(rows) + "\n"


def decoded(exp: Path, utterances: Sequence[E], result: dict[str, Any]) -> list[tuple[E, str]]:
    """The utterances of a result and what was heard or read."""
    hypotheses = read_trn(exp / result["folder"] / "hyp.trn")
    return [(u, hypotheses[u.id]) for u in utterances if u.id in hypotheses]


def examples(pairs: Sequence[tuple[E, str]]) -> dict[str, tuple[E, str]]:
    """The utterance with the lowest, the middle and the highest WER."""

    def rate(pair: tuple[E, str]) -> tuple[float, str]:
        return error_rates([pair[0].text], [pair[1]])["WER"]["percent"], pair[0].id

    ordered = sorted(pairs, key=rate)
    return {"best": ordered[0], "median": ordered[len(ordered) // 2], "worst": ordered[-1]}


def plot_curves(state: dict[str, Any], path: Path) -> None:
    """Loss of training and dev, and WER and CER of dev, over steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    if state["losses"]:
        steps, losses = zip(*state["losses"], strict=True)
        left.plot(steps, losses, color="0.7", linewidth=0.8, label="train, batches as seen")
    if state["rates"]:
        steps, loss, wer, cer = zip(*state["rates"], strict=True)
        left.plot(steps, loss, marker=".", color="C0", label="dev, averaged weights")
        for values, name, colour in [(wer, "WER", "C3"), (cer, "CER", "C1")]:
            right.plot(steps, values, marker=".", color=colour, label=f"dev {name}, last {values[-1]:.1f} %")
        right.set(xlim=(0, None), ylim=(0, 1.05 * max(wer)))
    left.set(xlabel="step", ylabel="CTC loss (nats a token)", yscale="log")
    right.set(xlabel="step", ylabel="error rate, greedy (%)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(f"{state['config']['name']}: {state['seconds'] / 60:.1f} minutes of training")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def worst_listed(pairs: Sequence[tuple[E, str]], limit: int) -> str:
    """Those with most errors, aligned word by word."""
    listed = "\n\n".join(aligned(utterance, out) for utterance, out in worst(pairs, limit))
    return f"```\n{listed}\n```\n"


def settings_listed(trained: Settings, config: Settings) -> str:
    """What the checkpoint was trained with, and decoded with."""
    settings = trained.to_dict() | {"decode": config.to_dict()["decode"]}
    return f"### Settings\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```\n"

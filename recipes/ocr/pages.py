"""Stage 3: report.md and its pictures under exp/<name>/.

The report holds what is needed to repeat its figures, a table of all methods, curves, the best read line, a middling
one and the worst, each with its posteriors and its aligned characters, a picture of the worst errors, what was confused
with what, and all settings. Its first part is the text for RESULTS.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

import numbactc
from common import checkpoint
from common.rates import worst
from common.reporting import (
    NO_ALIGNMENT,
    decoded,
    examples,
    plot_curves,
    results_of,
    settings_listed,
    summary,
    table,
)
from common.tokens import BLANK
from images import Pixels, read_image, scaled
from lines import Line, read_manifests
from reader import Reader
from settings import Config, peer_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt

WORST = 12  # lines in the picture of the worst errors
CONFUSED = 12  # rows of the table of confusions


def plot_line(reader: Reader, line: Line, title: str, path: Path) -> None:
    """The aligned characters of what it says over the image, and below it the posteriors over its columns.

    Where the text has more characters than fit, there is no alignment, and the title says so.
    """
    image = read_image(line.image)
    log_probs = reader.scores(image)
    labels = reader.tokens.encode(line.text)
    (alignment,) = numbactc.forced_align(log_probs, torch.tensor(labels), [len(log_probs)], [len(labels)], BLANK)
    width = min(20.0, max(7.0, 0.12 * len(log_probs) + 1))
    figure, (above, below) = plt.subplots(2, 1, figsize=(width, 4.6), sharex=True, layout="constrained")
    pixels = scaled(image, reader.config.images.height)
    # as many columns as the frames stand for: both pictures then end together
    model = reader.config.model
    columns = len(log_probs) // model.upsample * math.prod(model.columns)
    pixels = np.pad(pixels, ((0, 0), (0, columns - pixels.shape[1])), constant_values=255)
    ink = torch.from_numpy(255.0 - pixels[::-1].astype(np.float32))
    numbactc.plot_alignment(alignment.spans, ink, frames=len(log_probs), symbols=reader.tokens.labels, ax=above)
    above.set(ylabel="row", yticks=[])
    above.label_outer()
    numbactc.plot_posteriors(log_probs.exp(), symbols=reader.tokens.labels, ax=below)
    title = title if alignment.spans else f"{title}\n{NO_ALIGNMENT}"
    figure.suptitle(title.replace("$", r"\$"), fontsize="medium")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def plot_errors(pairs: Sequence[tuple[Line, str]], path: Path) -> None:
    """Lines with what they say and what was read, two beside each other."""
    rows = [(np.asarray(read_image(line.image)), line.text, read) for line, read in pairs]
    shape = -(-len(rows) // 2), 2
    figure, axes = plt.subplots(*shape, figsize=(11, 0.95 * shape[0]), layout="constrained", squeeze=False)
    for ax in axes.flat[len(rows) :]:
        ax.axis("off")
    for ax, (pixels, text, read) in zip(axes.flat, rows, strict=False):
        show(ax, pixels)
        told = f"says  {text}\nread  {read}".replace("$", r"\$")
        ax.set_title(told, fontsize="small", family="monospace", loc="left", pad=2)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def show(ax: Any, pixels: Pixels) -> None:
    """A grey image at the left of its axes, without a frame."""
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    ax.set_anchor("W")
    ax.axis("off")


def confusion_table(result: dict[str, Any]) -> str:
    """What was most often read as what."""
    rows = ["| written | read | times |", "|---|---|---|"]
    for said, read, count in result["confusions"][:CONFUSED]:
        rows.append(f"| {named(said)} | {named(read)} | {count} |")
    return "\n".join(rows) + "\n"


def named(character: str) -> str:
    """A character in a table."""
    return {"": "nothing", " ": "space", "|": r"\|", "`": "`` ` ``"}.get(character, f"`{character}`")


def comparison(config: Config) -> str:
    """Ours and PyTorch's loss, where that is trained as well: what they reach, and how long an epoch takes."""
    rows = ["| set | loss | epochs | seconds an epoch | exact match % | CER % |", "|---|---|---|---|---|---|"]
    for exp in (config.exp, peer_of(config).exp):
        if not (exp / "last.pt").exists():
            return ""
        state, best = checkpoint.load(exp / "last.pt"), checkpoint.load(exp / "best.pt")
        epoch = f"{seconds_an_epoch(state):.1f}"
        for result in results_of(exp, config.data.test, best["step"]):
            if result["method"] == "greedy":
                package = best["config"]["loss"]["package"]
                reached = f"{result['exact']['percent']:.2f} | {result['CER']['percent']:.2f}"
                rows.append(f"| {result['set']} | {package} | {state['epoch']} | {epoch} | {reached} |")
    return "\n".join(rows) + "\n"


def seconds_an_epoch(state: dict[str, Any]) -> float:
    """A whole one, with its dev set; what there is of the first where the budget ended in it."""
    whole = state["step"] - state["batch"] // state["config"]["train"]["accumulate"]
    part: float = whole / state["step"] / state["epoch"] if state["epoch"] else 1.0
    return part * float(state["seconds"])


def write_report(config: Config) -> str:
    """Write report.md and its pictures; returns the summary."""
    exp = config.exp
    state, reader = checkpoint.load(exp / "last.pt"), Reader(exp / "best.pt")
    plot_curves(state, exp / "curves.png")
    results = results_of(exp, config.data.test, reader.content["step"])
    parameters = sum(p.numel() for p in reader.model.parameters())
    tables = [table(results), comparison(config)]
    text = summary(reader.config, state, results, parameters) + "\n".join(filter(None, tables))
    parts = [text, "![Loss and error rates](curves.png)\n"]
    for result in results[:1]:
        pairs = decoded(exp, read_manifests(reader.config, [result["set"]]), result)
        of = f"{result['set']}, {result['method']}"
        parts.append(f"### Lines ({of})\n")
        for name, (line, read) in examples(pairs).items():
            title = f"{name}: {line.id}, {line.source}\nsays: {line.text}\nread: {read}"
            plot_line(reader, line, title, exp / f"line-{name}.png")
            parts.append(f"![{name}: image, aligned characters and posteriors](line-{name}.png)\n")
        if wrong := [(line, out) for line, out in worst(pairs, WORST)]:
            read_as = {line.id: read for line, read in pairs}
            plot_errors([(line, read_as[line.id]) for line, _ in wrong], exp / "errors.png")
            parts += [f"### The worst errors ({of})\n", "![images, what they say and what was read](errors.png)\n"]
        parts += [f"### Confusions ({of})\n", confusion_table(result)]
    parts.append(settings_listed(reader.config, config))
    (exp / "report.md").write_text("\n".join(parts), encoding="utf-8")
    return text

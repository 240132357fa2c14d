"""Stage 4: report.md and its pictures under exp/<name>/, and an example transcribed.

The report holds what is needed to repeat its figures, a table of all methods, curves, alignments of a good, a middling
and a bad utterance, the worst utterances, and all settings. Its first part is what RESULTS.md quotes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

import checkpoint
import config as configs
from config import Config
from decoders import METHODS
from evaluate import heading
from manifest import Utterance, read_manifests
from pictures import plot_alignment, plot_curves
from rates import Decoded, aligned, error_rates, line, read_trn, worst
from recogniser import Recogniser
from transcribe import Transcriber

READABLE = (1.5, 6.0)  # seconds of an utterance whose characters can be read in a picture
WORST = 8  # utterances that are listed


def results_of(exp: Path, sets: list[str], step: int) -> list[dict[str, Any]]:
    """What stage 3 has written of the checkpoint of this step, in the order of ``data.test`` and of the methods."""
    paths = [exp / f"decode_{subset}_{method}" / "result.json" for subset in sets for method in METHODS]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    return [result for result in results if result["step"] == step]


def summary(config: Config, state: dict[str, Any], results: list[dict[str, Any]], parameters: int) -> str:
    """Markdown for RESULTS.md: figures with all that is needed to repeat them."""
    run = state["environment"]
    rows = [
        f"## {config.name}",
        "",
        f"- command: `{run['command']}`",
        f"- machine: {run['machine']}; {state['precision']}",
        f"- versions: {run['versions']}",
        f"- commit: {run['commit']}",
        f"- model: {parameters / 1e6:.2f} M parameters; {state['epoch']} epochs, {state['step']} steps, "
        f"{state['seconds'] / 60:.1f} minutes of training; best checkpoint on dev",
        "",
    ]
    for result in results:
        rows += [
            f"{heading(result, config.data.note)}, epoch {result['epoch']}:",
            "",
            "```",
            line("WER", result["WER"]),
            line("CER", result["CER"]),
            "```",
            "",
        ]
    return "\n".join(rows)


def table(results: list[dict[str, Any]]) -> str:
    """All sets and methods beside each other."""
    rows = ["| set | method | WER % | CER % | words: ins, del, sub | weights |", "|---|---|---|---|---|---|"]
    for result in results:
        words = result["WER"]
        counts = f"{words['ins']}, {words['del']}, {words['sub']} of {words['total']}"
        rates = f"{words['percent']:.2f} | {result['CER']['percent']:.2f}"
        rows.append(f"| {result['set']} | {result['method']} | {rates} | {counts} | {result['weights']} |")
    return "\n".join(rows) + "\n"


def decoded(exp: Path, config: Config, result: dict[str, Any]) -> Decoded:
    """The utterances of a result and what was heard."""
    hypotheses = read_trn(exp / result["folder"] / "hyp.trn")
    return [(u, hypotheses[u.id]) for u in read_manifests(config, [result["set"]]) if u.id in hypotheses]


def examples(pairs: Decoded) -> dict[str, tuple[Utterance, str]]:
    """The utterance with the lowest, the middle and the highest WER of those that a picture can show."""

    def rate(pair: tuple[Utterance, str]) -> tuple[float, str]:
        return error_rates([pair[0].text], [pair[1]])["WER"]["percent"], pair[0].id

    readable = [pair for pair in pairs if READABLE[0] <= pair[0].duration <= READABLE[1]] or list(pairs)
    ordered = sorted(readable, key=rate)
    return {"best": ordered[0], "median": ordered[len(ordered) // 2], "worst": ordered[-1]}


def draw(exp: Path, recogniser: Recogniser, chosen: dict[str, tuple[Utterance, str]]) -> str:
    """A picture for each example, and the Markdown that shows them."""
    rows = []
    for name, (utterance, hypothesis) in chosen.items():
        wer = error_rates([utterance.text], [hypothesis])["WER"]["percent"]
        title = f"{name}: {utterance.id}, WER {wer:.0f} %\nsaid: {utterance.text}\nheard: {hypothesis}"
        if Path(utterance.audio_filepath).exists():
            plot_alignment(recogniser, utterance, title, exp / f"alignment-{name}.png")
            rows.append(f"![{name}: spectrogram, aligned characters and posteriors](alignment-{name}.png)\n")
    return "\n".join(rows)


def report(config: Config, figure: Path | None = None) -> str:
    """Write report.md and its pictures; returns the summary."""
    exp = config.exp
    state, recogniser = checkpoint.load(exp / "last.pt"), Recogniser(exp / "best.pt")
    trained = recogniser.config
    for path in [exp / "curves.png", *([figure] if figure else [])]:
        path.parent.mkdir(parents=True, exist_ok=True)
        plot_curves(state, path)
    results = results_of(exp, config.data.test, recogniser.content["step"])
    parameters = sum(p.numel() for p in recogniser.model.parameters())
    text = summary(trained, state, results, parameters)
    parts = [text, table(results), "![Loss and error rates](curves.png)\n"]
    if results:
        pairs = decoded(exp, trained, results[0])
        of = f"{results[0]['set']}, {results[0]['method']}"
        parts += [f"### Alignments ({of}; utterances of {READABLE[0]:g} to {READABLE[1]:g} seconds)\n"]
        parts += [draw(exp, recogniser, examples(pairs))]
        listed = "\n\n".join(aligned(utterance, out) for utterance, out in worst(pairs, WORST))
        parts += [f"### The worst utterances ({of})\n\n```\n{listed}\n```\n"]
    settings = trained.to_dict() | {"decode": config.to_dict()["decode"]}
    parts += [f"### Settings\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```\n"]
    (exp / "report.md").write_text("\n".join(parts), encoding="utf-8")
    return text


def main() -> None:
    parser = configs.argument_parser(__doc__)
    parser.add_argument("--figure", type=Path, help="write the curves here too, such as figures/mini.png")
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    print(report(config, args.figure))
    transcriber = Transcriber(config.exp / "best.pt")
    # the first utterance of about three seconds
    utterances = sorted(read_manifests(transcriber.recogniser.config, config.data.test), key=lambda u: u.id)
    example = min(utterances, key=lambda u: abs(round(u.duration) - 3))
    print(f"python transcribe.py --checkpoint exp/{config.name}/best.pt {example.audio_filepath}")
    print(f"  said:        {example.text}")
    print(f"  transcribed: {transcriber(example.audio_filepath)[0]}")
    print(f"pictures and tables: {config.exp / 'report.md'}")


if __name__ == "__main__":
    main()

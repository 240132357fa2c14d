"""Stage 4: report.md and its pictures under exp/<name>/, and an example transcribed.

The report holds what is needed to repeat its figures, a table of all methods, curves, alignments of a good, a middling
and a bad utterance, the worst utterances, and all settings. Its first part is what RESULTS.md quotes.
"""

from __future__ import annotations

from pathlib import Path

import config as configs
from common import checkpoint
from common.rates import error_rates
from common.reporting import (
    decoded,
    examples,
    plot_curves,
    results_of,
    settings_listed,
    summary,
    table,
    worst_listed,
)
from config import Config
from manifest import Utterance, read_manifests
from pictures import plot_alignment
from recogniser import Recogniser
from transcribe import Transcriber

READABLE = (1.5, 6.0)  # seconds of an utterance whose characters can be read in a picture
WORST = 8  # utterances that are listed


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
        pairs = decoded(exp, read_manifests(trained, [results[0]["set"]]), results[0])
        readable = [pair for pair in pairs if READABLE[0] <= pair[0].duration <= READABLE[1]] or pairs
        of = f"{results[0]['set']}, {results[0]['method']}"
        parts += [f"### Alignments ({of}; utterances of {READABLE[0]:g} to {READABLE[1]:g} seconds)\n"]
        parts += [draw(exp, recogniser, examples(readable))]
        parts += [f"### The worst utterances ({of})\n", worst_listed(pairs, WORST)]
    parts.append(settings_listed(trained, config))
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

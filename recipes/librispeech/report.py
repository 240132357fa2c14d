"""Stage 4: pictures and text. curves.png, alignment.png and report.md under exp/<name>/, and an example transcribed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import librosa
import matplotlib
import torch
import torchaudio
from torch import Tensor

import checkpoint
import config as configs
from config import Config
from data import Utterance, read_manifests
from evaluate import line
from features import LogMel, read_audio
from model import AcousticModel
from tokens import BLANK, Tokens
from transcribe import transcribe

matplotlib.use("Agg")
from matplotlib import pyplot as plt

N_BANDS = 80  # of the picture's spectrogram


def plot_curves(state: dict[str, Any], path: Path) -> None:
    """Loss of training and dev, and WER and CER of dev, over steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    if state["losses"]:
        steps, losses = zip(*state["losses"], strict=True)
        left.plot(steps, losses, color="0.7", linewidth=0.8, label="train, augmented")
    if state["rates"]:
        steps, loss, wer, cer = zip(*state["rates"], strict=True)
        left.plot(steps, loss, marker=".", color="C0", label="dev, averaged weights")
        for values, name, colour in [(wer, "WER", "C3"), (cer, "CER", "C1")]:
            right.plot(steps, values, marker=".", color=colour, label=f"dev {name}, last {values[-1]:.1f} %")
        right.set(xlim=(0, None), ylim=(0, 1.05 * max(wer)))
    left.set(xlabel="step", ylabel="CTC loss (nats a character)", ylim=(0, None))
    right.set(xlabel="step", ylabel="error rate, greedy (%)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(f"{state['config']['name']}: {state['seconds'] / 60:.1f} minutes of training")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def aligned_spans(log_probs: Tensor, labels: list[int]) -> list[tuple[int, int, int]]:
    """(label, first frame, last frame + 1) of each label on the most probable alignment of (T, C) ``log_probs``."""
    path, _ = torchaudio.functional.forced_align(log_probs[None], torch.tensor([labels]), blank=BLANK)
    spans = torchaudio.functional.merge_tokens(path[0], torch.ones(len(log_probs)), blank=BLANK)
    return [(span.token, span.start, span.end) for span in spans]


def colour(label: int) -> Any:
    """One of eight dark colours, so that neighbours in the alphabet differ."""
    return plt.get_cmap("Dark2")(label % 8)


def plot_alignment(utterance: Utterance, model: AcousticModel, config: Config, path: Path) -> None:
    """The spectrogram with its aligned characters above and the posteriors over it."""
    tokens = Tokens(config.data.alphabet)
    features = config.features
    samples = read_audio(utterance.audio_filepath, features.sample_rate)
    inputs = LogMel(features)(samples)
    with torch.inference_mode():
        logits, _ = model(inputs[None], torch.tensor([len(inputs)]))
    log_probs = logits[:, 0].log_softmax(-1)
    posteriors = log_probs.exp().numpy()
    stride = features.hop_length * len(inputs) / len(log_probs) / features.sample_rate
    seconds = [stride * (t + 0.5) for t in range(len(log_probs))]
    duration = len(samples) / features.sample_rate

    figure, axes = plt.subplots(figsize=(min(24.0, max(9.0, 4.6 * duration)), 4.2), layout="constrained")
    power = librosa.feature.melspectrogram(
        y=samples.numpy(), sr=features.sample_rate, n_fft=512, hop_length=features.hop_length, n_mels=N_BANDS
    )
    decibel = librosa.power_to_db(power, ref=power.max(), top_db=70)
    axes.imshow(decibel, origin="lower", aspect="auto", cmap="Greys", vmax=15, extent=(0, duration, 0, N_BANDS))
    hertz = librosa.mel_frequencies(n_mels=N_BANDS + 2, fmax=features.sample_rate / 2)[1:-1]
    shown = [250, 500, 1000, 2000, 4000, 7000]
    axes.set_yticks([float(abs(hertz - h).argmin()) + 0.5 for h in shown], [str(h) for h in shown])
    axes.set(xlabel="time (s)", ylabel="mel frequency (Hz)")
    axes.set_title(f"{utterance.id}: {utterance.text.lower()}", fontsize=11, pad=24)

    over = axes.twinx()
    over.set(ylim=(0, 1), ylabel="posterior", yticks=[0, 0.5, 1], xlim=(0, duration))
    over.plot(seconds, posteriors[:, BLANK], color="black", linewidth=1, linestyle=":", label="blank")
    spans = aligned_spans(log_probs, tokens.encode(utterance.text))
    for label in sorted({label for label, _, _ in spans}):
        curve = posteriors[:, label]
        if tokens.decode([label]) == " ":
            over.plot(seconds, curve, color="white", linewidth=1.6)
            over.plot(seconds, curve, color="0.3", linewidth=0.8, label="space")
            continue
        over.fill_between(seconds, curve, color=colour(label), alpha=0.25, linewidth=0)
        over.plot(seconds, curve, color=colour(label), linewidth=1.5)
    for label, start, stop in spans:
        character = tokens.decode([label])
        if character != " ":
            middle = stride * (start + stop) / 2
            over.text(middle, 1.02, character, color=colour(label), ha="center", weight="bold", fontsize=12)
    over.legend(loc="lower right", fontsize=8, ncols=2, framealpha=0.9)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def report_text(config: Config, state: dict[str, Any], results: list[dict[str, Any]], parameters: int) -> str:
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
        f"{state['seconds'] / 60:.1f} minutes of training",
        "",
    ]
    for result in results:
        rows += [
            f"{result['set']} ({config.data.note}), greedy, {result['utterances']} utterances of {result['speakers']} "
            f"speakers, best checkpoint on dev (epoch {result['epoch']}):",
            "",
            "```",
            line("WER", result["WER"]),
            line("CER", result["CER"]),
            "```",
            "",
        ]
    return "\n".join(rows)


def main() -> None:
    parser = configs.argument_parser(__doc__)
    parser.add_argument("--figure", type=Path, help="write the curves here too, such as figures/mini.png")
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    exp = config.exp
    state = checkpoint.load(exp / "last.pt")
    model, trained, _ = checkpoint.load_model(exp / "best.pt")
    plot_curves(state, exp / "curves.png")
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_curves(state, args.figure)
    # The first utterance of about three seconds: short enough that its characters can be read.
    utterances = sorted(read_manifests(trained, config.data.test), key=lambda u: u.id)
    example = min(utterances, key=lambda u: abs(round(u.duration) - 3))
    plot_alignment(example, model, trained, exp / "alignment.png")
    done = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(exp.glob("decode_*_greedy/result.json"))]
    parameters = sum(p.numel() for p in model.parameters())
    text = report_text(trained, state, done, parameters)
    (exp / "report.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"python transcribe.py --checkpoint exp/{config.name}/best.pt {example.audio_filepath}")
    print(f"  said:        {example.text}")
    print(f"  transcribed: {transcribe(Path(example.audio_filepath), model, trained)}")
    print(f"pictures: {exp / 'curves.png'} {exp / 'alignment.png'}")


if __name__ == "__main__":
    main()

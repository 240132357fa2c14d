"""Stage 4: pictures and text. curves.png, alignment.png and report.md under exp/<name>/, and an example transcribed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import librosa
import matplotlib
import torch

import checkpoint
import config as configs
import numbactc
from config import Config
from features import LogMel, read_audio
from manifest import Utterance, read_manifests
from model import AcousticModel
from rates import line
from tokens import BLANK, Tokens
from transcribe import Transcriber

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


def plot_alignment(
    utterance: Utterance, model: AcousticModel, tokens: Tokens, log_mel: LogMel, config: Config, path: Path
) -> None:
    """The aligned tokens and words over the spectrogram, and below it the posteriors."""
    features = config.features
    samples = read_audio(utterance.audio_filepath, features.sample_rate)
    inputs, lengths = log_mel(samples[None], torch.tensor([len(samples)]))
    with torch.inference_mode():
        logits, _ = model(inputs, lengths)
    log_probs = logits[:, 0].log_softmax(-1)
    seconds = features.hop_length * inputs.shape[1] / len(log_probs) / features.sample_rate
    labels = tokens.encode(utterance.text)
    (alignment,) = numbactc.forced_align(log_probs, torch.tensor(labels), [len(log_probs)], [len(labels)], BLANK)
    words = tokens.words(alignment.spans)

    width = min(24.0, max(9.0, 4.6 * utterance.duration))
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(width, 5.4), height_ratios=[1.2, 1], sharex=True, layout="constrained"
    )
    power = librosa.feature.melspectrogram(
        y=samples.numpy(), sr=features.sample_rate, n_fft=512, hop_length=features.hop_length, n_mels=N_BANDS
    )
    decibel = librosa.power_to_db(power, ref=power.max(), top_db=70)
    numbactc.plot_alignment(
        alignment.spans, decibel, words, frames=len(log_probs), symbols=tokens.labels, frame_duration=seconds, ax=above
    )
    hertz = librosa.mel_frequencies(n_mels=N_BANDS + 2, fmax=features.sample_rate / 2)[1:-1]
    shown = [250, 500, 1000, 2000, 4000, 7000]
    above.set_yticks([float(abs(hertz - h).argmin()) + 0.5 for h in shown], [str(h) for h in shown])
    above.set(ylabel="mel frequency (Hz)", title=utterance.id)
    above.label_outer()
    numbactc.plot_posteriors(log_probs.exp(), symbols=tokens.labels, frame_duration=seconds, ax=below)
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
    model, trained, content = checkpoint.load_model(exp / "best.pt")
    tokens, log_mel = checkpoint.tokens_of(content), checkpoint.log_mel_of(content)
    plot_curves(state, exp / "curves.png")
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_curves(state, args.figure)
    # The first utterance of about three seconds: short enough that its characters can be read.
    utterances = sorted(read_manifests(trained, config.data.test), key=lambda u: u.id)
    example = min(utterances, key=lambda u: abs(round(u.duration) - 3))
    plot_alignment(example, model, tokens, log_mel, trained, exp / "alignment.png")
    done = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(exp.glob("decode_*_greedy/result.json"))]
    parameters = sum(p.numel() for p in model.parameters())
    text = report_text(trained, state, done, parameters)
    (exp / "report.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"python transcribe.py --checkpoint exp/{config.name}/best.pt {example.audio_filepath}")
    print(f"  said:        {example.text}")
    print(f"  transcribed: {Transcriber(exp / 'best.pt')(example.audio_filepath)[0]}")
    print(f"pictures: {exp / 'curves.png'} {exp / 'alignment.png'}")


if __name__ == "__main__":
    main()

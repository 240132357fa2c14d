"""The report's pictures: curves of training; an utterance's spectrogram, alignment and posteriors."""

from __future__ import annotations

from pathlib import Path

import librosa
import matplotlib
import torch

import numbactc
from common.reporting import NO_ALIGNMENT
from common.tokens import BLANK
from features import read_audio
from manifest import Utterance
from recogniser import Recogniser

matplotlib.use("Agg")
from matplotlib import pyplot as plt

N_BANDS = 80  # of the picture's spectrogram


def plot_alignment(recogniser: Recogniser, utterance: Utterance, title: str, path: Path) -> None:
    """The aligned tokens and words of what was said over the spectrogram, and below it the posteriors.

    Where the text has more tokens than fit, there is no alignment, and the title says so.
    """
    tokens, features = recogniser.tokens, recogniser.config.features
    samples = read_audio(utterance.audio_filepath, features.sample_rate)
    log_probs = recogniser.scores(samples)
    seconds = recogniser.frame_seconds
    labels = tokens.encode(utterance.text)
    (alignment,) = numbactc.forced_align(log_probs, torch.tensor(labels), [len(log_probs)], [len(labels)], BLANK)
    words = tokens.words(alignment.spans)

    width = min(24.0, max(9.0, 4.6 * utterance.duration))
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(width, 5.6), height_ratios=[1.2, 1], sharex=True, layout="constrained"
    )
    # as many samples as the frames of scores stand for: both pictures then end together
    whole = librosa.util.fix_length(samples.numpy(), size=round(len(log_probs) * seconds * features.sample_rate) - 1)
    power = librosa.feature.melspectrogram(
        y=whole, sr=features.sample_rate, n_fft=512, hop_length=features.hop_length, n_mels=N_BANDS
    )
    decibel = librosa.power_to_db(power, ref=power.max(), top_db=70)
    numbactc.plot_alignment(
        alignment.spans, decibel, words, frames=len(log_probs), symbols=tokens.labels, frame_duration=seconds, ax=above
    )
    hertz = librosa.mel_frequencies(n_mels=N_BANDS + 2, fmax=features.sample_rate / 2)[1:-1]
    shown = [250, 500, 1000, 2000, 4000, 7000]
    above.set_yticks([float(abs(hertz - h).argmin()) + 0.5 for h in shown], [str(h) for h in shown])
    above.set(ylabel="mel frequency (Hz)")
    above.label_outer()
    numbactc.plot_posteriors(log_probs.exp(), symbols=tokens.labels, frame_duration=seconds, ax=below)
    figure.suptitle(title if alignment.spans else f"{title}\n{NO_ALIGNMENT}", fontsize="medium")
    figure.savefig(path, dpi=90)
    plt.close(figure)

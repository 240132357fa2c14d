"""Stage 1, after the tokens: mean and deviation of each mel band over the training speech.

Only where ``features.normalise`` is global; data/<name>/statistics.json then holds them, and each checkpoint. Repeated,
it measures anew only if the training set or the features have changed.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

import config as configs
from common.checkpoint import fingerprint, write_atomically
from config import Config
from features import LogMel, read_audio
from manifest import Utterance, read_manifests

LIMIT = 2000  # utterances: some hours of speech, enough for a mean of each band
BEFORE = ("sample_rate", "n_fft", "hop_length", "n_mels", "mel_scale", "mel_norm")  # make features, normalised or not


def measured(utterances: Sequence[Utterance], config: Config) -> Tensor:
    """(2, F): mean and deviation of each band before normalisation, over at most LIMIT utterances drawn by the seed.

    What cannot be read is said and left out.
    """
    if len(utterances) > LIMIT:
        utterances = random.Random(config.train.seed).sample(utterances, LIMIT)
    bands = config.features.n_mels
    log_mel = LogMel(config.features, torch.zeros(2, bands))
    total, squares = torch.zeros(2, bands, dtype=torch.float64)
    frames = 0
    for utterance in tqdm(utterances, desc="statistics", unit="utt", disable=len(utterances) < 50):
        try:
            samples = read_audio(utterance.audio_filepath, config.features.sample_rate)
        except (OSError, RuntimeError) as error:
            print(f"left out of the statistics: {utterance.audio_filepath}: {error}")
            continue
        features = log_mel.log_mel(samples[None], torch.tensor([len(samples)]))[0][0].double()
        total += features.sum(0)
        squares += features.square().sum(0)
        frames += len(features)
    if not frames:
        raise ValueError("the training set must hold an utterance that can be read, got none")
    mean = total / frames
    return torch.stack([mean, (squares / frames - mean.square()).clamp(min=0).sqrt()]).float()


def depends_on(utterances: Sequence[Utterance], config: Config) -> str:
    """A mark of all that the statistics of these utterances come from."""
    rules = [fingerprint(utterances), config.train.seed, *(getattr(config.features, name) for name in BEFORE)]
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()


def prepare_statistics(config: Config) -> Tensor:
    """Those of statistics.json if they are of these utterances and features, else measured and written there."""
    path = config.manifests / "statistics.json"
    utterances = read_manifests(config, config.data.train)
    of = depends_on(utterances, config)
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["of"] == of:
            return torch.tensor(before["statistics"])
    statistics = measured(utterances, config)
    write_atomically(path, json.dumps({"of": of, "statistics": statistics.tolist()}))
    return statistics


def read_log_mel(config: Config) -> LogMel:
    """The features of a run after stage 1."""
    if config.features.normalise != "global":
        return LogMel(config.features)
    path = config.manifests / "statistics.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run stage 1 (./run.sh --stage 1 --stop-stage 1)")
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["of"] != depends_on(read_manifests(config, config.data.train), config):
        raise ValueError(f"{path} must be of these features and training utterances, got others: run stage 1 again")
    return LogMel(config.features, torch.tensor(found["statistics"]))


def main() -> None:
    args = configs.argument_parser(__doc__).parse_args()
    config = configs.load(args.config, args.overrides)
    if config.features.normalise == "global":
        mean, deviation = prepare_statistics(config)
        print(f"log-mel bands: means from {mean.min():.2f} to {mean.max():.2f}, mean deviation {deviation.mean():.2f}")


if __name__ == "__main__":
    main()

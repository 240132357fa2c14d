"""Manifests: the utterances of a run, and whether a text can be learnt from so much audio."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from common.checkpoint import write_atomically
from common.recurrent import output_frames
from common.tokens import Tokens
from config import Config


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest; ``duration`` in seconds."""

    nouns: ClassVar[tuple[str, str]] = ("utterance", "speaker")

    audio_filepath: str
    duration: float
    text: str
    speaker: str

    @property
    def id(self) -> str:
        return Path(self.audio_filepath).stem

    @property
    def source(self) -> str:
        return self.speaker


def write_manifest(path: Path, utterances: Sequence[Utterance]) -> None:
    write_atomically(path, "".join(json.dumps(asdict(u)) + "\n" for u in utterances))


def read_manifest(path: Path) -> list[Utterance]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run stage 0 (./run.sh --stage 0 --stop-stage 0)")
    with path.open(encoding="utf-8") as lines:
        return [Utterance(**json.loads(line)) for line in lines]


def read_manifests(config: Config, subsets: Sequence[str]) -> list[Utterance]:
    """The utterances that stages 0 and 1 accepted."""
    return [u for subset in subsets for u in read_manifest(config.manifests / f"{subset}.jsonl")]


def fewest_samples(duration: float, config: Config) -> int:
    """What ``duration`` seconds have in training, played at each of ``data.speeds``: the greatest leaves fewest."""
    speeds = config.data.speeds
    if not speeds or min(speeds) < 0.1:
        raise ValueError(f"data.speeds must be numbers from 0.1 up, at least one, got {speeds}")
    return math.floor(duration / max(speeds) * config.features.sample_rate)


def misfit(text: str, samples: int, tokens: Tokens, config: Config) -> tuple[str, str]:
    """Why ``text`` cannot be learnt from so many samples: the reason and its details, both empty if all is well."""
    if unknown := tokens.unknown(text):
        return "unknown characters", " ".join(map(repr, unknown))
    spectra = samples // config.features.hop_length + 1
    frames = output_frames(spectra, config.model.strides, config.model.upsample)
    if (needed := tokens.frames_needed(text)) > frames:
        return "too short for its text", f"{frames} frames of scores, {needed} needed"
    return "", ""

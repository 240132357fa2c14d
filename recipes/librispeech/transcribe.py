"""Transcribe audio files: python transcribe.py --checkpoint exp/demo/best.pt file.wav ..."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import checkpoint
from config import Config
from decoders import greedy
from features import LogMel, read_audio
from model import AcousticModel
from tokens import Tokens


@torch.inference_mode()
def transcribe(path: Path, model: AcousticModel, tokens: Tokens, config: Config) -> str:
    """The greedy transcript of one audio file; OSError or RuntimeError where it cannot be read."""
    features = LogMel(config.features)(read_audio(path, config.features.sample_rate))
    logits, input_lengths = model(features[None], torch.tensor([len(features)]))
    return greedy(logits, input_lengths, tokens)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("files", nargs="+", type=Path, help="FLAC, WAV, MP3 or Ogg; any sample rate")
    args = parser.parse_args()
    model, config, content = checkpoint.load_model(args.checkpoint)
    tokens = checkpoint.tokens_of(content)
    failed = False
    for path in args.files:
        try:
            print(f"{path}: {transcribe(path, model, tokens, config)}")
        except (OSError, RuntimeError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

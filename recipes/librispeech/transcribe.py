"""Transcribe audio files of any length.

python transcribe.py --checkpoint exp/demo/best.pt hello.wav 'talks/*.flac'
python transcribe.py --checkpoint exp/demo/best.pt --method words --times hello.wav
find . -name '*.ogg' | python transcribe.py --checkpoint exp/demo/best.pt -
"""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import numbactc
from common import language
from common.decoders import METHODS, Decoder, plain
from common.tokens import BLANK
from common.tuning import as_evaluated, tuned_weights
from numbactc import WordSpan
from recogniser import Recogniser


def names(words: Sequence[str]) -> Iterator[str]:
    """The files that are meant: paths, patterns such as ``'talks/**/*.flac'``, and "-" for those of standard input,
    one a line, as they come. A pattern without a match stands for itself.
    """
    for word in words:
        if word == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        elif Path(word).exists():
            yield word
        else:
            yield from sorted(glob.glob(word, recursive=True)) or [word]


class Transcriber:
    """A recogniser with a way to decode: the text of a file, and its words in time.

    It decodes by the settings in the checkpoint's ``decode`` section, with the weights of when stage 3 last decoded by
    that method and a search as wide as then, and with ``others``, such as beam_size=256, in them.
    """

    def __init__(self, path: Path, method: str = "greedy", device: str = "cpu", **others: Any) -> None:
        self.recogniser = Recogniser(path, device)
        settings = replace(as_evaluated(path.parent, method, self.recogniser.config.decode), **others)
        tokens, folder = self.recogniser.tokens, path.parent / "lm"
        if method == "arpa" and not settings.lm:
            raise ValueError("an ARPA file must be named for the method arpa, by --lm or decode.lm, got none")
        lm = language.arpa_file(method, settings, folder)
        if language.unit(method, settings) and not lm.exists():
            remedy = f": run stage 3 with {method} in decode.methods" if method != "arpa" else ""
            raise FileNotFoundError(f"{lm} is missing{remedy}")
        self.decoder = Decoder(method, tokens, settings, language.read(method, tokens, settings, folder))
        self.weights = tuned_weights(path.parent, self.decoder)

    def __call__(self, path: str | Path, chunk: float = 60.0, overlap: float = 5.0) -> tuple[str, list[WordSpan]]:
        """Text, and words with their place in seconds; OSError or RuntimeError where the file cannot be read."""
        log_probs = self.recogniser.file_scores(path, chunk, overlap)
        (found,) = self.decoder.paths([log_probs], self.weights)
        (alignment,) = numbactc.forced_align(
            log_probs, torch.tensor(found.tokens, dtype=torch.int64), [len(log_probs)], [len(found.tokens)], BLANK,
            frame_duration=self.recogniser.frame_seconds,
        )  # fmt: skip
        return plain(self.recogniser.tokens, found.tokens), self.recogniser.tokens.words(alignment.spans)

    def row(self, word: WordSpan) -> str:
        """A word's first and last second, how sure the model is of it, and its text."""
        text = plain(self.recogniser.tokens, word.tokens)
        return f"{word.start_time:9.2f} {word.end_time:9.2f} {word.confidence:6.3f}  {text}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Weights, and how wide the search is without --beam-size, are those with which stage 3 last decoded by "
        "that method; all else is as the checkpoint's decode settings say.",
    )  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, help="default: greedy; arpa with --lm")
    parser.add_argument("--lm", help="an ARPA file, for beam search with it")
    parser.add_argument("--lm-unit", choices=("word", "token"), help="what it is a model of")
    parser.add_argument("--beam-size", type=int)
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where PyTorch finds one")
    parser.add_argument("--times", action="store_true", help="a line a word: begin, end, in seconds, confidence")
    parser.add_argument("--chunk", type=float, default=60.0, help="seconds that are scored at once")
    parser.add_argument("--overlap", type=float, default=5.0, help="seconds that a chunk hears of its neighbours")
    parser.add_argument("files", nargs="+", help="FLAC, WAV, MP3 or Ogg, any rate; patterns; - for names on stdin")
    args = parser.parse_args()
    method = args.method or ("arpa" if args.lm else "greedy")
    if args.lm and method != "arpa":
        parser.error(f"--lm must go with --method arpa, got {method}")
    given = {name: value for name in ("lm", "lm_unit", "beam_size") if (value := getattr(args, name)) is not None}
    try:
        transcriber = Transcriber(args.checkpoint, method, args.device, **given)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    failed = False
    for path in names(args.files):
        try:
            text, words = transcriber(path, args.chunk, args.overlap)
        except (OSError, RuntimeError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        rows = [transcriber.row(word) for word in words] if args.times else []
        print("\n".join([f"{path}: {text}", *rows]), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

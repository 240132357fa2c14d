"""A checkpoint ready for use: the scores of an image, its text, and where each character stands.

Shapes: T frames of scores, C classes.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

import numbactc
import settings
from common import checkpoint, language
from common.decoders import Decoder, plain
from common.distributed import Processes
from common.tokens import BLANK
from common.tuning import as_evaluated, tuned_weights
from crnn import CRNN
from images import as_tensor, scaled


class Character(NamedTuple):
    """A character of a line, from which column of the image to which, and how sure of it the model is, 0 to 1."""

    text: str
    left: float
    right: float
    confidence: float


def cells(spans: list[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """Characters' stretches of a line: CTC writes each in a frame or two of it, so the gap between two is shared in
    half, and the first and the last reach as far outwards as inwards.

    >>> cells([(10, 14), (20, 24), (40, 44)], 50)
    [(7.0, 17.0), (17.0, 32.0), (32.0, 50)]
    """
    if not spans:
        return []
    inner = [(a[1] + b[0]) / 2 for a, b in pairwise(spans)]
    (first, after), (before, last) = spans[0], spans[-1]
    left = first - (inner[0] - after) if inner else 0.0
    right = last + (before - inner[-1]) if inner else width
    edges = [max(0.0, left), *inner, min(width, right)]
    return list(pairwise(edges))


class Reader:
    """Model and tokens of the checkpoint at ``path``; the model on ``device``, chosen as by ``train.device``."""

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        self.device = Processes().device(device)
        self.content = checkpoint.load(path)
        self.config = settings.from_dict(self.content["config"])
        self.tokens = checkpoint.tokens_of(self.content)
        self.model = CRNN(self.config.images, self.config.model, len(self.tokens))
        self.model.load_state_dict(self.content["model"])
        self.model.eval().to(self.device)

    @torch.inference_mode()
    def scores(self, image: Image.Image) -> Tensor:
        """(T, C) log-probabilities of a grey image of one line."""
        line = as_tensor(scaled(image, self.config.images.height))
        logits, _ = self.model(line[None].to(self.device), torch.tensor([len(line)], device=self.device))
        log_probs: Tensor = logits[:, 0].log_softmax(-1).cpu()
        return log_probs

    def columns_a_frame(self, image: Image.Image) -> float:
        """Columns of the image itself from one frame of scores to the next."""
        model = self.config.model
        return math.prod(model.columns) / model.upsample * image.height / self.config.images.height

    def characters(self, image: Image.Image, log_probs: Tensor, labels: list[int]) -> list[Character]:
        """Where each of ``labels`` stands in the image, by the best alignment."""
        (alignment,) = numbactc.forced_align(
            log_probs, torch.tensor(labels, dtype=torch.int64), [len(log_probs)], [len(labels)], BLANK
        )
        a_frame = self.columns_a_frame(image)
        edges = cells([(span.start * a_frame, span.end * a_frame) for span in alignment.spans], image.width)
        return [
            Character(self.tokens.decode([span.token]), *edge, span.confidence)
            for span, edge in zip(alignment.spans, edges, strict=True)
        ]


class LineReader:
    """A reader with a way to decode: text, confidence and characters of an image.

    It decodes by the settings in the checkpoint's ``decode`` section, with the weights of when the evaluation last
    decoded by that method and a search as wide as then.
    """

    def __init__(self, path: Path, method: str = "greedy") -> None:
        self.reader = Reader(path)
        chosen = as_evaluated(path.parent, method, self.reader.config.decode)
        folder = path.parent / "lm"
        lm = language.arpa_file(method, chosen, folder)
        if language.unit(method, chosen) and not lm.exists():
            raise FileNotFoundError(f"{lm} is missing: run stage 2 with {method} in decode.methods")
        tokens = self.reader.tokens
        self.decoder = Decoder(method, tokens, chosen, language.read(method, tokens, chosen, folder))
        self.weights = tuned_weights(path.parent, self.decoder)

    def __call__(self, image: Image.Image) -> tuple[str, float, list[Character]]:
        """Confidence is the text's probability, over all its alignments."""
        log_probs = self.reader.scores(image)
        (found,) = self.decoder.paths([log_probs], self.weights)
        targets = torch.tensor(found.tokens, dtype=torch.int64)
        loss = numbactc.ctc_loss(log_probs, targets, [len(log_probs)], [len(targets)], BLANK, "sum")
        characters = self.reader.characters(image, log_probs, found.tokens)
        return plain(self.reader.tokens, found.tokens), math.exp(-loss.item()), characters

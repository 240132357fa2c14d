"""A language easily learnt, and a corpus of it on disk: each word is a tone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

TEXTS = ["ONE", "TWO TWO", "THREE", "ONE TWO", "FOUR ONE", "TWO", "THREE ONE", "FOUR"]
PITCHES = {"ONE": 300.0, "TWO": 700.0, "THREE": 1500.0, "FOUR": 3000.0}


def tones(text: str, rate: int = 16000) -> NDArray[np.float64]:
    """Each word a tone of half a second, then a tenth of silence; (S,) samples."""
    seconds = np.arange(rate // 2) / rate
    silence = np.zeros(rate // 10)
    spoken = [0.5 * np.sin(6.2832 * PITCHES[word] * seconds) for word in text.split()]
    return np.concatenate([part for tone in spoken for part in (tone, silence)])


def write_corpus(root: Path, subset: str, texts: list[str], suffix: str = ".flac", speaker: str = "7") -> Path:
    """``texts`` spoken in tones, in LibriSpeech's layout; returns the chapter's folder."""
    chapter = root / subset / speaker / "1"
    chapter.mkdir(parents=True)
    rows = []
    for k, text in enumerate(texts):
        rows.append(f"{speaker}-1-{k:04d} {text}")
        noise = 1e-3 * np.random.default_rng(k).standard_normal(len(tones(text)))
        soundfile.write(chapter / f"{speaker}-1-{k:04d}{suffix}", tones(text) + noise, 16000)
    (chapter / f"{speaker}-1.trans.txt").write_text("\n".join(rows) + "\n")
    return chapter

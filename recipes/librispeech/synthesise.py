"""Stage 0 without data: a spoken corpus by eSpeak NG, on disk in LibriSpeech's layout.

<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac beside <speaker>-<chapter>.trans.txt; SPEAKERS.TXT.
A speaker is a voice variant with an accent and a pitch. The variants are dealt to the subsets by families (f1 to f5 are
one family), so that neither dev nor test hold a voice that training has heard, nor a sentence of it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import re
import shutil
from pathlib import Path

import espeakng_loader
import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from config import RECIPE
from grammar import sentence

SAMPLE_RATE = 16000
ACCENTS = ["en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-scotland", "en-029"]
# Whispers and other effects; AnxiousAndy and Marco drawl, a quarter slower than every other variant.
LEFT_OUT = {"whisper", "whisperf", "croak", "Demonic", "iven4", "AnxiousAndy", "Marco", "Mr serious", "fast"}
FASTEST = 0.055  # seconds a character; faster speech is said again, more slowly
SHARES = {"train": 0.8, "dev": 0.05, "test": 0.15}  # of the families of voices


class Synthesiser:
    """eSpeak NG's C library through ctypes; one a process, since the library has one global state."""

    SYNCHRONOUS, RATE, PITCH, UTF8 = 2, 1, 3, 1

    def __init__(self, seed: int = 1) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        path = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(self.SYNCHRONOUS, 0, path, 0)
        if self.rate <= 0:
            raise RuntimeError(f"eSpeak NG must start with its data in {path.decode()}, got {self.rate}")
        # The breath of its voices is drawn at random. Starting has seeded that by the clock; now a process repeats.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._chunks: list[NDArray[np.int16]] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._receive)  # kept: ctypes does not
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str, words_per_minute: int, pitch: int, throat: float = 1) -> NDArray[np.float32]:
        """Samples (S,) at 16 kHz in [-1, 1]; ``pitch`` 0 to 99; ``throat`` > 1 is a shorter one."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"voice must be one of eSpeak NG's, got {voice!r}")
        self._library.espeak_SetParameter(self.RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(self.PITCH, pitch, 0)
        self._chunks.clear()
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, self.UTF8, None, None)
        samples = np.concatenate(self._chunks).astype(np.float32) / 32768
        return librosa.resample(samples, orig_sr=self.rate * throat, target_sr=SAMPLE_RATE, res_type="soxr_mq")


def family(variant: str) -> str:
    """Variants of one make sound alike and stay together: Gene and Gene2, f1 to f5, anika and anikaRobot.

    >>> family("anikaRobot"), family("Gene2"), family("f3")
    ('anika', 'gene', 'f')
    """
    return re.sub(r"robot$|\d+$", "", variant.lower()) or variant.lower()


def deal_variants(seed: int) -> dict[str, list[str]]:
    """The voice variants of each subset, drawn by families: nobody chose the easy ones for the test."""
    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    variants = sorted(path.name for path in folder.iterdir() if path.name not in LEFT_OUT)
    families = sorted({family(v) for v in variants})
    random.Random(seed).shuffle(families)
    dealt: dict[str, list[str]] = {}
    start = 0.0
    for subset, share in SHARES.items():
        stop = start + share
        chosen = set(families[round(start * len(families)) : round(stop * len(families))])
        dealt[subset] = [v for v in variants if family(v) in chosen]
        start = stop
    return dealt


def synthesise(root: Path, counts: dict[str, int], seed: int) -> None:
    """Write ``counts[subset]`` utterances a subset under ``root``; a subset is put in place when it is complete."""
    synthesiser = Synthesiser(seed)
    variants = deal_variants(seed)
    taken: set[str] = set()  # texts of the subsets before: none is said twice
    root.mkdir(parents=True, exist_ok=True)
    speakers: list[str] = []
    for number, subset in enumerate(["test", "dev", "train"], 1):
        draw = random.Random(f"{seed} {subset}")
        voices = [(v, a) for v in variants[subset] for a in ACCENTS]
        draw.shuffle(voices)
        ids = {voice: 1000 * number + k for k, voice in enumerate(voices)}
        speakers += [f"{i} | {v} | {subset} | {a}" for (v, a), i in ids.items()]
        partial = root / f"{subset}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        own: set[str] = set()
        lines: dict[Path, list[str]] = {}
        for k in tqdm(range(counts[subset]), desc=f"synthesise {subset}", unit="utt"):
            voice = voices[k % len(voices)]
            text, spoken = sentence(draw)
            while text in taken:
                text, spoken = sentence(draw)
            own.add(text)
            chapter = partial / str(ids[voice]) / "1"
            rows = lines.setdefault(chapter, [])
            name = f"{ids[voice]}-1-{len(rows):04d}"
            rows.append(f"{name} {text}")
            chapter.mkdir(parents=True, exist_ok=True)
            speed, pitch, throat = draw.randrange(125, 180), draw.randrange(25, 75), 1.0
            if subset == "train":  # hears more throats than there are variants; dev and test speak with their own
                pitch, throat = draw.randrange(10, 90), draw.uniform(0.82, 1.22)
            samples = synthesiser.say(spoken, "+".join(voice[::-1]), speed, pitch, throat)
            while len(samples) / SAMPLE_RATE < FASTEST * len(text) and speed > 80:
                speed -= 10  # some variants are in a hurry
                samples = synthesiser.say(spoken, "+".join(voice[::-1]), speed, pitch, throat)
            samples *= 0.9 / max(1e-3, float(np.abs(samples).max())) * draw.uniform(0.3, 1.0)
            soundfile.write(chapter / f"{name}.flac", samples, SAMPLE_RATE)
        for chapter, rows in lines.items():
            (chapter / f"{chapter.parent.name}-1.trans.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
        shutil.rmtree(root / subset, ignore_errors=True)
        partial.rename(root / subset)
        taken |= own
    rows = ["; id | variant | subset | accent", *speakers]
    (root / "SPEAKERS.TXT").write_text("\n".join(rows) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RECIPE / "data" / "spoken")
    parser.add_argument("--train", type=int, default=7000, help="utterances")
    parser.add_argument("--dev", type=int, default=200)
    parser.add_argument("--test", type=int, default=600)
    # The test voices of seed 1 were listened to while this recipe was made; those of seed 2 were dealt afterwards.
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    counts = {"train": args.train, "dev": args.dev, "test": args.test}
    recipe = json.dumps({"version": 8, "counts": counts, "seed": args.seed})
    done = args.out / "synthesised.json"
    if done.exists() and done.read_text(encoding="utf-8") == recipe:
        print(f"{args.out} is complete: {counts}")
        return
    done.unlink(missing_ok=True)
    synthesise(args.out, counts, args.seed)
    done.write_text(recipe, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Stage 0: a folder in LibriSpeech's layout to validated manifests, and a report of what was dropped and why.

Every file is decoded once here, all of it. What breaks later is left out and reported where it is read. Repeated, it
starts anew only if files, transcripts or rules have changed.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

import config as configs
from common import origin
from common.checkpoint import write_atomically
from common.tokens import Characters
from config import Config
from features import FORMATS
from manifest import Utterance, fewest_samples, misfit, write_manifest


def find_utterances(folder: Path) -> list[tuple[str, str, Path]]:
    """(id, text in capitals, audio file without its suffix) of every line of every ``*.trans.txt`` under ``folder``.

    A letter with an accent is one character, even where a file has it as two (Unicode's NFC).
    """
    found = []
    for transcript in sorted(folder.rglob("*.trans.txt")):
        # Bytes that are not UTF-8 become a character no alphabet holds: the utterance is dropped and reported.
        for line in transcript.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip():
                name, _, text = line.strip().partition(" ")
                text = unicodedata.normalize("NFC", text.upper())
                found.append((name, " ".join(text.split()), transcript.parent / name))
    return found


def duration_of(path: Path) -> float:
    """Seconds, by decoding all of it: a header can promise what a cut file does not hold."""
    frames = 0
    with soundfile.SoundFile(path) as file:
        for block in file.blocks(65536, dtype="float32"):
            frames += len(block)
            if not np.isfinite(block).all():
                raise RuntimeError("samples that are not numbers")
        if frames == 0:
            raise RuntimeError("no samples")
        if file.format == "FLAC" and frames < file.frames:
            raise RuntimeError(f"{file.frames} samples promised, {frames} found")
        return frames / float(file.samplerate)


def check(stem: Path, text: str, config: Config, training: bool) -> tuple[Utterance | None, str, str]:
    """The utterance, or None with the reason and its details.

    What is too long, too short, or too short for its text is left out of training only: leaving it out of a test would
    flatter that, and a test set would depend on the model.
    """
    characters = Characters(config.data.alphabet)
    audio = next((stem.with_name(stem.name + s) for s in FORMATS if stem.with_name(stem.name + s).exists()), None)
    if audio is None:
        return None, "no audio file", f"none of {', '.join(FORMATS)}"
    if not text:
        return None, "empty transcript", ""
    if unknown := characters.unknown(text):
        return None, "unknown characters", " ".join(map(repr, unknown))
    try:
        duration = duration_of(audio)
    except (OSError, RuntimeError) as error:
        return None, "unreadable", str(error)
    if training:
        if duration > config.data.max_seconds:
            return None, "too long", f"{duration:.2f} s, data.max_seconds is {config.data.max_seconds:g}"
        if duration < config.data.min_seconds:
            return None, "too short", f"{duration:.2f} s, data.min_seconds is {config.data.min_seconds:g}"
        if not config.data.bpe:  # pieces are checked in stage 1, which makes them
            reason, details = misfit(text, fewest_samples(duration, config), characters, config)
            if reason:
                return None, reason, details
    speaker = audio.parent.parent.name
    return Utterance(str(audio), round(duration, 4), text, speaker), "", ""


def fingerprint(folder: Path, config: Config, training: bool) -> str:
    """Changes when a file under ``folder`` or a rule does."""
    rules: list[Any] = [config.data.alphabet]
    if training:
        rules += [config.data.bpe, config.data.min_seconds, config.data.max_seconds, config.data.speeds, training]
        rules += [config.model.strides, config.features.hop_length, config.features.sample_rate]
        if config.model.upsample != 1:
            rules.append(config.model.upsample)
        if config.data.bpe and (begun := origin.begun_with(config)):
            rules.append(begun)  # whose pieces decide what stage 1 drops
    digest = hashlib.sha256(json.dumps(rules).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def prepare_subset(subset: str, config: Config) -> str:
    """Write <subset>.jsonl and <subset>.dropped.txt; returns the report's line."""
    folder = config.root / subset
    if not folder.is_dir():
        there = sorted(p.name for p in config.root.iterdir() if p.is_dir()) if config.root.is_dir() else []
        raise FileNotFoundError(f"{folder} must be a folder of LibriSpeech's layout; {config.root} holds {there}")
    out = config.manifests
    out.mkdir(parents=True, exist_ok=True)
    manifest, mark = out / f"{subset}.jsonl", out / f"{subset}.json"
    training = subset in config.data.train
    digest = fingerprint(folder, config, training)
    if manifest.exists() and mark.exists():
        before = json.loads(mark.read_text(encoding="utf-8"))
        if before["fingerprint"] == digest:
            return str(before["report"])
    mark.unlink(missing_ok=True)  # it is to speak of whole files only, should this be killed
    kept: list[Utterance] = []
    dropped: list[str] = []
    reasons: Counter[str] = Counter()
    found = find_utterances(folder)
    transcribed = {stem for _, _, stem in found}
    for path in sorted(folder.rglob("*")):
        if path.suffix in FORMATS and path.with_suffix("") not in transcribed:
            reasons["no transcript"] += 1
            dropped.append(f"{path.stem}: no transcript")
    for name, text, stem in tqdm(found, desc=f"check {subset}", unit="utt"):
        utterance, reason, details = check(stem, text, config, training)
        if utterance is None:
            reasons[reason] += 1
            dropped.append(f"{name}: {reason}{f' ({details})' if details else ''}")
        else:
            kept.append(utterance)
    if not kept:
        raise ValueError(f"{folder} must hold at least one utterance that can be used; dropped: {dict(reasons)}")
    hours = sum(u.duration for u in kept) / 3600
    report = f"{subset}: {len(kept)} utterances, {hours:.2f} h, {len({u.speaker for u in kept})} speakers; dropped "
    report += f"{len(dropped)}" + "".join(f", {count} {reason}" for reason, count in reasons.most_common())
    write_atomically(out / f"{subset}.dropped.txt", "".join(f"{line}\n" for line in dropped))
    write_manifest(manifest, kept)
    write_atomically(mark, json.dumps({"fingerprint": digest, "report": report}))
    return report


def main() -> None:
    args = configs.argument_parser(__doc__).parse_args()
    config = configs.load(args.config, args.overrides)
    subsets = list(dict.fromkeys(config.data.train + config.data.dev + config.data.test))
    for subset in subsets:
        print(prepare_subset(subset, config))
    print(f"manifests, and each dropped utterance with its reason: {config.manifests}")


if __name__ == "__main__":
    main()

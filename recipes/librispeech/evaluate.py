"""Stage 3: greedy transcripts of the test sets, their WER and CER, and the worst utterances.

Under exp/<name>/decode_<set>_greedy/: ref.trn, hyp.trn, errors.txt, result.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jiwer
import torch
from torch import Tensor
from tqdm import tqdm

import checkpoint
import config as configs
from data import Batch, BucketSampler, SpeechDataset, load
from features import LogMel
from manifest import Utterance, fingerprint, read_manifests
from model import AcousticModel
from tokens import Tokens, collapse

Decoded = list[tuple[Utterance, str]]


def greedy(logits: Tensor, input_lengths: Tensor, tokens: Tokens) -> list[str]:
    """The most probable label of each frame of (T, N, C) logits, collapsed: N transcripts."""
    paths = logits.argmax(-1).T.tolist()
    return [tokens.decode(collapse(path[:frames])) for path, frames in zip(paths, input_lengths.tolist(), strict=True)]


def scored(
    model: AcousticModel, log_mel: LogMel, dataset: SpeechDataset, batch_seconds: float
) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Batches of the whole data set, from short to long, with their logits (T, N, C) in float32 and input_lengths."""
    model.eval()
    sampler = BucketSampler([u.duration for u in dataset.utterances], batch_seconds, shuffle=False)
    with torch.inference_mode():
        for batch in tqdm(load(dataset, sampler.batches()), desc="decode", unit="batch", leave=False):
            for line in batch.reports:
                tqdm.write(line)
            if batch.utterances:
                yield batch, *model(*log_mel(batch.inputs, batch.lengths))


def error_rates(references: list[str], hypotheses: list[str]) -> dict[str, dict[str, float]]:
    """WER and CER in percent, with the counts behind them; references must not be empty."""
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)

    def counts(out: jiwer.WordOutput | jiwer.CharacterOutput) -> dict[str, float]:
        total = out.hits + out.substitutions + out.deletions
        return {"ins": out.insertions, "del": out.deletions, "sub": out.substitutions, "total": total}

    return {
        "WER": {"percent": 100 * words.wer, **counts(words)},
        "CER": {"percent": 100 * characters.cer, **counts(characters)},
    }


def line(name: str, rate: dict[str, float]) -> str:
    """The line everyone greps.

    >>> line("WER", {"percent": 2.967, "ins": 165, "del": 141, "sub": 1254, "total": 52576})
    '%WER 2.97 [ 1560 / 52576, 165 ins, 141 del, 1254 sub ]'
    """
    errors = rate["ins"] + rate["del"] + rate["sub"]
    counts = f"{errors} / {rate['total']}, {rate['ins']} ins, {rate['del']} del, {rate['sub']} sub"
    return f"%{name} {rate['percent']:.2f} [ {counts} ]"


def write_errors(path: Path, decoded: Decoded, limit: int = 50) -> None:
    """The utterances with most word errors, aligned word by word."""
    scored = [(u, jiwer.process_words(u.text, hypothesis)) for u, hypothesis in decoded]
    scored.sort(key=lambda item: item[1].substitutions + item[1].insertions + item[1].deletions, reverse=True)
    with path.open("w", encoding="utf-8") as file:
        for utterance, out in scored[:limit]:
            if out.wer > 0:
                shown = jiwer.visualize_alignment(out, show_measures=False, skip_correct=False)
                aligned = "\n".join(row for row in shown.splitlines() if row[:4] in ("REF:", "HYP:", "    "))
                file.write(f"{utterance.id}  speaker {utterance.speaker}  WER {100 * out.wer:.0f} %\n{aligned}\n\n")


def evaluate_set(path: Path, subset: str) -> dict[str, Any]:
    """Decode one set with the checkpoint at ``path``, write its files; a result of the same checkpoint is kept."""
    out = path.parent / f"decode_{subset}_greedy"
    model, config, content = checkpoint.load_model(path)
    utterances = read_manifests(config, [subset])
    known = {"set": subset, "utterances": len(utterances), "data": fingerprint(utterances)}
    known |= {"step": content["step"], "epoch": content["epoch"], "seconds": content["seconds"]}
    if (out / "result.json").exists():
        before: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
        if all(before.get(key) == value for key, value in known.items()):
            return before
    tokens, log_mel = checkpoint.tokens_of(content), checkpoint.log_mel_of(content)
    dataset = SpeechDataset(utterances, config, tokens, log_mel)
    decoded: Decoded = []
    for batch, logits, input_lengths in scored(model, log_mel, dataset, config.train.batch_seconds):
        decoded += zip(batch.utterances, greedy(logits, input_lengths, tokens), strict=True)
    # What could not be read counts as transcribed by nothing: an error rate never improves by a broken file.
    read = {u.id for u, _ in decoded}
    decoded += [(u, "") for u in utterances if u.id not in read]
    decoded.sort(key=lambda item: item[0].id)
    out.mkdir(exist_ok=True)
    for name, texts in [("ref", [u.text for u, _ in decoded]), ("hyp", [hypothesis for _, hypothesis in decoded])]:
        rows = [f"{text} ({u.id})\n" for text, (u, _) in zip(texts, decoded, strict=True)]
        (out / f"{name}.trn").write_text("".join(rows), encoding="utf-8")
    write_errors(out / "errors.txt", decoded)
    speakers = len({u.speaker for u in utterances})
    result: dict[str, Any] = {**known, "speakers": speakers, "unreadable": len(utterances) - len(read)}
    result |= error_rates([u.text for u, _ in decoded], [hypothesis for _, hypothesis in decoded])
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = configs.argument_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: exp/<name>/best.pt")
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    for subset in config.data.test:
        result = evaluate_set(args.checkpoint or config.exp / "best.pt", subset)
        of = f"{result['utterances']} utterances of {result['speakers']} speakers"
        print(f"{subset} ({config.data.note}), {of}, greedy")
        print(line("WER", result["WER"]))
        print(line("CER", result["CER"]))


if __name__ == "__main__":
    main()

"""Error rates, the line everyone greps, and the files of a decoded set: sclite's trn, the worst utterances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer

from common.batches import E, Example
from common.checkpoint import write_atomically


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


def figures(result: dict[str, Any]) -> list[str]:
    """The lines of a result: how many of its texts are right to the last character, where that is counted; WER; CER."""
    rows = [line("WER", result["WER"]), line("CER", result["CER"])]
    if exact := result.get("exact"):
        rows.insert(0, f"exact match {exact['percent']:.2f} % [ {exact['right']} / {exact['total']} ]")
    return rows


def write_trn(path: Path, ids: Sequence[str], texts: Sequence[str]) -> None:
    """sclite's format: a line each, the text, then the utterance's id in parentheses."""
    rows = [f"{text} ({name})\n" for name, text in zip(ids, texts, strict=True)]
    write_atomically(path, "".join(rows))


def read_trn(path: Path) -> dict[str, str]:
    """Texts by the utterance's id, of a file that ``write_trn`` wrote."""
    rows = (row.rpartition(" (") for row in path.read_text(encoding="utf-8").splitlines())
    return {name.removesuffix(")"): text for text, _, name in rows}


def worst(decoded: Sequence[tuple[E, str]], limit: int) -> list[tuple[E, jiwer.WordOutput]]:
    """At most ``limit`` utterances with errors, those with most word errors first."""
    scored = [(utterance, jiwer.process_words(utterance.text, hypothesis)) for utterance, hypothesis in decoded]
    wrong = [(utterance, out) for utterance, out in scored if out.wer > 0]
    wrong.sort(key=lambda item: item[1].substitutions + item[1].insertions + item[1].deletions, reverse=True)
    return wrong[:limit]


def aligned(utterance: Example, out: jiwer.WordOutput) -> str:
    """An utterance's name and WER, and under it reference and hypothesis, word by word."""
    shown = jiwer.visualize_alignment(out, show_measures=False, skip_correct=False)
    rows = [row for row in shown.splitlines() if row[:4] in ("REF:", "HYP:", "    ")]
    return "\n".join([f"{utterance.id}  {utterance.nouns[1]} {utterance.source}  WER {100 * out.wer:.0f} %", *rows])


def write_errors(path: Path, decoded: Sequence[tuple[E, str]], limit: int = 50) -> None:
    """The utterances with most word errors, aligned word by word."""
    text = "".join(f"{aligned(utterance, out)}\n\n" for utterance, out in worst(decoded, limit))
    write_atomically(path, text)

"""Stage 1: the tokens of a run, learnt from its training transcripts where they are BPE.

Under data/<name>/: tokens.txt (token, class, how often it occurs in training) and, for BPE, bpe.model. What no piece
writes, and what is too short for its pieces, is dropped from the training manifests and reported as in stage 0.
Repeated, it trains anew only if texts or rules have changed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import config as configs
from common import origin
from common.checkpoint import load, tokens_of, write_atomically
from common.tokens import Characters, Pieces, Tokens
from config import Config
from manifest import fewest_samples, misfit, read_manifest, read_manifests, write_manifest


def read_tokens(config: Config) -> Tokens:
    """The tokens of a run after stage 1."""
    if not config.data.bpe:
        return Characters(config.data.alphabet)
    path = config.manifests / "bpe.model"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run stage 1 (./run.sh --stage 1 --stop-stage 1)")
    tokens = Pieces(path.read_bytes())
    if len(tokens) != config.data.bpe:
        raise ValueError(f"{path} must have data.bpe={config.data.bpe} classes, got {len(tokens)}: run stage 1 again")
    return tokens


def fingerprint(config: Config) -> str:
    """Changes when a rule does, or what stage 0 has found for training; not with what is dropped here."""
    marks = [config.manifests / f"{subset}.json" for subset in config.data.train]
    if missing := [mark for mark in marks if not mark.exists()]:
        raise FileNotFoundError(f"{missing[0]} is missing: run stage 0 (./run.sh --stage 0 --stop-stage 0)")
    found = [json.loads(mark.read_text(encoding="utf-8"))["fingerprint"] for mark in marks]
    rules = [config.data.bpe, config.data.alphabet, found, *filter(None, [origin.begun_with(config)])]
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()


def pieces(config: Config) -> Pieces:
    """Those of ``train.init``, whose weights are of no use with others, or learnt from all that stage 0 has found."""
    if path := origin.begun_with(config):
        found, size = tokens_of(load(path)), config.data.bpe
        if not isinstance(found, Pieces) or len(found) != size:
            raise ValueError(f"train.init must be a checkpoint with data.bpe={size}, got {path!r}")
        return found
    texts = [u.text for u in read_manifests(config, config.data.train)]
    return Pieces.trained(texts, config.data.bpe, config.data.alphabet)


def prepare_pieces(config: Config) -> None:
    """Train bpe.model if it is missing or not of this training set, then drop what its pieces do not fit.

    The model is of all that stage 0 has found: of what is left, a second run would make another, under a checkpoint.
    """
    model, mark = config.manifests / "bpe.model", config.manifests / "bpe.json"
    if not (model.exists() and mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == fingerprint(config)):
        learnt = pieces(config).model
        mark.unlink(missing_ok=True)
        write_atomically(model, learnt)
        write_atomically(mark, json.dumps(fingerprint(config)))
    tokens = read_tokens(config)
    for subset in dict.fromkeys(config.data.train):
        if count := drop_misfits(subset, tokens, config):
            print(f"{subset}: dropped {count} more, see {subset}.dropped.txt")


def drop_misfits(subset: str, tokens: Tokens, config: Config) -> int:
    """Move what ``tokens`` do not fit from the manifest of ``subset``, a training set, to its dropped.txt.

    Returns how many. A test set stays as it is: it must not depend on the pieces.
    """
    path = config.manifests / f"{subset}.jsonl"
    kept, dropped = [], []
    for utterance in read_manifest(path):
        reason, details = misfit(utterance.text, fewest_samples(utterance.duration, config), tokens, config)
        if reason:
            dropped.append(f"{utterance.id}: {reason} ({details})\n")
        else:
            kept.append(utterance)
    if dropped:
        if not kept:
            raise ValueError(f"{path} must hold at least one utterance that fits data.bpe={len(tokens)}: {dropped[0]}")
        report = path.with_suffix(".dropped.txt")
        told = report.read_text(encoding="utf-8").splitlines(keepends=True)
        # killed before the manifest was written, this has told of them already
        write_atomically(report, "".join(dict.fromkeys(told + dropped)))
        write_manifest(path, kept)
    return len(dropped)


def main() -> None:
    args = configs.argument_parser(__doc__).parse_args()
    config = configs.load(args.config, args.overrides)
    if config.data.bpe:
        prepare_pieces(config)
    tokens = read_tokens(config)
    counts: Counter[int] = Counter()
    for utterance in read_manifests(config, config.data.train):
        counts.update(tokens.encode(utterance.text))
    shown = ["<blank>", *("<space>" if label == " " else label for label in tokens.labels[1:])]
    path = config.manifests / "tokens.txt"
    rows = [f"{label} {k} {counts[k]}\n" for k, label in enumerate(shown)]
    write_atomically(path, "".join(rows))
    print(f"{len(tokens)} classes, {counts.total()} labels in {', '.join(config.data.train)} -> {path}")
    if unseen := [label for k, label in enumerate(shown) if k and not counts[k]]:
        print(f"never seen in training: {' '.join(unseen)}")


if __name__ == "__main__":
    main()

"""Small cases for pyctcdecode and for what stands in for it, the same on every machine: `random` promises its numbers.

    python tests/pyctcdecode_cases.py > tests/pyctcdecode-0.5.0.json

in an environment with `pip install pyctcdecode==0.5.0 kenlm "numpy<2"` writes down what pyctcdecode answers. Nothing of
numbactc is imported.
"""

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CHARACTERS = ["", " ", *"abdeghinorstuw"]
PIECES = ["<pad>", "<unk>", "▁", "▁the", "▁he", "▁hot", "▁dog", "▁and", "▁a", "▁t", *"stdoghen", "ing"]
SENTENCES = ["the hot dog", "he and the dog", "a dog is hot", "the night is his", "he was a host", "dogs do not sing"]
ARPA = """\\data\\
ngram 1=15
ngram 2=13
ngram 3=4

\\1-grams:
-1.9\t<unk>\t0
-99\t<s>\t-0.4
-1.1\t</s>
-0.7\tthe\t-0.5
-1.0\ta\t-0.3
-1.2\tand\t-0.3
-1.3\the\t-0.4
-1.3\tdog\t-0.2
-1.6\tdogs\t-0.2
-1.5\thot\t-0.3
-1.4\tis\t-0.2
-1.7\tnight\t-0.2
-1.8\this\t-0.1
-1.9\twas\t-0.3
-2.0\thost\t-0.1

\\2-grams:
-0.3\t<s> the\t-0.2
-0.6\t<s> he\t-0.1
-0.8\t<s> a\t-0.1
-0.4\ta dog\t-0.1
-0.5\tthe hot\t-0.3
-0.7\tthe dog\t-0.1
-0.8\tthe night\t-0.2
-0.2\thot dog\t-0.1
-0.9\the and\t-0.1
-0.4\tand the\t-0.2
-0.6\tdog is\t-0.1
-0.3\tis hot
-0.5\tdog </s>

\\3-grams:
-0.1\tthe hot dog
-0.3\ta dog is
-0.2\the and the
-0.2\t<s> the hot

\\end\\
"""


def spelled(sentence: str, labels: list[str]) -> list[int]:
    """The classes of a sentence; in pieces, the longest that fits."""
    if "▁" not in labels:
        return [labels.index(character) for character in sentence]
    rest, classes = "▁" + sentence.replace(" ", "▁"), []
    while rest:
        piece = max((label for label in labels if label and rest.startswith(label)), key=len, default="")
        if not piece:
            piece, rest = "<unk>", rest[1:]
        classes.append(labels.index(piece))
        rest = rest[len(piece) :] if piece != "<unk>" else rest
    return classes


def logits(sentence: str, labels: list[str], height: float, seed: int) -> np.ndarray:
    """(T, C) float32: each token has a frame or two in which it is `height` nats above the noise, most of the time."""
    draws = random.Random(seed)
    blank = 0
    heard = [blank]
    for token in spelled(sentence, labels):
        heard += [token] * draws.choice((1, 1, 2)) + [blank] * draws.choice((1, 1, 2))
    rows = []
    for token in heard:
        row = [3.0 * draws.random() + 3.0 * draws.random() for _ in labels]
        row[token] += height * (0.2 + 1.2 * draws.random())
        rows.append(row)
    return np.array(rows, np.float32)


def cases() -> list[dict[str, Any]]:
    """Arguments of each case. `model` says whether the decoder has the language model; `n` how many beams are told."""
    found: list[dict[str, Any]] = []
    for number, sentence in enumerate(SENTENCES):
        for height in (9.0, 5.0):
            base = {"sentence": sentence, "height": height, "seed": 10 * number + int(height), "units": "characters"}
            found.append(base | {"model": False, "options": {}})
            found.append(base | {"model": True, "options": {}})
            hot = {"hotwords": ["hosts", "night dogs"], "hotword_weight": 6.0}
            found.append(base | {"model": True, "options": hot})
            found.append(base | {"model": False, "options": {"hotwords": ["dog"], "beam_width": 16}})
            if "i" not in sentence.replace("ing", "") and "w" not in sentence:
                found.append(base | {"units": "pieces", "model": False, "options": {}})
                found.append(base | {"units": "pieces", "model": True, "options": {"beam_width": 20}})
    return found


ALPHABETS = [
    ["<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "'"],
    ["_", "a", " ", "|"],
    ["_", "", "a", " "],
    [" ", "a", "b"],
    ["[PAD]", "[UNK]", "th", "##e", "a", "[CLS]", ""][:6],
    ["<unk>", "▁", "▁a", "b", "<s>"],
    PIECES,
]
"""Labels as tokenizers have them."""


def labels_of(case: dict[str, Any]) -> list[str]:
    return list(CHARACTERS if case["units"] == "characters" else PIECES)


def record(build_ctcdecoder: Any) -> list[dict[str, Any]]:
    """What a decoder of that name and shape answers to each case."""
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        arpa = Path(folder, "tiny.arpa")
        arpa.write_text(ARPA)
        for case in cases():
            decoder = build_ctcdecoder(labels_of(case), str(arpa) if case["model"] else None)
            scores = logits(case["sentence"], labels_of(case), case["height"], case["seed"])
            beams = decoder.decode_beams(scores, **case["options"])
            answers.append(
                case
                | {
                    "text": decoder.decode(scores, **case["options"]),
                    "beams": [
                        {
                            "text": text,
                            "frames": [[word, int(start), int(end)] for word, (start, end) in frames],
                            "logit_score": round(float(logit_score), 6),
                            "lm_score": round(float(lm_score), 6),
                        }
                        for text, _, frames, logit_score, lm_score in beams[:3]
                    ],
                }
            )
    return answers


if __name__ == "__main__":
    from pyctcdecode import Alphabet, build_ctcdecoder

    alphabets = [Alphabet.build_alphabet(labels) for labels in ALPHABETS]
    answers: dict[str, list[Any]] = {
        "alphabets": [[alphabet.labels, alphabet.is_bpe] for alphabet in alphabets],
        "cases": record(build_ctcdecoder),
    }
    parts = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in found) + "\n]"
        for name, found in answers.items()
    ]
    sys.stdout.write("{" + ",\n".join(parts) + "}\n")

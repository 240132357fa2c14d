"""ARPA files for tests: a small one, and others drawn at random."""

import itertools
import random
from pathlib import Path

SMALL = r"""\data\
ngram 1=6
ngram 2=7
ngram 3=4
ngram 4=1

\1-grams:
-1.5	<unk>
-99	<s>	-0.301
-1.1	</s>
-0.6	the	-0.25
-0.9	cat	-0.125
-1.2	sat	0.05

\2-grams:
-0.2	<s> the	-0.11
-0.4	the cat	-0.07
-0.5	cat sat	-0.3
-0.35	sat </s>
-0.8	the <unk>	-0.02
-0.7	<unk> sat	0
-1.05	sat the

\3-grams:
-0.15	<s> the cat	-0.21
-0.3	the cat sat	-0.4
-0.25	cat sat </s>
-0.65	the <unk> sat

\4-grams:
-0.05	<s> the cat sat

\end\
"""

Ngram = tuple[str, ...]


def written(folder: Path, text: str | bytes, name: str = "lm.arpa") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def drawn_ngrams(order: int, gaps: str) -> dict[Ngram, tuple[float, float]]:
    """n-grams of all orders drawn at random; "suffixes", histories too ("any") or none of them may be missing."""
    words = ["<s>", "</s>", "<unk>", "a", "b", "ü"]
    ngrams = {}
    for n in range(1, order + 1):
        for ngram in itertools.product(words, repeat=n):
            fits = (gaps == "any" or ngram[:-1] in ngrams) and (gaps != "none" or ngram[1:] in ngrams)
            if n == 1 or (fits and random.random() < 1.2 / n):
                backoff = random.choice([0.0, -random.random(), 0.3 * random.random()])
                ngrams[ngram] = (-1 - random.random(), backoff if n < order else 0.0)
    return ngrams


def arpa_of(ngrams: dict[Ngram, tuple[float, float]]) -> str:
    order = max(map(len, ngrams))
    sections = [[ngram for ngram in ngrams if len(ngram) == n] for n in range(1, order + 1)]
    lines = ["\\data\\"] + [f"ngram {n}={len(section)}" for n, section in enumerate(sections, 1)]
    for n, section in enumerate(sections, 1):
        lines += ["", f"\\{n}-grams:"]
        lines += [f"{ngrams[ngram][0]!r}\t{' '.join(ngram)}\t{ngrams[ngram][1]!r}" for ngram in section]
    return "\n".join([*lines, "", "\\end\\", ""])

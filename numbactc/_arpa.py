r"""ARPA files of back-off n-gram models: reading them, with every fault told by file and line, and writing them.

The format, by lines, log10 throughout (SRILM's manual, ngram-format(5)):

    \data\
    ngram 1=4
    ngram 2=2

    \1-grams:
    -0.7	a	-0.3        log-probability, words, back-off, which may be missing where it is 0
    ...
    \2-grams:
    -0.2	<s> a
    ...
    \end\
"""

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from numbactc import _dispatch_language
from numbactc._dispatch_language import ArpaReader, Ngrams

LN_10 = math.log(10.0)

MISSING_UNKNOWN = -100.0
"""log10 of <unk> in a file without it: KenLM's choice."""

SHORTEST_LINE = 4
"""Bytes: "0 a" and its end. What the header promises must fit into the file before memory is taken for it."""

SHOWN = 60
"""Characters of a line that a message shows."""

BEGIN, END, UNKNOWN = ("<s>", "<S>"), ("</s>", "</S>"), ("<unk>", "<UNK>")
"""The three words that are none, as toolkits write them."""

DATA = re.compile(rb"^[ \t]*\\data\\[ \t\r]*$", re.MULTILINE)
COUNT = re.compile(rb"ngram[ \t]+(\d{1,18})[ \t]*=[ \t]*(\d{1,18})")


class Model(NamedTuple):
    """A back-off model as it is kept and used."""

    words: tuple[str, ...]
    counts: tuple[int, ...]
    """N-grams of each order, from 1."""
    automaton: "_dispatch_language.Automaton"


def special(words: Sequence[str], names: tuple[str, ...]) -> int | None:
    """The number of one of the words that are none."""
    return next((words.index(name) for name in names if name in words), None)


def unpacked(content: bytes, name: str) -> bytes:
    """What gzip packed, whatever the file is called; anything else as it is.

    Raises:
        ValueError: damaged or cut off; the message has the line up to which it could be read.
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    parts: list[bytes] = []
    while content.strip(b"\0"):  # packed files may follow each other, and padding may follow them
        file = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            parts.append(file.decompress(content))
            fault = None if file.eof else "it is cut off"
        except zlib.error as error:
            fault = str(error)
        if fault:
            line = 1 + sum(part.count(b"\n") for part in parts)
            raise ValueError(f"{name}, line {line}: the gzip file cannot be read any further: {fault}")
        content = file.unused_data
    return b"".join(parts)


class Text(NamedTuple):
    """A file's text, and its name for messages. Positions are in bytes."""

    content: bytes
    name: str

    def error(self, position: int, rule: str) -> ValueError:
        """What must hold, and the line that is at a position."""
        line = 1 + self.content.count(b"\n", 0, position)
        start = self.content.rfind(b"\n", 0, position) + 1
        shown = self.line(start).decode(errors="replace")
        shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + "..."
        return ValueError(f"{self.name}, line {line}: {rule}, got {shown!r}")

    def line(self, position: int) -> bytes:
        """From a position to the end of its line."""
        end = self.content.find(b"\n", position)
        return self.content[position : len(self.content) if end < 0 else end].rstrip(b" \t\r")

    def lines(self, position: int) -> Iterator[int]:
        """Where the lines that are not empty begin, from the one at a position on."""
        while position < len(self.content):
            if self.line(position).strip():
                yield position
            position = self.content.find(b"\n", position) + 1 or len(self.content)

    def after(self, position: int, header: str) -> int:
        """The position after a line that must be the next."""
        at = next(self.lines(position), len(self.content))
        if self.line(at).strip() != header.encode():
            raise self.error(at, f"{header} must be here")
        return at + len(header)


def parse(content: bytes, name: str) -> Model:
    """The model in an ARPA file that has been unpacked; `name` is for messages.

    Raises:
        ValueError: what is wrong, and in which line.
    """
    text = Text(content, name)
    counts, position = _header(text)
    reader = ArpaReader(content, counts[0])
    orders, starts = [], []
    for order, count in enumerate(counts, 1):
        starts.append(text.after(position, f"\\{order}-grams:"))
        ngrams, read, position, fault = reader.read(starts[-1], order, count)
        if fault:
            raise text.error(position, fault)
        if read < count:
            raise text.error(position, f"{count} n-grams of order {order} must come before this and {read} do")
        orders.append(Ngrams(ngrams.words, ngrams.log_probs * LN_10, ngrams.backoffs * LN_10))
    text.after(position, "\\end\\")
    words, orders[0] = _with_unknown(_decoded(text, *reader.spans()), orders[0])
    for names in (BEGIN, END):
        if special(words, names) is None:
            raise ValueError(f"{name}: the unigrams must have {names[0]}, got none of {', '.join(names)}")
    try:
        return model_of(words, orders)
    except _dispatch_language.Repeated as fault:
        lines = list(text.lines(starts[fault.order - 1] + 1))
        raise text.error(lines[fault.row], "an n-gram must be there once") from None


def _header(text: Text) -> tuple[list[int], int]:
    """The number of n-grams of each order, and the position after them."""
    if text.content.startswith(b"mmap lm http://kheafield.com/code"):
        raise ValueError(f"{text.name}: must be an ARPA file, got KenLM's binary form of one")
    found = DATA.search(text.content)
    if found is None:
        raise ValueError(f"{text.name}: an ARPA file must have a line \\data\\, got {len(text.content)} bytes without")
    if text.content.rfind(b"\\end\\", found.end()) < 0:
        raise text.error(len(text.content.rstrip(b"\n")), "the file must end in \\end\\ and is cut off")
    counts: list[int] = []
    for position in text.lines(found.end()):
        line = text.line(position)
        if counts and line.startswith(b"\\"):
            return counts, position
        match = COUNT.fullmatch(line)
        if match is None or int(match[1]) != len(counts) + 1:
            raise text.error(position, f'"ngram {len(counts) + 1}=" and a number must be here')
        counts.append(int(match[2]))
        if counts[-1] * SHORTEST_LINE > len(text.content):
            raise text.error(position, f"the n-grams must fit into the file's {len(text.content)} bytes")
    raise text.error(len(text.content), "the n-grams must be here")


def _decoded(text: Text, begins: np.ndarray, ends: np.ndarray) -> list[str]:
    words = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        try:
            words.append(text.content[begin:end].decode())
        except UnicodeDecodeError:
            raise text.error(begin, "words must be in UTF-8") from None
    return words


def _with_unknown(words: list[str], unigrams: Ngrams) -> tuple[list[str], Ngrams]:
    """Words and unigrams with <unk>, if they lacked it."""
    if special(words, UNKNOWN) is not None:
        return words, unigrams
    numbers = np.arange(len(words) + 1, dtype=np.int32)[:, None]
    log_probs = np.append(unigrams.log_probs, MISSING_UNKNOWN * LN_10)
    return [*words, UNKNOWN[0]], Ngrams(numbers, log_probs, np.append(unigrams.backoffs, 0.0))


def model_of(words: Sequence[str], orders: Sequence[Ngrams]) -> Model:
    """The model of n-grams of order 1, 2, ...

    Where an n-gram's history, all its words but the last, is none itself, as some tools prune, it becomes one: with
    the probability that the model gives it in any case, and a back-off of 0.
    """
    given = [len(ngrams.words) for ngrams in orders]
    try:
        automaton = _dispatch_language.automaton(orders, given)
    except _dispatch_language.NoHistory:
        orders = _with_histories(orders)
        automaton = _dispatch_language.automaton(orders, given)
    return Model(tuple(words), tuple(len(ngrams.words) for ngrams in orders), automaton)


def _with_histories(orders: Sequence[Ngrams]) -> list[Ngrams]:
    """The n-grams, and after them the histories that are missing, of no probability yet."""
    complete = list(orders)
    for n in range(len(orders) - 1, 1, -1):
        shorter, longer = complete[n - 1], complete[n]
        every = np.concatenate([shorter.words, longer.words[:, :-1]])
        firsts = np.unique(every, axis=0, return_index=True)[1]
        missing = every[firsts[firsts >= len(shorter.words)]]
        nothing = np.zeros(len(missing))
        complete[n - 1] = Ngrams(
            np.concatenate([shorter.words, missing]),
            np.concatenate([shorter.log_probs, nothing]),
            np.concatenate([shorter.backoffs, nothing]),
        )
    return complete


def ngrams_of(model: Model) -> list[Ngrams]:
    """What `model_of` was given, and the histories that it added."""
    its = model.automaton
    taken = its.keys >= 0
    keys, arcs = its.keys[taken], its.arcs[taken]
    size = len(model.words)
    histories, lasts = np.full(len(its.log_probs), -1), np.arange(len(its.log_probs))
    histories[arcs], lasts[arcs] = keys // size - 1, keys % size
    orders: list[Ngrams] = []
    first = before = 0
    backoffs = np.append(its.backoffs[1:], np.zeros(model.counts[-1]))
    for order, count in enumerate(model.counts, 1):
        here = slice(first, first + count)
        words = lasts[here, None]
        if order > 1:
            words = np.hstack([orders[-1].words[histories[here] - before], words])
        orders.append(Ngrams(words.astype(np.int32), its.log_probs[here], backoffs[here]))
        before, first = first, first + count
    return orders


def lines_of(model: Model) -> Iterator[str]:
    """The ARPA file of a model, in pieces of whole lines."""
    yield "\\data\\\n" + "".join(f"ngram {order}={count}\n" for order, count in enumerate(model.counts, 1))
    for order, ngrams in enumerate(ngrams_of(model), 1):
        yield f"\n\\{order}-grams:\n"
        rows = zip(
            (ngrams.log_probs / LN_10).tolist(), ngrams.words.tolist(), (ngrams.backoffs / LN_10).tolist(), strict=True
        )
        for log_prob, words, backoff in rows:
            line = f"{log_prob:.9g}\t{' '.join(map(model.words.__getitem__, words))}"
            yield f"{line}\t{backoff:.9g}\n" if backoff else f"{line}\n"
    yield "\n\\end\\\n"

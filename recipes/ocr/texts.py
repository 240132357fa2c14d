"""What printed lines say: words of running text, prices, dates, codes.

The words are stretches of Python's own manual, which every Python has (`pydoc_data.topics`); no page of it is in two
sets.
"""

from __future__ import annotations

import functools
import random
import string
from pydoc_data.topics import topics

ALPHABET = " !#$%&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz€"
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip
SETS = ["train", "dev", "test"]
LONGEST = 28  # characters of a line


@functools.cache
def pages(subset: str) -> list[list[str]]:
    """The words of each page of a set, without those that have characters beyond the alphabet: every tenth page is for
    dev, two of ten are for test.
    """
    of = {"dev": [0], "test": [4, 8], "train": [1, 2, 3, 5, 6, 7, 9]}[subset]
    chosen = [text for k, text in enumerate(sorted(set(topics.values()))) if k % 10 in of]  # some are there twice
    letters, known = set(string.ascii_letters), set(ALPHABET)
    found = [[word for word in text.split() if set(word) <= known and set(word) & letters] for text in chosen]
    return [words for words in found if len(words) >= 20]


def words(subset: str, draw: random.Random) -> str:
    page = draw.choice(pages(subset))
    first = draw.randrange(len(page) - 6)
    text = page[first][:LONGEST]
    for word in page[first + 1 : first + draw.randint(2, 6)]:
        if len(text) + 1 + len(word) > LONGEST:
            break
        text += " " + word
    return text.upper() if draw.random() < 0.1 else text


def price(subset: str, draw: random.Random) -> str:
    amount = draw.choice([draw.uniform(0, 10), draw.uniform(0, 1000), draw.uniform(0, 100000)])
    number = draw.choice([f"{amount:,.2f}", f"{amount:.2f}", f"{amount:.2f}".replace(".", ","), f"{amount:.0f}.-"])
    sign = draw.choice(["$", "€", "EUR ", "USD ", ""])
    share = f"-{draw.randint(1, 99)}%"
    return draw.choice([f"{sign}{number}", f"{number} {sign}", f"Total: {sign}{number}", f"{share} {number}"]).strip()


def date(subset: str, draw: random.Random) -> str:
    year, month, day = draw.randint(1900, 2049), draw.randint(1, 12), draw.randint(1, 28)
    name = MONTHS[month - 1]
    return draw.choice([
        f"{day:02d}.{month:02d}.{year}", f"{day}/{month}/{year % 100:02d}", f"{year}-{month:02d}-{day:02d}",
        f"{name} {day}, {year}", f"{day} {name[:3]} {year}", f"{day}. {name} {year}",
        f"{draw.randint(0, 23):02d}:{draw.randint(0, 59):02d}, {day:02d}.{month:02d}.",
    ])  # fmt: skip


def code(subset: str, draw: random.Random) -> str:
    def some(kind: str, least: int, most: int) -> str:
        return "".join(draw.choices(kind, k=draw.randint(least, most)))

    capitals, digits = string.ascii_uppercase, string.digits
    return draw.choice([
        f"{some(capitals, 2, 4)}-{some(digits, 3, 6)}",
        f"{some(capitals + digits, 4, 6)}-{some(capitals + digits, 4, 6)}",
        f"#{some(digits, 4, 8)}", f"{some(capitals, 1, 2)}{some(digits, 2, 4)}/{some(digits, 1, 2)}",
        f"{some(string.ascii_lowercase, 3, 8)}@{some(string.ascii_lowercase, 3, 7)}.com",
        f"+{some(digits, 2, 2)} {some(digits, 3, 3)} {some(digits, 4, 7)}", f"No. {some(digits, 3, 7)}",
    ])  # fmt: skip


KINDS = [words, words, words, price, date, code]


def text_of(subset: str, draw: random.Random) -> str:
    """A line of a set."""
    return draw.choice(KINDS)(subset, draw)

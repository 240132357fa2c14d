"""Sentences of the default corpus: numbers, dates, times, addresses, spelled names.

A sentence is a pair (text, spoken): what the transcript says, and what the synthesiser is asked to say.
They differ only in spelled names, where capitals and commas make a letter's name of a letter, not the article of "A".
"""

from __future__ import annotations

import random
from collections.abc import Callable


def words(text: str) -> list[str]:
    return text.split()


ONES = words("ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE")
TEENS = words("TEN ELEVEN TWELVE THIRTEEN FOURTEEN FIFTEEN SIXTEEN SEVENTEEN EIGHTEEN NINETEEN")
TENS = words("TWENTY THIRTY FORTY FIFTY SIXTY SEVENTY EIGHTY NINETY")
ORDINALS = words(
    "FIRST SECOND THIRD FOURTH FIFTH SIXTH SEVENTH EIGHTH NINTH TENTH ELEVENTH TWELFTH THIRTEENTH FOURTEENTH "
    "FIFTEENTH SIXTEENTH SEVENTEENTH EIGHTEENTH NINETEENTH TWENTIETH"
)
DAYS = words("MONDAY TUESDAY WEDNESDAY THURSDAY FRIDAY SATURDAY SUNDAY")
MONTHS = words("JANUARY FEBRUARY MARCH APRIL MAY JUNE JULY AUGUST SEPTEMBER OCTOBER NOVEMBER DECEMBER")
THINGS = words("APPLES BOOKS TICKETS BOTTLES LETTERS COINS HORSES")
STREETS = words("OAK MAPLE CHURCH MARKET STATION VICTORIA GARDEN RIVER MILL PARK CASTLE HARBOUR WINDSOR QUEEN KING")
WAYS = words("STREET ROAD AVENUE LANE SQUARE")
TOWNS = words("OXFORD BOSTON DOVER KINGSTON GLASGOW DENVER YORK AUSTIN BRISTOL JACKSON")
EVENTS = words("MEETING CONCERT LESSON DINNER FLIGHT EXAM PARTY TRAIN")
FIRST_NAMES = words("ALICE BRIAN CHLOE DAVID EMMA FELIX GRACE JAMES KAREN LUCAS MARIA OLIVER PETER ROSE SIMON TESSA")
SURNAMES = words(
    "BAXTER CONWAY DIXON FISHER GRAVES HUDSON JOYCE KELLY LOPEZ MURPHY NEWTON OWENS PARKER QUINN RIVERA SHAW TURNER "
    "UPTON VAUGHN WALKER YOUNG ZIMMER"
)


def below_hundred(n: int) -> str:
    if n < 10:
        return ONES[n]
    if n < 20:
        return TEENS[n - 10]
    return TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")


def number(n: int) -> str:
    """0 to 9999 in words.

    >>> number(4017)
    'FOUR THOUSAND AND SEVENTEEN'
    """
    if n < 100:
        return below_hundred(n)
    if n < 1000:
        rest = f" AND {below_hundred(n % 100)}" if n % 100 else ""
        return f"{ONES[n // 100]} HUNDRED{rest}"
    below = n % 1000
    tail = f"{' AND' if below < 100 else ''} {number(below)}" if below else ""
    return f"{ONES[n // 1000]} THOUSAND{tail}"


def ordinal(n: int) -> str:
    """1 to 31 as in a date."""
    if n <= 20:
        return ORDINALS[n - 1]
    return "THIRTIETH" if n == 30 else f"{TENS[n // 10 - 2]} {ORDINALS[n % 10 - 1]}"


def count(draw: random.Random) -> str:
    thing = draw.choice(THINGS)
    n = number(draw.choice([draw.randrange(2, 100), draw.randrange(100, 1000), draw.randrange(1000, 10000)]))
    return draw.choice([f"THERE ARE {n} {thing}", f"I BOUGHT {n} {thing}", f"{n} {thing} PLEASE"])


def date(draw: random.Random) -> str:
    day = f"{draw.choice(DAYS)} THE {ordinal(draw.randrange(1, 32))} OF {draw.choice(MONTHS)}"
    year = f"{draw.choice(['NINETEEN', 'TWENTY'])} {below_hundred(draw.randrange(10, 100))}"
    return draw.choice([f"IT IS {day}", f"THE {draw.choice(EVENTS)} IS ON {day}", f"{day} {year}"])


def time(draw: random.Random) -> str:
    hour = below_hundred(draw.randrange(1, 13))
    clock = draw.choice(
        [
            f"{hour} O'CLOCK",
            f"HALF PAST {hour}",
            f"A QUARTER {draw.choice(['TO', 'PAST'])} {hour}",
            f"{below_hundred(draw.randrange(2, 30))} MINUTES {draw.choice(['TO', 'PAST'])} {hour}",
        ]
    )
    when = draw.choice(["TOMORROW", "TONIGHT", "IN THE MORNING", "IN THE EVENING", f"ON {draw.choice(DAYS)}"])
    event = draw.choice(EVENTS)
    return draw.choice([f"THE {event} STARTS AT {clock}", f"WAKE ME AT {clock} {when}", f"{clock} {when}"])


def address(draw: random.Random) -> str:
    place = f"{number(draw.randrange(1, 400))} {draw.choice(STREETS)} {draw.choice(WAYS)}"
    town = draw.choice(TOWNS)
    return draw.choice([f"I LIVE AT {place}", f"SEND IT TO {place} {town}", f"{place} {town}"])


def spelled(draw: random.Random) -> tuple[str, str]:
    first, name = draw.choice(FIRST_NAMES), draw.choice(SURNAMES)
    start = draw.choice(["MY NAME IS", "PLEASE CALL", "THIS IS"])
    text = f"{start} {first} {name} {' '.join(name)}"
    return text, f"{start.lower()} {first.capitalize()} {name.capitalize()}, {', '.join(name)}"


KINDS: list[Callable[[random.Random], str]] = [count, date, time, address]


def sentence(draw: random.Random) -> tuple[str, str]:
    """One sentence of a kind drawn evenly from the five."""
    kind = draw.randrange(len(KINDS) + 1)
    if kind == len(KINDS):
        return spelled(draw)
    text = KINDS[kind](draw)
    return text, text.lower()

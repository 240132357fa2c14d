"""The n-grams of an ARPA file, from its bytes: numbers, words by their numbers in the vocabulary."""

from typing import Any, NamedTuple

import numpy as np

from numbactc.kernels.borrow import borrow
from numbactc.kernels.cpu.hashing import find
from numbactc.kernels.jit import entry, inlined, kernel

FINE, BAD_NUMBER, POSITIVE, TOO_FEW_FIELDS, TOO_MANY_FIELDS, STRANGE_WORD, REPEATED_WORD, TOO_MANY_LINES = range(8)

FAULTS = (
    "",
    "a log-probability or back-off must be a number",
    "a log-probability must be at most 0",
    "an n-gram must have as many words as its order",
    "an n-gram must have as many words as its order, and one number after them",
    "every word must be among the unigrams",
    "a word must be there once",
    "there must be as many n-grams as the header says",
)
"""What may be wrong with a line."""

NEWLINE, TAB, RETURN, SPACE, BACKSLASH = (np.uint8(ord(character)) for character in "\n\t\r \\")
MINUS, PLUS, POINT, ZERO, NINE, SMALL_E, CAPITAL_E = (np.uint8(ord(character)) for character in "-+.09eE")

POWERS_OF_TEN = 10.0 ** np.arange(23)
"""Those that float64 holds exactly."""

HASHES = 2**63 - 1

MOST_DIGITS = 18
"""Of a number, as an int64 can hold."""


class Vocabulary(NamedTuple):
    """Words by their bytes: a hash table, and where in the text each word stands."""

    keys: np.ndarray
    numbers: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


@entry
def read_section(text, position, order, vocabulary, words, log_probs, backoffs):
    """Read lines up to the next that begins with a backslash: its own section's header has been read already.

    Args:
        text: uint8, with a backslash at the beginning of a line somewhere ahead.
        position: where to begin.
        order: of the n-grams. Unigrams are entered into the vocabulary, the words of others are looked up there.
        words: (count, order) int32, log_probs, backoffs: (count,) float64, base 10; to be written.

    Returns:
        What is wrong with the line at the returned position, or FINE; that position; how many n-grams were read.
    """
    text, words = borrow(text), borrow(words)
    log_probs, backoffs = borrow(log_probs), borrow(backoffs)
    vocabulary = Vocabulary(
        borrow(vocabulary.keys), borrow(vocabulary.numbers), borrow(vocabulary.begins), borrow(vocabulary.ends)
    )
    row = 0
    while True:
        while position < text.size and (text[position] == NEWLINE or is_blank(text[position])):
            position += 1
        if position == text.size or text[position] == BACKSLASH:
            return FINE, position, row
        if row == words.shape[0]:
            return TOO_MANY_LINES, position, row
        end = position
        while end < text.size and text[end] != NEWLINE:
            end += 1
        fault = read_line(text, position, end, order, vocabulary, row, words, log_probs, backoffs)
        if fault != FINE:
            return fault, position, row
        position = end
        row += 1


@kernel
def read_line(text, begin, end, order, vocabulary, row, words, log_probs, backoffs):
    """A number, as many words as the order says, perhaps a number; blanks between them."""
    field_end = end_of_field(text, begin, end)
    value, is_number = number(text, begin, field_end)
    if not is_number:
        return BAD_NUMBER
    if value > 0.0:
        return POSITIVE
    log_probs[row] = value
    for i in range(order):
        begin = next_field(text, field_end, end)
        if begin == end:
            return TOO_FEW_FIELDS
        field_end = end_of_field(text, begin, end)
        key, slot, word = look_up(text, vocabulary, begin, field_end)
        if order == 1:
            if word >= 0:
                return REPEATED_WORD
            word = row
            vocabulary.keys[slot], vocabulary.numbers[slot] = key, word
            vocabulary.begins[word], vocabulary.ends[word] = begin, field_end
        elif word < 0:
            return STRANGE_WORD
        words[row, i] = word
    begin = next_field(text, field_end, end)
    backoffs[row] = 0.0
    if begin < end:
        field_end = end_of_field(text, begin, end)
        if next_field(text, field_end, end) < end:
            return TOO_MANY_FIELDS
        backoffs[row], is_number = number(text, begin, field_end)
        if not is_number:
            return BAD_NUMBER
    return FINE


@inlined
def look_up(text, vocabulary, begin, end):
    """The key and the slot of a word, and its number, or -1 and a free slot if it has none yet."""
    key = hash_of(text, begin, end)
    while True:
        slot = find(vocabulary.keys, key)
        if slot < 0:
            return key, ~slot, np.int64(-1)
        word = np.int64(vocabulary.numbers[slot])
        if equal(text, begin, end, vocabulary.begins[word], vocabulary.ends[word]):
            return key, slot, word
        key = (key + 1) & HASHES  # another word has this hash


@inlined
def hash_of(text, begin, end):
    """FNV-1a, as a number that is not negative."""
    bits = np.uint64(0xCBF29CE484222325)
    for i in range(begin, end):
        bits = (bits ^ np.uint64(text[i])) * np.uint64(0x100000001B3)
    return np.int64(bits & np.uint64(HASHES))


@inlined
def equal(text, begin, end, other_begin, other_end):
    if end - begin != other_end - other_begin:
        return False
    i = 0
    while i < end - begin and text[begin + i] == text[other_begin + i]:
        i += 1
    return i == end - begin


@inlined
def is_blank(byte):
    return byte in (SPACE, TAB, RETURN)


@inlined
def next_field(text, begin, end):
    while begin < end and is_blank(text[begin]):
        begin += 1
    return begin


@inlined
def end_of_field(text, begin, end):
    while begin < end and not is_blank(text[begin]):
        begin += 1
    return begin


@kernel
def number(text, begin, end):
    """The number that a field spells, and whether it spells one; of infinities -inf alone.

    Up to 15 digits it is the float64 nearest to what is written; beyond, the last bit may be off.
    """
    negative = begin < end and text[begin] == MINUS
    begin += begin < end and (negative or text[begin] == PLUS)
    if negative and end - begin == 3 and text[begin] | 32 == 105 and text[begin + 1] | 32 == 110:
        return -np.inf, text[begin + 2] | 32 == 102  # i, n, f
    digits: Any = np.int64(0)
    exponent: Any = np.int64(0)
    kept, seen, point = 0, False, False
    while begin < end:
        byte = text[begin]
        if ZERO <= byte <= NINE:
            seen = True
            if kept < MOST_DIGITS:
                digits = digits * 10 + np.int64(byte - ZERO)
                kept += digits > 0
                exponent -= point
            else:
                exponent += not point
        elif byte == POINT and not point:
            point = True
        else:
            break
        begin += 1
    if begin < end and seen and (text[begin] == SMALL_E or text[begin] == CAPITAL_E):
        power, begin = integer(text, begin + 1, end)
        exponent += power
    value = scaled(np.float64(digits), exponent)
    return -value if negative else value, seen and begin == end


@inlined
def integer(text, begin, end):
    """An exponent and the position after it; before the end if there is none."""
    negative = begin < end and text[begin] == MINUS
    begin += begin < end and (negative or text[begin] == PLUS)
    if begin == end:
        return np.int64(0), np.int64(-1)
    value: Any = np.int64(0)
    while begin < end and ZERO <= text[begin] <= NINE:
        value = min(value * 10 + np.int64(text[begin] - ZERO), 10_000)
        begin += 1
    return -value if negative else value, np.int64(begin)


@inlined
def scaled(digits, exponent):
    """digits * 10**exponent."""
    if -22 <= exponent <= 22:
        return digits / POWERS_OF_TEN[-exponent] if exponent < 0 else digits * POWERS_OF_TEN[exponent]
    return digits * 10.0**exponent if digits > 0.0 else 0.0

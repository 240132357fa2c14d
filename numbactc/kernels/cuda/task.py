"""What a sweep works on: the memory of one utterance, of 16 frames, of a block, and the registers of a thread."""

from typing import Any, NamedTuple

from numbactc.kernels.cuda.plan import HALO, MOST_LATTICE_WARPS

EXCHANGE = 2 * MOST_LATTICE_WARPS * HALO * 2
"""States that warps share: two turns, each with the halo's labels and blanks."""

PARTS = 2 * MOST_LATTICE_WARPS
"""Integers that they share: two turns."""


class Task(NamedTuple):
    """What one direction of one utterance works on. Pointers are to what belongs to the utterance."""

    frames: Any
    count: Any  # L
    width: Any
    labels: Any  # (L,)
    emissions: Any  # (T, columns) scaled numbers
    columns: Any
    blank_column: Any
    first_label_column: Any  # of label 0; -1 if there is a column for each class
    no_label_column: Any
    keep: Any  # whether the other direction will want to know
    states: Any  # (copies, 2, width + 4, 2) scaled numbers, labels and blanks: of the middle, and for tiles two in turn
    mantissas: Any  # (T, width): what this direction leaves for the other, or finds, and replaces by posteriors
    exponents: Any
    blanks: Any  # (chunks, width + 4) scaled numbers: the same for blanks, at one frame of each chunk
    m: Any  # the target's probability
    e: Any


class Chunk(NamedTuple):
    """Where the rows of 16 frames begin: what is 64 bits wide is done here, once, and not frame by frame."""

    first: Any  # its first frame in time
    emissions: Any
    mantissas: Any
    exponents: Any
    blanks: Any


class Shared(NamedTuple):
    """What the warps of a block exchange."""

    mantissas: Any  # (EXCHANGE,)
    exponents: Any
    parts: Any  # (PARTS,)


class Lane(NamedTuple):
    """Registers of one thread: local arrays."""

    b: Any  # (K,) states of blanks and labels
    eb: Any
    l: Any
    el: Any
    slot: Any  # (K,) column of each label's emission
    skip: Any  # (K,) 1 if a label may be entered from the one before
    pm: Any  # (D, K) a ring of frames: emissions of labels, ...
    pe: Any
    qm: Any  # (D,) ... of the blank, ...
    qe: Any
    om: Any  # (D, K) ... and what the other direction left
    oe: Any
    obm: Any  # (K,) what it left for blanks
    obe: Any

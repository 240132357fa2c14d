"""A hash table does what a dict does, and spreads keys that lie close together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbactc.kernels.cpu import hashing
from numbactc.kernels.jit import entry


@entry
def insert_all(table, keys, slots):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        slots[i] = hashing.insert(table, keys[i])


@entry
def find_all(table, keys, slots):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        slots[i] = hashing.find(table, keys[i])


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**63 - 1), max_size=60), st.lists(st.integers(0, 2**63 - 1), max_size=20))
def test_a_table_is_a_dict(keys: list[int], others: list[int]) -> None:
    table = np.full(hashing.capacity(len(keys)), hashing.EMPTY, np.int64)
    slots = np.empty(len(keys), np.int64)
    insert_all(table, np.array(keys, np.int64), slots)
    assert (table[slots] == np.array(keys, np.int64)).all()
    assert (table != hashing.EMPTY).sum() == len(set(keys)), "a key that comes twice has one slot"
    found = np.empty(len(keys), np.int64)
    find_all(table, np.array(keys, np.int64), found)
    assert (found == slots).all()
    strangers = np.array([key for key in others if key not in keys], np.int64)
    missing = np.empty(strangers.size, np.int64)
    find_all(table, strangers, missing)
    assert (missing < 0).all() and (table[~missing] == hashing.EMPTY).all()


@pytest.mark.parametrize("entries", [0, 1, 2, 3, 4, 5, 1000, 1024, 1025])
def test_a_table_is_a_power_of_two_and_half_empty(entries: int) -> None:
    size = hashing.capacity(entries)
    assert size & (size - 1) == 0 and 2 * entries <= size <= max(2, 4 * entries)


def test_neighbouring_keys_are_scattered() -> None:
    """Keys in arithmetic progression, as those of states times vocabulary, must not pile up in one place."""
    for step in (1, 29, 1 << 10, 1 << 32, 200_003):
        keys = np.arange(1000, dtype=np.int64) * step
        table = np.full(2048, hashing.EMPTY, np.int64)
        insert_all(table, keys, np.empty(1000, np.int64))
        runs = np.diff(np.flatnonzero(np.concatenate([[True], table == hashing.EMPTY, [True]]))) - 1
        assert runs.max() < 60, f"step {step}"

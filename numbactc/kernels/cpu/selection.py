"""The largest of some numbers, and their order."""

import numpy as np

from numbactc.kernels.jit import linked


@linked
def kth_largest(values, count, k):
    """The k-th largest of the first `count` values, k from 1; they are reordered: none of the first k is smaller.

    Hoare's selection, with the middle one of three for a pivot. NaN is not among the values.
    """
    low, high, k = 0, count - 1, k - 1
    while low < high:
        first, middle, last = values[low], values[(low + high) >> 1], values[high]
        pivot = max(min(first, middle), min(max(first, middle), last))
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@linked
def sort_descending(values, companions, count):
    """Sort the first `count` values, the largest first, and move their companions along, in Shell's way."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, count):
            value, companion = values[i], companions[i]
            place = i
            while place >= gap and values[place - gap] < value:
                values[place] = values[place - gap]
                companions[place] = companions[place - gap]
                place -= gap
            values[place] = value
            companions[place] = companion
        gap //= 3


@linked
def make_heap(values, count):
    """Order the first `count` values so that none is larger than its two children, 2 i + 1 and 2 i + 2: Floyd's way."""
    for i in range(count // 2 - 1, -1, -1):
        sink(values, i, count)


@linked
def sink(values, i, count):
    """Restore the order of a heap in which the value at i may be too large for its place."""
    value = values[i]
    while True:
        child = 2 * i + 1
        if child >= count:
            break
        if child + 1 < count and values[child + 1] < values[child]:
            child += 1
        if values[child] >= value:
            break
        values[i] = values[child]
        i = child
    values[i] = value


@linked
def push(values, count, width, value):
    """Keep the `width` largest in a heap: one more value; returns how many there are now."""
    if count == width:
        if value > values[0]:
            values[0] = value
            sink(values, np.int64(0), count)
        return count
    i = count
    while i > 0 and values[(i - 1) >> 1] > value:
        values[i] = values[(i - 1) >> 1]
        i = (i - 1) >> 1
    values[i] = value
    return count + 1

"""The largest of some numbers, and their order."""

from numbactc.kernels.jit import kernel


@kernel
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


@kernel
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

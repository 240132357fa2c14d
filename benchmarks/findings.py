"""What the rows say, in sentences: ranges of ratios, and every row in which numbactc is not the best.

Nothing here knows a result: a sentence without rows is not there, and one about a machine where numbactc loses says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks.report import OURS, SPEED_TABLES, Document, by_peer, label, many, number, sizes, unique
from benchmarks.rows import OK, Row

Value = Callable[[Row], float | None]


class Loss(NamedTuple):
    """A row in which another peer has the better number, or ours has none."""

    what: str
    ours: str
    best: str
    peer: str


def joined(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def ranged_over(values: list[float]) -> str:
    """`2.1 to 3.4`, or one number."""
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def milliseconds(row: Row) -> float | None:
    """Median of a row's time."""
    return row["time_ms"]["median"] if row.get("time_ms") else None


def ratios(rows: list[Row], peer: str) -> list[float]:
    """A peer's time over ours, one a row that both have."""
    found = []
    for shape, threads, what in unique(rows, "shape", "threads", "what"):
        same = by_peer(rows, shape=shape, threads=threads, what=what)
        ours, other = (milliseconds(same[name]) if name in same else None for name in (OURS, peer))
        if ours and other:
            found.append(other / ours)
    return found


def speed_sentence(rows: list[Row], what: str, threads: int) -> str:
    """How each peer's time compares with ours, over all shapes; empty without rows."""
    rows = [row for row in rows if row["what"] == what and row["threads"] == threads]
    peers = [peer for (peer,) in unique(rows, "peer") if peer != OURS]
    words = [f"{label(peer)} took {ranged_over(found)}" for peer in peers if (found := ratios(rows, peer))]
    if not words:
        return ""
    return f"With {many(threads, 'thread')}, {joined(words)} times as long as numbactc."


def error_sentence(rows: list[Row]) -> str:
    """The largest gradient error of each peer over all cases; empty without rows."""
    words = []
    for (peer,) in unique(rows, "peer"):
        found = [row["gradient_error"] for row in rows if row["peer"] == peer and row["status"] == OK]
        if found:
            words.append(f"{label(peer)} {max(found):.1e}")
    return f"The largest error of a gradient in any case below: {joined(words)}." if words else ""


def longest_sentence(rows: list[Row]) -> str:
    """The gradient error of each peer at the longest problem; empty without rows."""
    frames = max((row["T"] for row in rows), default=0)
    found = [row for row in rows if row["T"] == frames and row["status"] == OK]
    if not found:
        return ""
    words = joined(f"{label(row['peer'])} {row['gradient_error']:.1e}" for row in found)
    return f"The largest error of a gradient at {found[0]['case']}: {words}."


def memory_sentence(rows: list[Row]) -> str:
    """The peak of each peer at the last shape; empty without rows."""
    found = [row for row in rows if row["shape"] == rows[-1]["shape"] and row["status"] == OK]
    if not found:
        return ""
    words = joined(f"{label(row['peer'])} {100 * row['extra_over_logits']:.0f} %" for row in found)
    return f"Peak memory beyond logits and gradient at {sizes(found[0])}, as a part of the logits' size: {words}."


def determinism_sentence(rows: list[Row]) -> str:
    """Who had the same bits always, and who had not; empty without rows."""
    words = []
    fields = {
        "alone": "on company", "order": "on the order in the batch", "padding": "on padding",
        "threads_differ": "on the number of threads",
    }  # fmt: skip
    measured = [row for row in rows if row["status"] == OK]
    steady = []
    for (peer,) in unique(measured, "peer"):
        own = [row for row in measured if row["peer"] == peer]
        faults = [f"depended {told}" for field, told in fields.items() if any(row[field] for row in own)]
        if any(row["results"] > 1 for row in own):
            faults.insert(0, f"had up to {max(row['results'] for row in own)} results for one call")
        if faults:
            words.append(f"{label(peer)} {joined(faults)}.")
        else:
            steady.append(label(peer))
    if steady:
        words.insert(0, f"The same bits in every run, alone, in any order, padded, with any threads: {joined(steady)}.")
    return " ".join(words)


def startup_sentence(rows: list[Row]) -> str:
    """What the first call costs; empty without rows."""
    found = {row["cache"]: row["first_call_ms"] for row in rows if row["status"] == OK}
    if set(found) != {"cold", "warm"}:
        return ""
    cold, warm = (number(found[cache] / 1e3) for cache in ("cold", "warm"))
    return f"The first call on a machine compiles: {cold} s. The first of a later process took {warm} s."


def after_others_sentence(rows: list[Row]) -> str:
    """How much longer a call takes that finds the caches full; empty without rows."""
    own = [row for row in rows if row["peer"] == OURS and row["threads"] == 1]
    found = []
    for (shape,) in unique(own, "shape"):
        loop, alone = ([milliseconds(row) for row in own if (row["shape"], row["what"]) == (shape, what)]
                       for what in ("forward_backward", "forward_backward_after_others"))  # fmt: skip
        if loop and alone and loop[0] and alone[0]:
            found.append(alone[0] / loop[0])
    if not found:
        return ""
    return f"Straight after another peer's, with the caches full, a call took {ranged_over(found)} times as long."


def scaling_sentence(rows: list[Row]) -> str:
    """What more threads gain; empty with one number of threads."""
    most, words = max((row["threads"] for row in rows), default=1), []
    for (peer,) in unique(rows, "peer"):
        found = []
        for (shape,) in unique(rows, "shape"):
            one, all_of_them = (
                by_peer(rows, shape=shape, what="forward_backward", threads=threads).get(peer) for threads in (1, most)
            )
            if one and all_of_them and (slow := milliseconds(one)) and (fast := milliseconds(all_of_them)):
                found.append(slow / fast)
        if found:
            words.append(f"{label(peer)} {ranged_over(found)}")
    return f"{many(most, 'thread').capitalize()} made {joined(words)} times as fast." if most > 1 and words else ""


def lost_to(rows: list[Row], keys: tuple[str, ...], value: Value, name: Callable[[Row], str], unit: str) -> list[Loss]:
    """The groups of rows, alike in `keys`, in which the smallest value is not ours."""
    losses = []
    for group in unique(rows, *keys):
        same = by_peer(rows, **dict(zip(keys, group, strict=True)))
        found = {peer: each for peer, row in same.items() if (each := value(row)) is not None}
        ours = found.pop(OURS, None)
        if OURS in same and found and (ours is None or min(found.values()) < ours):
            best = min(found, key=lambda peer: found[peer])
            told = str(same[OURS]["status"]) if ours is None else f"{number(ours)} {unit}"
            losses.append(Loss(name(same[OURS]), told, f"{number(found[best])} {unit}", label(best)))
    return losses


def not_first(document: Document) -> list[Loss]:
    """Every row in which numbactc is not the best."""
    timed = ("shape", "threads", "what")

    def speed_name(row: Row) -> str:
        return f"time, {SPEED_TABLES[row['what']]}, {sizes(row)}, {many(row['threads'], 'thread')}"

    losses = []
    for part in ("speed", "sweeps", "overhead"):
        losses += lost_to(document.get(part, []), timed, milliseconds, speed_name, "ms")
    for field, words, unit in (("gradient_error", "gradient", "e-9"), ("loss_error", "loss", "e-9")):
        losses += lost_to(
            document.get("accuracy", []), ("case",),
            lambda row: None if row[field] is None else 1e9 * row[field],  # noqa: B023 - called at once
            lambda row: f"error of the {words}, {row['case']}", unit,  # noqa: B023
        )  # fmt: skip
    losses += lost_to(
        document.get("memory", []), ("shape",),
        lambda row: None if row["extra_bytes"] is None else row["extra_bytes"] / 2**20,
        lambda row: f"memory, {row['shape']}", "MiB",
    )  # fmt: skip
    for field in ("results", "alone", "order", "padding", "threads_differ"):
        losses += lost_to(
            document.get("determinism", []), ("shape", "threads"), lambda row: row[field],  # noqa: B023
            lambda row: f"bits, {field}, {row['shape']}, {many(row['threads'], 'thread')}", "different",  # noqa: B023
        )  # fmt: skip
    return losses

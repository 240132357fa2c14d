"""What `planted_breaks.py` plants in the benchmarks and their page."""

from breaks import Break

DETERMINISM, CHILDREN, RUN, FINDINGS, PAGE, CURVES, REPORT, SHAPES = (
    f"benchmarks/{name}.py"
    for name in ("determinism", "children", "run", "findings", "page", "curves", "report", "shapes")
)

BENCHMARK_BREAKS = [
    Break(
        "benchmarks: bits of one utterance stand for all",
        DETERMINISM,
        "for n, length in enumerate(lengths):",
        "for n, length in enumerate(lengths[:1]):",
        "test_benchmarks_parts.py -k bits",
    ),
    Break(
        "benchmarks: gradients behind an utterance's end count as its bits",
        DETERMINISM,
        "gradient[:length, n]",
        "gradient[:, n]",
        "test_benchmarks_parts.py -k depend_on_something",
    ),
    Break(
        "benchmarks: only losses are compared",
        DETERMINISM,
        " + np.ascontiguousarray(gradient[:length, n]).tobytes()",
        "",
        "test_benchmarks_parts.py -k depend_on_something",
    ),
    Break(
        "benchmarks: runs are counted, not their results",
        DETERMINISM,
        "return [len(found), len(set(found))]",
        "return [len(found), len(found)]",
        "test_benchmarks_parts.py -k numbactc_has_one_result",
    ),
    Break(
        "benchmarks: a batch in reverse is compared with itself",
        DETERMINISM,
        "range(shape.N)[::-1]",
        "range(shape.N)",
        "test_benchmarks_parts.py -k depend_on_something",
    ),
    Break(
        "benchmarks: nothing is padded",
        DETERMINISM,
        "np.concatenate([problem.logits, more])",
        "problem.logits",
        "test_benchmarks_parts.py -k depend_on_something",
    ),
    Break(
        "benchmarks: what a dead process had sent is lost",
        CHILDREN,
        "for line in whole.splitlines()",
        "for line in whole.splitlines() if not lost",
        "test_benchmarks_parts.py -k that_dies",
    ),
    Break(
        "benchmarks: rows that a dead process owes are left out",
        RUN,
        "if shape.name not in there",
        "if shape.name in there",
        "test_benchmarks_parts.py -k dead_process_owes",
    ),
    Break(
        "benchmarks: a run is written at its end only",
        RUN,
        '        options.out.write_text(json.dumps(document, indent=1) + "\\n")\n    print',
        '    options.out.write_text(json.dumps(document, indent=1) + "\\n")\n    print',
        "test_benchmarks_parts.py -k stopped",
    ),
    Break(
        "benchmarks: a sweep that misses the base",
        SHAPES,
        '"N": (1, 2, 4, 8, 16, 32, 64)',
        '"N": (1, 2, 4, 16, 32, 64)',
        "test_benchmarks_parts.py -k passes_the_base",
    ),
    Break(
        "page: rows in which numbactc is behind are not told",
        FINDINGS,
        "(ours is None or min(found.values()) < ours)",
        "False",
        "test_benchmarks_page.py -k another_machine",
    ),
    Break(
        "page: a row of ours without a number is not told",
        FINDINGS,
        "(ours is None or min(found.values()) < ours)",
        "(ours is not None and min(found.values()) < ours)",
        "test_benchmarks_page.py -k another_machine",
    ),
    Break(
        "page: every peer has the same bits",
        FINDINGS,
        'if any(row["results"] > 1 for row in own)',
        "if False",
        "test_benchmarks_page.py -k sentences",
    ),
    Break(
        "page: peers without numbers are left out",
        PAGE,
        'for (peer,) in unique(rows, "peer"):',
        'for (peer,) in unique([row for row in rows if row["status"] == OK], "peer"):',
        "test_benchmarks_page.py -k every_peer",
    ),
    Break(
        "page: a part of another run passes for this one's",
        REPORT,
        'for key in ("date", "commit", "command")',
        "for key in ()",
        "test_benchmarks_page.py -k another_run",
    ),
    Break(
        "page: a lost row is an empty cell",
        REPORT,
        'return text(row) if row["status"] == OK else str(row["status"]).split(":")[0]',
        'return text(row) if row["status"] == OK else NONE',
        "test_benchmarks_page.py -k lost_rows",
    ),
    Break(
        "curves: a point is lost",
        CURVES,
        "return sorted((float(x), y) for x, y in found if y)",
        "return sorted((float(x), y) for x, y in found if y)[1:]",
        "test_benchmarks_page.py -k every_point",
    ),
    Break(
        "curves: names lie on each other",
        CURVES,
        "apart(list(ends.values()), GAP)",
        "list(ends.values())",
        "test_benchmarks_page.py -k every_point",
    ),
]

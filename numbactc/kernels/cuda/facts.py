"""Columns of the facts that `prepare` finds out about an utterance, and what its status and outcome can be."""

STATUS, FRAMES, LABELS, WIDTH, MIDDLE = range(5)
"""Columns: how it stands; its length and its target's, 0 where bad; places of its target; first frame of beta."""

COLUMNS = 8

GOOD, INFEASIBLE, BAD, NOT_A_NUMBER = range(4)
"""A finite loss; no path; arguments out of range; a score that is NaN or +inf, which only an outcome can be."""
